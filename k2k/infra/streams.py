"""Events and the numbered streams they stand in. Every event is written with the rows it tells of.

A stream is read by position, never by time. Its first event opens it; until then its channel stands at offset 0, in the
epoch that this event will have, so that to follow what may never happen writes nothing. Text that people wrote is not
kept in events: a feature names a *joiner* for such an event type, which adds today's text whenever the event is sent
again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json, to_json

from k2k.core.ids import Channel
from k2k.infra.batch import Batch
from k2k.infra.sql import Queries

if TYPE_CHECKING:
    from k2k.infra.db import Db
    from k2k.infra.transaction import Reader


Model = type[BaseModel]


class Event(BaseModel):
    """A past fact. The fields are ids and small facts, never a person's free text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: ClassVar[str]
    to: ClassVar[tuple[str, ...]]
    """The kinds of channels it goes to: what their addresses begin with."""
    joined: ClassVar[Model | None] = None
    """What the joiner of its type adds."""


def declared_events() -> list[type[Event]]:
    """Every event of the house that has been imported, in the order of their types."""
    ours = (event for event in Event.__subclasses__() if event.__module__.startswith("k2k."))
    return sorted(ours, key=lambda event: event.type)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a stream: the newest event its holder knows. `epoch` names the numbering."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event at its place in one stream. `body` is the JSON a client receives."""

    channel: Channel
    epoch: str
    offset: int
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Replay:
    """A stream as its reader finds it: where its numbering stands and a page of what came after the reader's offset.

    `complete` is false when the reader is too far behind, or some of the page are no longer kept: then `events` is
    empty and the reader must fetch its state afresh. `more` is true when further events follow the page: read again
    since the page's last offset. A page that tells of more is never empty.
    """

    top: Position
    events: tuple[Numbered, ...]
    complete: bool
    more: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """A part of a stream, in the order asked for, and where its numbering stands."""

    top: Position
    events: tuple[Numbered, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a tail has come in the numbering of one database.

    Numbers of transactions that committed are never given again, but those of others are, after PostgreSQL has
    crashed: they were in no log. So a mark has seen nothing beyond the newest event that there was.
    """

    snapshot: str
    """What the tail has seen: a pg_snapshot that ends with the newest event."""
    next: int
    """The number that the next transaction would have had."""
    generation: str

    @classmethod
    def of(cls, snapshot: str, newest: int, generation: str) -> Mark:
        """From a snapshot as it was taken, and the number of the newest transaction with an event that it sees."""
        low, high, going = snapshot.split(":")
        end = newest + 1
        still_going = ",".join(number for number in going.split(",") if number and int(number) < end)
        return cls(f"{min(int(low), end)}:{end}:{still_going}", int(high), generation)

    @property
    def newest(self) -> int:
        """The number of the newest transaction with an event; 0 if there is none."""
        return int(self.snapshot.split(":")[1]) - 1

    def follows(self, earlier: Mark) -> bool:
        """Whether this is a later moment of the same database.

        If not, it was restored, or a server has taken over that does not know all transactions of the one before.
        """
        return self.generation == earlier.generation and self.next > earlier.newest


PAGE_BYTES = 128 * 1024
"""A page, of what was missed or of the past, ends with the event that reaches this size: half of what may wait for one
socket. A hundred messages of 4,000 Ethiopic letters are 1.2 MB, and a phone on a slow network would have none of them
before all are there."""

NEWEST = 2**62
"""An offset beyond every stream: reading since it answers where the stream stands and nothing else."""

Joiner = Callable[["Db", Sequence[dict[str, Any]]], Awaitable[Sequence[dict[str, Any]]]]
"""Given the `data` of several events of one type, answers for each what to add to it, in the same order."""


@dataclass(frozen=True, slots=True)
class _Read:
    place: int
    epoch: str
    top: int
    offset: int | None
    type: str | None
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _Newest:
    snapshot: str
    generation: str
    channel: str | None
    epoch: str | None
    offset: int | None
    newest: int | None


@dataclass(frozen=True, slots=True)
class _First:
    snapshot: str
    newest: int
    generation: str


@dataclass(frozen=True, slots=True)
class _Head:
    channel: str
    epoch: str
    offset: int


_queries = Queries("streams")
READ = _queries.rows("read_streams", _Read)
BACKWARDS = _queries.rows("read_backwards", _Read)
TAIL = _queries.rows("tail", _Newest)
FIRST_MARK = _queries.rows("first_mark", _First)
HEADS = _queries.rows("heads", _Head)
RENUMBER = _queries.command("renumber")

AT_ONCE = 500
"""Streams asked for in one statement."""


@dataclass
class Streams:
    """Reads streams of one database: `most` events a page, for readers who are at most `reach` events behind."""

    db: Db
    most: int
    reach: int
    joiners: dict[str, Joiner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reads: Batch[tuple[Channel, int], Replay] = Batch(
            self._read_many, most=AT_ONCE, observe=self.db.metrics.batches.labels("streams").observe
        )

    async def read(self, channel: Channel, since: int) -> Replay:
        """What came after offset `since`. Many readers share one statement.

        Raises Unavailable while the database is away.
        """
        return await self._reads.add((channel, since))

    async def position(self, reader: Reader, channel: Channel) -> Position:
        """Where the stream stands in the moment that `reader` sees."""
        (row,) = await reader.rows(HEADS, [channel])
        return Position(row.epoch, row.offset)

    async def history(self, channel: Channel, since: int | None, *, limit: int, reverse: bool) -> Past:
        """At most `limit` (-1: as many as may be) events after offset `since`, oldest first; in reverse before it.

        None is the beginning, in reverse the end. No more than a page: the rest is asked for since the last of it.
        Raises Unavailable while the database is away.
        """
        most = self.most if limit < 0 else min(limit, self.most)
        if reverse:
            rows = await self.db.rows(BACKWARDS, channel, NEWEST if since is None else since, most)
        else:
            rows = await self.db.rows(READ, [channel], [since or 0], most, NEWEST)
        found = [
            Numbered(channel, row.epoch, row.offset, row.type, row.body)
            for row in rows
            if row.offset is not None and row.type is not None and row.body is not None
        ]
        return Past(Position(rows[0].epoch, rows[0].top), _page(await self._joined(found)))

    async def first_mark(self) -> Mark:
        """Where a tail begins."""
        (first,) = await self.db.rows(FIRST_MARK)
        return Mark.of(first.snapshot, first.newest, first.generation)

    async def tail(self, mark: Mark) -> tuple[Mark, list[tuple[Channel, Position]]]:
        """A later mark, and the newest position of each stream that `mark` could not see.

        If the later mark does not follow the earlier one, the positions are worth nothing: ask for the `heads`.
        """
        rows = await self.db.rows(TAIL, mark.snapshot)
        newest = max(mark.newest, *(row.newest or 0 for row in rows))
        return Mark.of(rows[0].snapshot, newest, rows[0].generation), [
            (Channel(row.channel), Position(row.epoch, row.offset))
            for row in rows
            if row.channel is not None and row.epoch is not None and row.offset is not None
        ]

    async def heads(self, channels: Sequence[Channel]) -> list[tuple[Channel, Position]]:
        """Where each stream stands."""
        rows = [
            row
            for start in range(0, len(channels), AT_ONCE)
            for row in await self.db.rows(HEADS, channels[start : start + AT_ONCE])
        ]
        return [(Channel(row.channel), Position(row.epoch, row.offset)) for row in rows]

    async def renumber(self, generation: str) -> None:
        """End this numbering: from now on every position in it is of another epoch. Nothing if it has ended already."""
        await self.db.run(RENUMBER, generation)

    async def _read_many(self, asked: list[tuple[Channel, int]]) -> list[Replay | Exception]:
        channels, offsets = [channel for channel, _ in asked], [since for _, since in asked]
        rows = await self.db.rows(READ, channels, offsets, self.most, self.reach)
        missed = await self._joined(
            [
                Numbered(asked[row.place - 1][0], row.epoch, row.offset, row.type, row.body)
                for row in rows
                if row.offset is not None and row.type is not None and row.body is not None
            ]
        )
        by_place: dict[int, list[Numbered]] = {}
        heads = {row.place: Position(row.epoch, row.top) for row in rows}
        with_event = (row.place for row in rows if row.offset is not None)
        for place, event in zip(with_event, missed, strict=True):
            by_place.setdefault(place, []).append(event)
        return [self._replay(heads[place], since, by_place.get(place, [])) for place, (_, since) in enumerate(asked, 1)]

    def _replay(self, top: Position, since: int, found: list[Numbered]) -> Replay:
        """Complete only if every offset of the page is there: holes mean that some are no longer kept."""
        missing = top.offset - since
        whole = len(found) == min(missing, self.most) and (not found or found[-1].offset == since + len(found))
        if not 0 <= missing <= self.reach or not whole:
            return Replay(top, (), complete=False)
        page = _page(found)
        return Replay(top, page, complete=True, more=len(page) < missing)

    async def _joined(self, events: list[Numbered]) -> list[Numbered]:
        """The events with today's text in those whose type has a joiner."""
        for type_, joiner in self.joiners.items():
            places = [place for place, event in enumerate(events) if event.type == type_]
            if not places:
                continue
            bodies = [from_json(events[place].body) for place in places]
            added = await joiner(self.db, [body["data"] for body in bodies])
            for place, body, more in zip(places, bodies, added, strict=True):
                body["data"] |= more
                events[place] = replace(events[place], body=to_json(body))
        return events


def _page(events: Sequence[Numbered]) -> tuple[Numbered, ...]:
    """The first of the events, as far as a page goes."""
    size = 0
    for count, event in enumerate(events, 1):
        size += len(event.body)
        if size >= PAGE_BYTES:
            return tuple(events[:count])
    return tuple(events)


def announcement(event: Event, to: Iterable[Channel]) -> dict[str, Any]:
    """What the database function emit() takes for one event."""
    return {"type": event.type, "to": list(to), "data": event.model_dump(mode="json")}
