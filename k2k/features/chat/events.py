"""What happens in conversations."""

from typing import ClassVar

from pydantic import BaseModel

from k2k.core.ids import ConversationId, MessageId, UserId
from k2k.infra.streams import Event


class MessageText(BaseModel):
    """The text of a message as of now; null where it is gone."""

    message: str | None


class MessageNew(Event):
    """Somebody, maybe oneself on another device, has written in a conversation."""

    type: ClassVar[str] = "message.new"
    to = ("user",)
    joined = MessageText
    conversation_id: ConversationId
    message_id: MessageId
    seq: int
    sender_id: UserId
    client_id: str
