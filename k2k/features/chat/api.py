"""Chat: conversations, their messages, and sending."""

from __future__ import annotations

from collections.abc import Sequence

from k2k.core.errors import IdempotencyMismatch
from k2k.features.chat import service
from k2k.features.chat.errors import ConversationNotFound
from k2k.features.chat.models import (
    Conversation,
    ConversationPath,
    ConversationsQuery,
    Message,
    MessagesQuery,
    Participant,
    Send,
    SendWish,
    SentMessage,
    Typing,
)
from k2k.infra.transaction import Reader
from k2k.live.presence import Presence as LivePresence
from k2k.ops.call import Call
from k2k.ops.channels import Asked, Presence
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Routes

routes = Routes("chat")


@routes.get("/chat/conversations", may=Permission.chat, rpc="chat.conversations")
async def list_conversations(call: Call, query: ConversationsQuery) -> Json[list[Conversation]]:
    """My conversations, the one that last moved first."""
    return await service.list_conversations(call.db, call.user.id, query.limit)


@routes.get("/chat/messages", may=Permission.chat, rpc="chat.messages", raises=(ConversationNotFound,))
async def list_messages(call: Call, query: MessagesQuery) -> Json[list[Message]]:
    """What was said in a conversation after a seq, oldest first."""
    return await service.list_messages(call.db, query.conversation_id, call.user.id, query.after_seq, query.limit)


@routes.post(
    "/chat/messages",
    may=Permission.chat,
    rpc="chat.send",
    status=201,
    raises=(ConversationNotFound, IdempotencyMismatch),
)
async def send_message(call: Call, body: SendWish) -> Json[SentMessage]:
    """Say something. The same client_id again answers the same message and says nothing twice."""
    send = Send(body.conversation_id, call.user.id, body.client_id, body.message)
    sent = await call.together(service.send_many, send)
    return sent.rendered()


@routes.get(
    "/chat/conversations/{conversation_id}/presence",
    may=Permission.chat,
    rpc="chat.presence",
    raises=(ConversationNotFound,),
)
async def conversation_presence(call: Call, path: ConversationPath) -> list[Participant]:
    """Whether the others of a conversation are online, on which kinds of devices, or when they were last seen."""
    return await service.who_is_there(call.db, call.use(LivePresence), path.conversation_id, call.user.id)


@routes.channel("conversation:{conversation_id}", may=Permission.chat, presence=Presence.people, says=Typing)
async def follow_conversation(db: Reader, asked: Sequence[Asked[ConversationPath]]) -> list[bool]:
    """Who of a conversation's participants is there and who is typing; messages come to one's personal channel."""
    return await service.take_part(db, [(one.user_id, one.path.conversation_id) for one in asked])
