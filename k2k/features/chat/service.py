"""Opening conversations, sending and reading messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from k2k.core.errors import DomainError, IdempotencyMismatch, Unavailable
from k2k.core.ids import AgencyId, ConversationId, LeadId, MessageId, UserId, user_channel
from k2k.features.chat import store
from k2k.features.chat.errors import ConversationNotFound
from k2k.features.chat.models import Conversation, Message, Participant, Send, SentMessage
from k2k.infra.transaction import Emitted, Reader, Tx
from k2k.live.presence import Presence
from k2k.ops.channels import StreamPosition
from k2k.ops.registry import Json


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored message, as PostgreSQL rendered it, and the events that told of it (none on a repeat)."""

    sender_id: UserId
    body: bytes
    emitted: Emitted

    @property
    def message(self) -> Message:
        return Message.model_validate_json(self.body)

    def rendered(self) -> Json[SentMessage]:
        """With its place in the sender's own stream. After COMMIT only."""
        place = self.emitted.position(user_channel(self.sender_id))
        position = to_json(StreamPosition.of(place) if place is not None else None)
        return Json(b'%b, "position": %b}' % (self.body.removesuffix(b"}"), position))

    def answer(self) -> SentMessage:
        """The same as a model."""
        return SentMessage.model_validate_json(self.rendered())


async def open_conversation(tx: Tx, lead: LeadId, agency: AgencyId | None) -> ConversationId:
    """The conversation of a lead, new or not."""
    return await store.open_conversation(tx, lead, agency)


async def send_many(tx: Tx, sends: Sequence[Send]) -> list[Sent | DomainError]:
    """Each message as stored. A repeated client_id answers the first result.

    Outcomes besides: ConversationNotFound for whoever takes no part, IdempotencyMismatch where the client_id was
    used for another text.
    """
    announced = await store.send_many(tx, sends)
    return [_outcome(send, one.row, one.emitted) for send, one in zip(sends, announced, strict=True)]


def _outcome(send: Send, row: store.SendRow, emitted: Emitted) -> Sent | DomainError:
    if row.same is None:
        return ConversationNotFound()
    if not row.same:
        return IdempotencyMismatch()
    return Sent(send.sender_id, row.body, emitted)


async def list_conversations(db: Reader, user: UserId, limit: int) -> Json[list[Conversation]]:
    """A person's conversations, the one that last moved first."""
    return await store.list_conversations(db, user, limit)


async def list_messages(
    db: Reader, conversation: ConversationId, user: UserId, after_seq: int, limit: int
) -> Json[list[Message]]:
    """What was said after `after_seq`, oldest first. Raises ConversationNotFound for whoever takes no part."""
    found = await store.list_messages(db, conversation, user, after_seq, limit)
    if found is None:
        raise ConversationNotFound
    return found


async def take_part(db: Reader, asked: Sequence[tuple[UserId | None, ConversationId]]) -> list[bool]:
    """For each whether the person takes part in the conversation."""
    return await store.take_part(db, asked)


async def who_is_there(db: Reader, presence: Presence, conversation: ConversationId, user: UserId) -> list[Participant]:
    """The other participants and whether they are online. Raises ConversationNotFound for whoever takes no part."""
    people = await store.participants(db, conversation)
    if user not in people:
        raise ConversationNotFound
    return [await _participant(presence, person) for person in people if person != user]


async def _participant(presence: Presence, person: UserId) -> Participant:
    try:
        seen = await presence.seen(person)
    except Unavailable:
        return Participant(user_id=person, online=None, devices=(), last_seen=None)
    return Participant(user_id=person, online=bool(seen.devices), devices=seen.devices, last_seen=seen.last_seen)


async def join_texts(db: Reader, told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Today's text for each `message.new` that is sent again; null where the message is gone."""
    ids = [MessageId(UUID(data["message_id"])) for data in told]
    texts = await store.texts_of(db, ids)
    return [{"message": texts.get(id_)} for id_ in ids]
