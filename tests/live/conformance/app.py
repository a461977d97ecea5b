"""An app behind one of the official SDKs, in words that all of them share.

What the SDK tells the app is kept as `Heard`, one queue a kind. The scenarios know nothing else, so each is written
once for every SDK and encoding.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE = 15.0
"""Seconds within which anything expected must come."""


@dataclass(frozen=True)
class Heard:
    """Something the SDK told its app; what does not belong to its kind is None."""

    kind: str
    """connecting, connected, disconnected, subscribing, subscribed, unsubscribed, publication, join, leave, error,
    or that the SDK asks for a `token` or a `state`."""
    channel: str | None = None
    code: int | None = None
    client: str | None = None
    """Of the socket that connected, joined or left."""
    user: str | None = None
    """Who joined, left or published."""
    data: Any = None
    offset: int | None = None
    """Of a publication or, with `epoch`, of a subscription."""
    epoch: str | None = None
    was_recovering: bool | None = None
    recovered: bool | None = None


@dataclass(frozen=True)
class Member:
    """Somebody in a channel, and how their socket describes itself."""

    user: str
    client: str
    described: Any


@dataclass(frozen=True)
class Past:
    """A part of a channel's history: offsets in the order they came, and where the stream stands."""

    offsets: list[int]
    epoch: str
    offset: int


class Refused(Exception):
    """An order was answered with an error."""

    def __init__(self, code: int, message: str, temporary: bool) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.temporary = temporary


class App(ABC):
    """One app on one device. `open` comes first; subscriptions may be made before `connect`, as apps do."""

    def __init__(self) -> None:
        self._heard: defaultdict[str, asyncio.Queue[Heard]] = defaultdict(asyncio.Queue)

    async def hear(self, kind: str, channel: str | None = None) -> Heard:
        """The next of this kind, which must be of this channel."""
        heard = await asyncio.wait_for(self._heard[kind].get(), PATIENCE)
        assert channel is None or heard.channel == channel, heard
        return heard

    async def hear_numbers(self, channel: str, *numbers: int) -> list[int]:
        """The next publications carry events with these numbers; their offsets."""
        offsets = []
        for number in numbers:
            heard = await self.hear("publication", channel)
            assert heard.data["data"]["number"] == number, heard
            assert heard.offset is not None
            offsets.append(heard.offset)
        return offsets

    def unheard(self, *kinds: str) -> int:
        """How much of these kinds came that nobody has asked for."""
        return sum(self._heard[kind].qsize() for kind in kinds)

    def note(self, heard: Heard) -> None:
        self._heard[heard.kind].put_nowait(heard)

    @abstractmethod
    async def open(
        self, address: str, token: str = "", *, data: Any = None, tokens: Sequence[str] | None = None
    ) -> None:
        """Make a client. `tokens` are what the app has for the SDK when it asks; after the last it is unauthorized."""

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def subscribe(
        self, channel: str, *, joins: bool = False, states: Sequence[tuple[str, int]] | None = None
    ) -> None:
        """Make a subscription, recoverable. `states` are the positions that the app finds when the SDK asks for it."""

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    async def subscribe_again(self, channel: str) -> None: ...

    @abstractmethod
    async def rpc(self, method: str, data: Any) -> Any:
        """The result. Raises Refused, as all of the following."""

    @abstractmethod
    async def publish(self, channel: str, data: Any) -> None: ...

    @abstractmethod
    async def presence(self, channel: str) -> list[Member]: ...

    @abstractmethod
    async def presence_stats(self, channel: str) -> tuple[int, int]:
        """Clients and users."""

    @abstractmethod
    async def history(
        self, channel: str, *, limit: int = 0, since: tuple[str, int] | None = None, reverse: bool = False
    ) -> Past: ...

    @abstractmethod
    async def send(self, data: Any) -> None: ...

    @abstractmethod
    async def close(self) -> None:
        """The app ends."""
