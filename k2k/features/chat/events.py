"""What happens in conversations."""

from typing import ClassVar

from k2k.core.ids import ConversationId, MessageId, UserId
from k2k.infra.streams import Event


class MessageNew(Event):
    """To each participant's own stream. `message`, the text, is joined whenever the event is sent."""

    type: ClassVar[str] = "message.new"
    conversation_id: ConversationId
    message_id: MessageId
    seq: int
    sender_id: UserId
    client_id: str
