"""The Centrifuge client protocol v2 in its JSON form: text becomes a sealed command once, and results become bytes.

Facts of the protocol: a text frame holds one or more JSON objects separated by newlines, in both directions. `{}` from
the server is a ping, from the client a pong. A reply names the id of its command; a push has none. Every result
object stands there even when it is empty. Nothing here knows sockets, sessions or the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from k2k.core.errors import (
    Conflict,
    Denied,
    DomainError,
    Invalid,
    Limited,
    NotFound,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)
from k2k.ops.validation import MalformedJson, parse_json

PING = b"{}"


@dataclass(frozen=True, slots=True)
class Close:
    """A close code and its reason. SDKs come back after 3000–3499 and 4000–4499, and stay away after 3500 and 4500."""

    code: int
    reason: str


CLOSED = Close(3000, "connection closed")
SHUTDOWN = Close(3001, "shutdown")
SERVER_ERROR = Close(3004, "internal server error")
EXPIRED = Close(3005, "connection expired")
SLOW = Close(3008, "slow")
INSUFFICIENT_STATE = Close(3010, "insufficient state")
NO_PONG = Close(3012, "no pong")
INVALID_TOKEN = Close(3500, "invalid token")
BAD_REQUEST = Close(3501, "bad request")
# Centrifugo's own code for this, 3502, is final: a phone on a slow network would never come back.
NOT_CONNECTED = Close(4401, "no connect command in time")


class BadFrame(Exception):
    """What came is not the protocol; the socket is closed with BAD_REQUEST."""


class _Body(BaseModel):
    """A command's fields; newer ones that we do not know are left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Recover(_Body):
    """Where a client left a stream."""

    recover: bool = False
    epoch: str = ""
    offset: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Connect(_Body):
    token: str = ""
    name: Annotated[str, Field(max_length=64)] = ""
    version: Annotated[str, Field(max_length=64)] = ""
    subs: dict[str, Recover] = {}


class Rpc(_Body):
    method: str = ""
    data: Any = None


class Refresh(_Body):
    token: str = ""


class Subscribe(_Body):
    channel: str


class Publish(_Body):
    channel: str


class Unsubscribe(_Body):
    channel: str


class Unserved(_Body):
    """A command of the protocol that this server has nothing to answer to."""


class Send(_Body):
    """A message without an answer."""


class Pong(_Body):
    """The answer to our ping."""


Body = Connect | Rpc | Refresh | Subscribe | Publish | Unsubscribe | Unserved | Send | Pong

_KINDS: dict[str, type[_Body]] = {
    "connect": Connect,
    "rpc": Rpc,
    "refresh": Refresh,
    "subscribe": Subscribe,
    "publish": Publish,
    "unsubscribe": Unsubscribe,
    "presence": Unserved,
    "presence_stats": Unserved,
    "history": Unserved,
    "sub_refresh": Unserved,
    "ping": Unserved,
}


@dataclass(frozen=True, slots=True)
class Command:
    """One wish of a client. `id` is its own number for the reply; 0 where none is awaited."""

    id: int
    kind: str
    body: Body


def decode(frame: str) -> list[Command]:
    """The commands of one text frame, in order. Raises BadFrame."""
    return [_command(line) for line in frame.split("\n") if line]


def _command(line: str) -> Command:
    try:
        value = parse_json(line)
    except MalformedJson as error:
        raise BadFrame(error.detail) from None
    if not isinstance(value, dict):
        raise BadFrame("a command is an object")
    if not value:
        return Command(0, "pong", Pong())
    if "send" in value:
        return Command(0, "send", Send())
    kinds = [kind for kind in value if kind in _KINDS]
    id_ = value.get("id")
    if len(kinds) != 1 or not isinstance(id_, int) or isinstance(id_, bool) or not 0 < id_ < 2**32:
        raise BadFrame("a command has an id and one known name")
    (kind,) = kinds
    try:
        # Absent fields and null mean the same in the protocol.
        body = _KINDS[kind].model_validate({k: v for k, v in (value[kind] or {}).items() if v is not None})
    except (ValidationError, AttributeError):
        raise BadFrame(f"the fields of {kind} are not what they should be") from None
    return Command(id_, kind, body)  # type: ignore[arg-type]


def reply(command: Command, result: bytes = b"{}") -> bytes:
    """The answer to a command; `result` is JSON."""
    return b'{"id":%d,"%s":%s}' % (command.id, command.kind.encode(), result)


def error_reply(command: Command, code: int, message: str, *, temporary: bool = False) -> bytes:
    """A refusal. `temporary` has the SDK try again by itself."""
    error: dict[str, Any] = {"code": code, "message": message}
    if temporary:
        error["temporary"] = True
    return to_json({"id": command.id, "error": error})


def protocol_error(command: Command, error: DomainError) -> bytes:
    """The refusal of a protocol command (connect, refresh, …) in the protocol's own codes."""
    code, message, temporary = next(row for kind, row in _CODES.items() if isinstance(error, kind))
    return error_reply(command, code, message, temporary=temporary)


# The first kind that fits counts, so the narrower stand above the wider.
_CODES: dict[type[DomainError], tuple[int, str, bool]] = {
    TokenExpired: (109, "token expired", False),
    Unauthenticated: (101, "unauthorized", False),
    Denied: (103, "permission denied", False),
    NotFound: (102, "unknown channel", False),
    Invalid: (107, "bad request", False),
    Conflict: (108, "not available", False),
    Limited: (111, "too many requests", True),
    Unavailable: (100, "internal server error", True),
    DomainError: (100, "internal server error", True),
}


def publication(body: bytes, offset: int) -> bytes:
    """An event at its place, as it stands in a push and in a replay."""
    return b'{"data":%s,"offset":%d}' % (body, offset)


def push(channel: str, published: bytes) -> bytes:
    """A publication as it goes to a channel's subscribers."""
    return b'{"push":{"channel":%s,"pub":%s}}' % (to_json(channel), published)


def subscription(epoch: str, offset: int, published: Iterable[bytes], *, asked: bool, recovered: bool) -> bytes:
    """The state of a subscription in a connect or subscribe result. `asked`: the client wanted to resume."""
    members = b'"recoverable":true,"positioned":true,"epoch":%s,"offset":%d' % (to_json(epoch), offset)
    if asked:
        members += b',"was_recovering":true,"recovered":%s' % (b"true" if recovered else b"false")
        members += b',"publications":[%s]' % b",".join(published)
    return b"{%s}" % members


def joined(frames: Iterable[bytes]) -> bytes:
    """Several replies and pushes as one frame."""
    return b"\n".join(frames)
