"""Who follows what just now, over all processes: announced where few follow, counted where many do, never a flood.

Each process tells Redis of its own sockets and again every `REFRESH_SECONDS`; whoever is not heard of for
`PRESENT_SECONDS` is gone, killed processes included. A socket that goes is not announced for `RETURN_SECONDS`: phones
change networks all the time and come back. A person with two devices joins with the first and leaves with the last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from pydantic_core import from_json

from k2k.core.errors import Unavailable
from k2k.core.ids import Channel, UserId, user_channel
from k2k.infra.ephemeral import Ephemeral, Occupant, Place
from k2k.live.wire import ClientInfo, Join, Leave, News

Result = TypeVar("Result")

REFRESH_SECONDS = 20.0
PRESENT_SECONDS = 60.0
RETURN_SECONDS = 5.0
DEPARTURES_SECONDS = 1.0
# A refresh takes so many places and lets others go on: some ten milliseconds each.
MOST_AT_ONCE = 250
# Counting looks at everybody in a room, and anybody may ask: it is done once in so long.
COUNTED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A person as others may know them: the kinds of devices they are on, or when they were last here."""

    devices: tuple[str, ...]
    last_seen: datetime | None


class Presence:
    """Tells Redis of this process's sockets, and everybody of who came and went."""

    def __init__(self, ephemeral: Ephemeral, whisper: Callable[[Channel, News], None]) -> None:
        self._ephemeral = ephemeral
        self._whisper = whisper
        self._tasks: set[asyncio.Task[Any]] = set()
        self._counts: dict[Channel, asyncio.Task[tuple[int, int]]] = {}
        self._entering: dict[Place, asyncio.Task[None]] = {}
        self._answering = asyncio.Event()
        """That Redis answers, as far as is known; who came while it did not is waiting for it."""
        self.ours: Callable[[], Iterable[Place]] = lambda: ()
        """Where the sockets of this process are; bound by the door. Read in pages while they come and go: who has left
        before its page is taken is not in it, or it would be there again for a minute."""

    def start(self) -> None:
        self._own(self._refresh())
        self._own(self._announce_departures())

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def enter(self, place: Place, crowd: Callable[[int], None] | None = None) -> None:
        """A socket came. Returns at once; `crowd` hears how many others of the person there are, once Redis said so.

        Where nobody is told and nobody asks, as in a room that is only counted, nobody there is looked at.
        """
        if place.told or crowd is not None:
            self._entering[place] = self._own(self._enter(place, crowd))
        else:
            self._own(_quietly(self._ephemeral.stay([place], PRESENT_SECONDS)))

    def leave(self, place: Place) -> None:
        """A socket went. Returns at once; Redis hears of it soon."""
        if (entering := self._entering.pop(place, None)) is not None:
            entering.cancel()
        self._own(_quietly(self._ephemeral.leave(place, RETURN_SECONDS)))

    async def people(self, channel: Channel) -> list[ClientInfo]:
        """Everybody who follows the channel. Raises Unavailable."""
        return [_info(occupant) for occupant in await self._ephemeral.occupants(channel)]

    async def seen(self, person: UserId) -> Seen:
        """Whether and where a person is online, else when they last were (if within 30 days). Raises Unavailable."""
        here = await self._ephemeral.occupants(user_channel(person))
        last = None if here else await self._ephemeral.last_seen(str(person))
        return Seen(
            devices=tuple(sorted({from_json(one.description)["device"] for one in here})),
            last_seen=datetime.fromtimestamp(last, UTC) if last is not None else None,
        )

    async def count(self, channel: Channel) -> tuple[int, int]:
        """How many sockets follow the channel, and how many people behind them: for few. Raises Unavailable."""
        return await self._ephemeral.count(channel)

    async def crowd(self, channel: Channel) -> tuple[int, int]:
        """The same for a channel that a crowd may follow, as it was a second ago. Raises Unavailable."""
        counting = self._counts.get(channel)
        if counting is None:
            counting = self._counts[channel] = self._own(self._ephemeral.count(channel))
            asyncio.get_running_loop().call_later(COUNTED_SECONDS, self._counts.pop, channel, None)
        return await asyncio.shield(counting)

    async def _enter(self, place: Place, crowd: Callable[[int], None] | None) -> None:
        """Enter, now or when Redis is back: a refresh would bring the place, but nobody would be told."""
        while True:
            try:
                others = await self._ephemeral.enter(place, PRESENT_SECONDS)
                break
            except Unavailable:
                self._answering.clear()
                await self._answering.wait()
        self._entering.pop(place, None)
        if place.told and others == 0:
            self._whisper(Channel(place.room), Join(_info(place.occupant)))
        if crowd is not None:
            crowd(others)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            places = iter(self.ours())
            while page := tuple(islice(places, MOST_AT_ONCE)):
                await _quietly(self._ephemeral.stay(page, PRESENT_SECONDS))

    async def _announce_departures(self) -> None:
        while True:
            await asyncio.sleep(DEPARTURES_SECONDS)
            try:
                departed = await self._ephemeral.departed()
            except Unavailable:
                continue
            self._answering.set()
            for channel, occupant in departed:
                self._whisper(Channel(channel), Leave(_info(occupant)))

    def _own(self, coroutine: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _quietly(told: Coroutine[Any, Any, None]) -> None:
    """Tell Redis; if it is away the next refresh does, or time."""
    with contextlib.suppress(Unavailable):
        await told


def occupant(info: ClientInfo) -> Occupant:
    return Occupant(info.user, info.client, info.conn_info.decode())


def _info(occupant: Occupant) -> ClientInfo:
    return ClientInfo(occupant.person, occupant.socket, occupant.description.encode())
