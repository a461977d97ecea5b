"""The vocabulary of the Centrifuge client protocol v2: what clients wish, what they are answered, what they are pushed.

Sealed types without any encoding: `codec` and `protobuf` turn frames into these and these into frames. Nothing here
knows sockets, sessions or the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

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
from k2k.core.ids import Channel


class BadFrame(Exception):
    """What came is not the protocol; the socket is closed with BAD_REQUEST."""


# Why a socket is closed


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
CONNECTION_LIMIT = Close(3504, "connection limit")
# Centrifugo's own code for this, 3502, is final: a phone on a slow network would never come back.
NOT_CONNECTED = Close(4401, "no connect command in time")
TOO_MANY_COMMANDS = Close(4429, "too many commands")


# Why a command is refused


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error reply. `temporary` has the SDK try again by itself."""

    code: int
    message: str
    temporary: bool = False


INTERNAL = Refusal(100, "internal server error", temporary=True)
UNAUTHORIZED = Refusal(101, "unauthorized")
UNKNOWN_CHANNEL = Refusal(102, "unknown channel")
PERMISSION_DENIED = Refusal(103, "permission denied")
METHOD_NOT_FOUND = Refusal(104, "method not found")
ALREADY_SUBSCRIBED = Refusal(105, "already subscribed")
LIMIT_EXCEEDED = Refusal(106, "limit exceeded")
BAD_COMMAND = Refusal(107, "bad request")
NOT_AVAILABLE = Refusal(108, "not available")
TOKEN_EXPIRED = Refusal(109, "token expired")
TOO_MANY_REQUESTS = Refusal(111, "too many requests", temporary=True)
UNRECOVERABLE = Refusal(112, "unrecoverable position")

# The first kind that fits counts, so the narrower stand above the wider.
_REFUSALS: dict[type[DomainError], Refusal] = {
    TokenExpired: TOKEN_EXPIRED,
    Unauthenticated: UNAUTHORIZED,
    Denied: PERMISSION_DENIED,
    NotFound: UNKNOWN_CHANNEL,
    Invalid: BAD_COMMAND,
    Conflict: NOT_AVAILABLE,
    Limited: TOO_MANY_REQUESTS,
    Unavailable: INTERNAL,
    DomainError: INTERNAL,
}


def refusal(error: DomainError) -> Refusal:
    """How a protocol command (connect, subscribe, …) tells of a domain error, in the protocol's own codes."""
    return next(refusal for kind, refusal in _REFUSALS.items() if isinstance(error, kind))


class Refused(Exception):
    """A command ends in this refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


# What clients wish


class _Body(BaseModel):
    """A command's fields; newer ones that we do not know are left out."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


Offset = Annotated[int, Field(ge=0, lt=2**63)]
REJECT_UNRECOVERED = 2
"""The bit of a subscribe's `flag` by which an app with getState wants error 112 instead of `recovered: false`."""


class Recover(_Body):
    """Where a client left a stream."""

    recover: bool = False
    epoch: str = ""
    offset: Offset = 0


class Connect(_Body):
    token: str = ""
    data: Any = None
    name: Annotated[str, Field(max_length=64)] = ""
    version: Annotated[str, Field(max_length=64)] = ""
    subs: dict[str, Recover] = {}


class Subscribe(Recover):
    channel: str
    data: Any = None
    join_leave: bool = False
    flag: int = 0


class Unsubscribe(_Body):
    channel: str


class Publish(_Body):
    channel: str
    data: Any = None


class Presence(_Body):
    channel: str


class PresenceStats(_Body):
    channel: str


class Since(_Body):
    epoch: str = ""
    offset: Offset = 0


class History(_Body):
    """`limit` 0 asks for the position only, -1 for everything."""

    channel: str
    limit: Annotated[int, Field(ge=-1)] = 0
    since: Since | None = None
    reverse: bool = False


class Rpc(_Body):
    method: str = ""
    data: Any = None


class Refresh(_Body):
    token: str = ""


class SubRefresh(_Body):
    channel: str = ""  # early Python SDKs leave it out


class Ping(_Body):
    """A ping of the client's own; the protocol has it and no SDK sends it."""


class Send(_Body):
    """A message without an answer."""

    data: Any = None


class Pong(_Body):
    """The answer to our ping."""


Body = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | Presence
    | PresenceStats
    | History
    | Rpc
    | Refresh
    | SubRefresh
    | Ping
    | Send
    | Pong
)

COMMANDS: Mapping[str, type[_Body]] = {
    "connect": Connect,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "publish": Publish,
    "presence": Presence,
    "presence_stats": PresenceStats,
    "history": History,
    "rpc": Rpc,
    "refresh": Refresh,
    "sub_refresh": SubRefresh,
    "ping": Ping,
}
"""The commands that have an id and are answered, by their name in the protocol."""


@dataclass(frozen=True, slots=True)
class Command:
    """One wish of a client. `id` is its own number for the reply; 0 where none is awaited."""

    id: int
    kind: str
    body: Body


# What they are answered and pushed


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Who is behind a socket: the person ("" without a sign-in), the socket, and `conn_info` as JSON."""

    user: str
    client: str
    conn_info: bytes = b""


@dataclass(frozen=True, slots=True)
class Publication:
    """What is said in a channel: JSON, its offset (0 where nothing is numbered), and who said it if a client did."""

    data: bytes
    offset: int = 0
    info: ClientInfo | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """The state of a subscription, as connect and subscribe answer it. No epoch: the channel keeps no history."""

    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: Sequence[Publication] = ()


@dataclass(frozen=True, slots=True)
class Connected:
    """`ttl` are the seconds until the access token ends; None without one. `ping` are seconds between pings."""

    client: str
    version: str
    ttl: int | None
    ping: int
    subs: Mapping[Channel, Subscription]


@dataclass(frozen=True, slots=True)
class Refreshed:
    client: str
    version: str
    ttl: int


@dataclass(frozen=True, slots=True)
class Present:
    clients: Sequence[ClientInfo]


@dataclass(frozen=True, slots=True)
class Stats:
    clients: int
    users: int


@dataclass(frozen=True, slots=True)
class Past:
    """A part of a stream, and where the stream stands."""

    epoch: str
    offset: int
    publications: Sequence[Publication]


@dataclass(frozen=True, slots=True)
class Called:
    """The result of an rpc, as JSON."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """A result without fields."""


Result = Connected | Subscription | Refreshed | Present | Stats | Past | Called | Done


@dataclass(frozen=True, slots=True)
class Join:
    info: ClientInfo


@dataclass(frozen=True, slots=True)
class Leave:
    info: ClientInfo


@dataclass(frozen=True, slots=True)
class Granted:
    """The server subscribed the client."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The server ended a subscription. From 2500 on SDKs subscribe again, below they do not."""

    code: int
    reason: str


NO_LONGER_ALLOWED = Withdrawn(2103, "permission lost")
STATE_LOST = Withdrawn(2500, "insufficient state")


News = Publication | Join | Leave | Granted | Withdrawn | Close


class Codec(Protocol):
    """One of the two encodings: text frames of JSON lines, or binary frames of length-prefixed Protobuf messages."""

    opcode: int
    """Of the websocket frames it writes."""
    ping: bytes

    def decode(self, frame: str | bytes) -> list[Command]:
        """The commands of one frame, in order. Raises BadFrame."""

    def reply(self, command: Command, result: Result) -> bytes:
        """The answer to a command."""

    def refuse(self, command: Command, refusal: Refusal) -> bytes:
        """The refusal of a command."""

    def push(self, channel: str, news: News) -> bytes:
        """What a channel's subscribers are told; a Close has no channel."""

    def joined(self, messages: Sequence[bytes]) -> bytes:
        """Several messages as the payload of one frame."""


@dataclass(slots=True, eq=False)
class Push:
    """News of a channel on its way to many: encoded once per codec."""

    channel: Channel
    news: News
    _encoded: dict[Codec, bytes] = field(default_factory=dict)

    def encoded(self, codec: Codec) -> bytes:
        message = self._encoded.get(codec)
        if message is None:
            message = self._encoded[codec] = codec.push(self.channel, self.news)
        return message
