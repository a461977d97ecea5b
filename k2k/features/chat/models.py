"""What goes in and out of chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from k2k.core.ids import ConversationId, LeadId, ListingId, MessageId, UserId
from k2k.ops.channels import StreamPosition
from k2k.ops.validation import Answer, ClientId, Input, Moment, Text


class SendWish(Input):
    conversation_id: ConversationId
    client_id: ClientId
    message: Text


class ConversationPath(Input):
    conversation_id: ConversationId


class Participant(Answer):
    """`online` is null while that is not known; unknown counts as present. `devices` are kinds, such as phone."""

    user_id: UserId
    online: bool | None
    devices: tuple[str, ...]
    last_seen: Moment | None


class Typing(Input):
    """Whether somebody is writing; it is believed for a few seconds only, so it is said again while it is true."""

    typing: bool


class ConversationsQuery(Input):
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class MessagesQuery(Input):
    conversation_id: ConversationId
    after_seq: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=100)] = 100


class Message(Answer):
    """`seq` numbers the conversation's messages without holes. `receiver_id` is null while nobody else takes part."""

    id: MessageId
    conversation_id: ConversationId
    seq: int
    sender_id: UserId
    receiver_id: UserId | None
    client_id: str
    message: str
    created_at: Moment


class SentMessage(Message):
    """`position` is where the message stands in the sender's own stream; null on a repeat."""

    position: StreamPosition | None


class Conversation(Answer):
    id: ConversationId
    lead_id: LeadId
    listing_id: ListingId
    listing_title: str
    buyer_id: UserId
    agent_id: UserId | None
    top_seq: int
    last_message: Message | None
    created_at: Moment
    updated_at: Moment


@dataclass(frozen=True, slots=True)
class Send:
    """A person's wish to say something."""

    conversation_id: ConversationId
    sender_id: UserId
    client_id: str
    message: str
