"""The sessions of this process by channel: joining without a hole, and filling the holes that delivery leaves.

The rule of joining: register first, then read the stream, answer with the replay, then hand out what was held back. An
event committed before the read is in the replay, one committed after it arrives; nothing lies between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog
from pydantic_core import from_json

from k2k.core.errors import Unavailable
from k2k.core.ids import Channel
from k2k.core.settings import LiveSettings
from k2k.infra.streams import NEWEST, Numbered, Position, Replay, Streams
from k2k.live.line import Line, Member
from k2k.live.wire import News, Publication, Push

log = structlog.get_logger()

Watcher = Callable[[Numbered], None]

RETRY_SECONDS = 0.2


class Link(Protocol):
    """How the hub says which channels this process wants to hear of."""

    async def subscribe(self, channel: str) -> None: ...

    async def unsubscribe(self, channel: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Joined:
    """What a joining member is answered: where the stream stands, and what it missed if that could be told.

    `more` follows `publications`, beyond the offset `reached`.
    """

    top: Position
    publications: list[Publication]
    recovered: bool
    reached: int
    more: bool = False


class Hub:
    """Hands every event to the members of its channel, in order and once."""

    def __init__(self, streams: Streams, link: Link, settings: LiveSettings) -> None:
        self._streams = streams
        self._link = link
        self._settings = settings
        self._lines: dict[Channel, Line] = {}
        self._opening: dict[Channel, asyncio.Task[None]] = {}
        self._filling: dict[Channel, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: dict[str, Watcher] = {}
        self._lingering: dict[Channel, asyncio.TimerHandle] = {}

    def watch(self, type_: str, watcher: Watcher) -> None:
        """Call `watcher` for each event of this type in a channel that has members here. It may see one twice.

        It is called before the event is handed on.
        """
        self._watchers[type_] = watcher

    def members(self, channel: Channel) -> list[object]:
        """Who listens to the channel on this process or watches over it, each once."""
        line = self._lines.get(channel)
        return list(dict.fromkeys(line.owners())) if line else []

    def channels(self) -> Iterator[Channel]:
        """The channels this process follows."""
        yield from self._lines

    def knows(self, channel: Channel) -> bool:
        """Whether the stream's position is known here already."""
        line = self._lines.get(channel)
        return line is not None and line.position is not None

    def arrive(self, event: Numbered) -> bool:
        """An event was heard of: from this process after COMMIT, or from another one.

        Whether it went to members at once; not if there are none, if it is a duplicate or if it waits for a gap.
        """
        line = self._lines.get(event.channel)
        if line is None:
            return False
        self._see(event)
        published = Publication(event.body, event.offset)
        new = line.arrive(Position(event.epoch, event.offset), published, event.type)
        self._fill_if_behind(line)
        return new and bool(line.live)

    def whisper(self, channel: Channel, news: News) -> None:
        """Hand on what is not numbered and was heard of just now."""
        line = self._lines.get(channel)
        if line is not None:
            line.whisper(Push(channel, news))

    def behind(self, channel: Channel, position: Position) -> None:
        """The tail saw the stream at `position`; if its line is not there, something was not announced."""
        line = self._lines.get(channel)
        if line is not None:
            line.hear(position)
            self._fill_if_behind(line)

    async def enter(self, member: Member, channel: Channel) -> None:
        """Register `member`: from now on what is handed on is held back for it. Returns once Redis tells us all."""
        self._line(channel).register(member)
        try:
            await self._opened(channel)
        except BaseException:
            self.leave(member, channel)
            raise

    async def catch_up(self, member: Member, channel: Channel, since: Position | None) -> Joined:
        """What `member`, which has entered, missed after `since` (None: it asks for no replay).

        The caller sends it. Where there is `more` it calls again, since `reached`; else it calls `admit` with
        `reached`, and no await between sending and admitting. Raises Unavailable; the member has then left.
        """
        line = self._line(channel)
        line.register(member)
        try:
            return await self._replay(line, since)
        except BaseException:
            self.leave(member, channel)
            raise

    def admit(self, member: Member, channel: Channel, reached: int) -> None:
        """The member has been answered: live events may follow."""
        line = self._lines.get(channel)
        if line is not None:
            line.admit(member, reached)
            self._fill_if_behind(line)

    def admit_unnumbered(self, member: Member, channel: Channel) -> None:
        """The member, which has entered, may hear what is said in a channel without history."""
        self._line(channel).admit_unnumbered(member)

    async def watch_over(self, owner: object, channel: Channel) -> None:
        """Have `owner` found among the channel's members, and its events watched, without telling it any.

        Raises Unavailable; it is then not found.
        """
        line = self._line(channel)
        line.watch(owner)
        try:
            await self._opened(channel)
            if line.position is None:
                self._settle(line, await self._streams.read(channel, NEWEST))
        except BaseException:
            self.forget(owner, channel)
            raise

    def leave(self, member: Member, channel: Channel, *, linger: bool = True) -> None:
        """The member no longer listens. The line stays warm for a while, for phones come back, unless told not to."""
        line = self._lines.get(channel)
        if line is not None:
            line.remove(member)
            self._let_go(line, linger=linger)

    def forget(self, owner: object, channel: Channel) -> None:
        """It watches over the channel no longer."""
        line = self._lines.get(channel)
        if line is not None:
            line.unwatch(owner)
            self._let_go(line, linger=True)

    async def close(self) -> None:
        """End what is running; members are cut by whoever owns them."""
        self._lines.clear()
        for timer in self._lingering.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _line(self, channel: Channel) -> Line:
        line = self._lines.get(channel)
        if line is None:
            line = self._lines[channel] = Line(channel, fleeting=frozenset(self._streams.joiners))
            self._opening[channel] = self._own(self._link.subscribe(channel))
        return line

    async def _opened(self, channel: Channel) -> None:
        """Wait until Redis was asked to tell us of the channel."""
        opening = self._opening.get(channel)
        if opening is not None:
            await asyncio.shield(opening)
            if self._opening.get(channel) is opening:  # the line may have gone and come again meanwhile
                del self._opening[channel]

    async def _replay(self, line: Line, since: Position | None) -> Joined:
        if since is not None and (recalled := line.recall(since)) is not None and line.position is not None:
            return Joined(line.position, recalled, recovered=True, reached=line.position.offset)
        replay = await self._streams.read(line.channel, NEWEST if since is None else since.offset)
        self._settle(line, replay)
        # An empty epoch means "whichever": a client that was never told one.
        recovered = since is not None and replay.complete and since.epoch in ("", replay.top.epoch)
        if not recovered:
            return Joined(replay.top, [], recovered=False, reached=replay.top.offset)
        reached = replay.events[-1].offset if replay.more else replay.top.offset
        publications = [Publication(event.body, event.offset) for event in replay.events]
        return Joined(replay.top, publications, recovered=True, reached=reached, more=replay.more)

    def _settle(self, line: Line, replay: Replay) -> None:
        for event in replay.events:
            self._see(event)
        line.settle(replay)

    def _see(self, event: Numbered) -> None:
        watcher = self._watchers.get(event.type)
        if watcher is None:
            return
        try:
            watcher(event)
        except Exception:  # a newer process may write what we do not understand; its channel goes on
            log.exception("unforeseen", channel=event.channel, type=event.type, offset=event.offset)

    def _fill_if_behind(self, line: Line) -> None:
        if line.gap and line.channel not in self._filling:
            self._filling[line.channel] = self._own(self._fill(line))

    async def _fill(self, line: Line) -> None:
        """Read what is missing. Most gaps are two messages out of order and close by themselves in a moment."""
        try:
            await asyncio.sleep(self._settings.gap_seconds)
            while line.gap and line.position is not None:
                heard = line.wanted
                try:
                    replay = await self._streams.read(line.channel, line.position.offset)
                except Unavailable:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                except Exception:  # nobody else will come to close this gap
                    log.exception("unforeseen", channel=line.channel)
                    await asyncio.sleep(self._settings.tail_seconds)
                    continue
                self._settle(line, replay)
                self._measure_filled(line, replay)
                if not replay.complete and line.gap:
                    log.warning("events no longer stored", channel=line.channel)
                    line.skip_to(replay.top)
                if line.wanted == heard > replay.top.offset:
                    # Somebody spoke of an offset that the database does not have: believe the database.
                    line.wanted = replay.top.offset
        finally:
            self._filling.pop(line.channel, None)
            if (newer := self._lines.get(line.channel)) is not None and newer is not line:
                self._fill_if_behind(newer)

    def _measure_filled(self, line: Line, replay: Replay) -> None:
        """Count what was read, and how late it is: by the event's own time, which is just before its COMMIT."""
        db = self._streams.db
        db.metrics.filled.inc(len(replay.events))
        if line.live:
            now = db.clock.now()
            for event in replay.events:
                late = now - datetime.fromisoformat(from_json(event.body)["at"])
                db.metrics.deliveries.labels("database").observe(max(0.0, late.total_seconds()))

    def _let_go(self, line: Line, *, linger: bool) -> None:
        if not line.empty:
            return
        if not linger:
            self._drop_if_empty(line)
            return
        # One timer a line, however often somebody comes and goes: the time is counted from the last who went.
        if (earlier := self._lingering.pop(line.channel, None)) is not None:
            earlier.cancel()
        loop = asyncio.get_running_loop()
        self._lingering[line.channel] = loop.call_later(self._settings.linger_seconds, self._drop_if_empty, line)

    def _drop_if_empty(self, line: Line) -> None:
        if line.empty and self._lines.get(line.channel) is line:
            del self._lines[line.channel]
            self._opening.pop(line.channel, None)
            if (timer := self._lingering.pop(line.channel, None)) is not None:
                timer.cancel()
            self._own(self._link.unsubscribe(line.channel))

    def _own(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
