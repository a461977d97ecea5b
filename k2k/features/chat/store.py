"""Rows of conversations and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from k2k.core.ids import AgencyId, ConversationId, LeadId, MessageId, UserId
from k2k.features.chat.models import Conversation, Message, Send
from k2k.infra.sql import Queries
from k2k.infra.transaction import Announced, Reader, Tx
from k2k.ops.registry import Json


@dataclass(frozen=True, slots=True)
class ConversationRow:
    id: ConversationId


@dataclass(frozen=True, slots=True)
class SendRow:
    position: int
    events: bytes
    body: bytes
    same: bool | None
    """Whether the stored text is the one just sent; None where nothing may be sent."""


@dataclass(frozen=True, slots=True)
class TextRow:
    id: MessageId
    message: str


@dataclass(frozen=True, slots=True)
class ParticipantRow:
    user_id: UserId
    conversation_id: ConversationId


@dataclass(frozen=True, slots=True)
class PersonRow:
    user_id: UserId


_queries = Queries("chat")
OPEN_CONVERSATION = _queries.rows("open_conversation", ConversationRow)
SEND_MANY = _queries.rows("send_many", SendRow)
LIST_CONVERSATIONS = _queries.json("list_conversations")
LIST_MESSAGES = _queries.json("list_messages")
TAKE_PART = _queries.rows("take_part", ParticipantRow)
PARTICIPANTS = _queries.rows("participants", PersonRow)
TEXTS_OF = _queries.rows("texts_of", TextRow)


async def open_conversation(tx: Tx, lead: LeadId, agency: AgencyId | None) -> ConversationId:
    (row,) = await tx.rows(OPEN_CONVERSATION, lead, agency)
    return row.id


async def send_many(tx: Tx, sends: Sequence[Send]) -> list[Announced[SendRow]]:
    """One row per send, in order."""
    return await tx.announce(
        SEND_MANY,
        [send.conversation_id for send in sends],
        [send.sender_id for send in sends],
        [send.client_id for send in sends],
        [send.message for send in sends],
    )


async def list_conversations(db: Reader, user: UserId, limit: int) -> Json[list[Conversation]]:
    (body,) = await db.rows(LIST_CONVERSATIONS, user, limit)
    return Json(body)


async def list_messages(
    db: Reader, conversation: ConversationId, user: UserId, after_seq: int, limit: int
) -> Json[list[Message]] | None:
    body = await db.find(LIST_MESSAGES, conversation, user, after_seq, limit)
    return Json(body) if body is not None else None


async def take_part(db: Reader, asked: Sequence[tuple[UserId | None, ConversationId]]) -> list[bool]:
    """For each whether the person takes part in the conversation."""
    rows = await db.rows(TAKE_PART, [user for user, _ in asked], [conversation for _, conversation in asked])
    found = {(row.user_id, row.conversation_id) for row in rows}
    return [one in found for one in asked]


async def participants(db: Reader, conversation: ConversationId) -> list[UserId]:
    """Who takes part; nobody if there is no such conversation."""
    return [row.user_id for row in await db.rows(PARTICIPANTS, conversation)]


async def texts_of(db: Reader, messages: Sequence[MessageId]) -> dict[MessageId, str]:
    return {row.id: row.message for row in await db.rows(TEXTS_OF, messages)}
