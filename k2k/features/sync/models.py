"""What devices say they have of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from k2k.core.ids import Channel, SignInId
from k2k.infra.streams import Position
from k2k.ops.channels import LONGEST
from k2k.ops.validation import Answer, Input

Epoch = Annotated[str, Field(max_length=64, pattern=r"^[0-9A-Za-z.]*$")]
Offset = Annotated[int, Field(ge=0, lt=2**63)]


class SyncQuery(Input):
    """`since` is `next` of the answer before; `wait` the seconds to wait for a first event."""

    since: Annotated[str, Field(pattern=r"^[0-9A-Za-z.]{1,64}:[0-9]{1,18}$")] | None = None
    wait: Annotated[float, Field(ge=0, le=30)] = 25

    @property
    def position(self) -> Position | None:
        if self.since is None:
            return None
        epoch, _, offset = self.since.rpartition(":")
        return Position(epoch, int(offset))


class Told(Answer):
    """An event as sockets are told it. Unknown types are to be passed over."""

    id: str
    type: str
    at: str
    data: dict[str, Any]
    offset: int


class Missed(Answer):
    """`recovered` false: more was missed than is kept, fetch the state afresh. `more`: ask again at once."""

    epoch: str
    offset: int
    """Where the stream stands."""
    next: str
    recovered: bool
    more: bool
    events: tuple[Told, ...]


class AckWish(Input):
    """An empty `epoch` is the one of today."""

    channel: Annotated[str, Field(max_length=LONGEST)]
    offset: Offset
    epoch: Epoch = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The word of one device that it has everything of `channel` up to `position`."""

    channel: Channel
    sign_in_id: SignInId
    position: Position


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """How far the device has acknowledged the channel now: at least where it said, further if it said so before."""

    position: Position


@dataclass(frozen=True, slots=True)
class Delivered:
    """How far one sign-in has acknowledged a channel: 0 and no time where it has not."""

    sign_in_id: SignInId
    offset: int
    at: datetime | None
