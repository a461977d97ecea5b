"""What devices say they have of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from k2k.core.ids import Channel, SignInId
from k2k.infra.streams import Position


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
