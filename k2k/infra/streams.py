"""Events and the numbered streams they stand in. Every event is written with the rows it tells of.

A stream is read by position, never by time. Text that people wrote is not kept in events: a feature names a
*joiner* for such an event type, which adds today's text whenever the event is sent again.
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


class Event(BaseModel):
    """A past fact. The fields are ids and small facts, never a person's free text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: ClassVar[str]


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
    """A stream as its reader finds it: where its numbering stands and what came after the reader's offset.

    `complete` is false when more than the asked-for number of events is missing, or some are no longer kept:
    then `events` is empty and the reader must fetch its state afresh.
    """

    top: Position
    events: tuple[Numbered, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Past:
    """A part of a stream, in the order asked for, and where its numbering stands."""

    top: Position
    events: tuple[Numbered, ...]


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
    channel: str | None
    epoch: str | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    snapshot: str


_queries = Queries("streams")
READ = _queries.rows("read_streams", _Read)
HISTORY = _queries.rows("read_history", _Read)
OPEN = _queries.command("open_streams")
TAIL = _queries.rows("tail", _Newest)
FIRST_SNAPSHOT = _queries.rows("first_snapshot", _Snapshot)


@dataclass
class Streams:
    """Reads streams of one database. `most` is how many missed events a reader gets before it must refetch."""

    db: Db
    most: int
    joiners: dict[str, Joiner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reads: Batch[tuple[Channel, int], Replay] = Batch(
            self._read_many, most=500, observe=self.db.metrics.batches.labels("streams").observe
        )

    async def read(self, channel: Channel, since: int) -> Replay:
        """What came after offset `since`. Many readers share one statement; a new stream is opened.

        Raises Unavailable while the database is away.
        """
        return await self._reads.add((channel, since))

    async def history(self, channel: Channel, since: int | None, *, limit: int, reverse: bool) -> Past:
        """At most `limit` (-1: as many as may be) events after offset `since`, oldest first; in reverse before it.

        None is the beginning, in reverse the end. Raises Unavailable while the database is away.
        """
        most = self.most if limit < 0 else min(limit, self.most)
        rows = await self.db.rows(HISTORY, channel, since, most, reverse)
        if not rows:
            return Past((await self.read(channel, NEWEST)).top, ())
        found = [
            Numbered(channel, row.epoch, row.offset, row.type, row.body)
            for row in rows
            if row.offset is not None and row.type is not None and row.body is not None
        ]
        return Past(Position(rows[0].epoch, rows[0].top), tuple(await self._joined(found)))

    async def first_snapshot(self) -> str:
        """Where a tail begins."""
        return (await self.db.rows(FIRST_SNAPSHOT))[0].snapshot

    async def tail(self, snapshot: str) -> tuple[str, list[tuple[Channel, Position]]]:
        """A later snapshot, and the newest position of each stream that `snapshot` could not see."""
        rows = await self.db.rows(TAIL, snapshot)
        return rows[0].snapshot, [
            (Channel(row.channel), Position(row.epoch, row.offset))
            for row in rows
            if row.channel is not None and row.epoch is not None and row.offset is not None
        ]

    async def _read_many(self, asked: list[tuple[Channel, int]]) -> list[Replay | Exception]:
        rows = await self._rows_of(asked)
        unopened = set(range(1, len(asked) + 1)) - {row.place for row in rows}
        if unopened:
            await self.db.run(OPEN, sorted({asked[place - 1][0] for place in unopened}))
            rows = await self._rows_of(asked)
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

    async def _rows_of(self, asked: list[tuple[Channel, int]]) -> list[_Read]:
        return await self.db.rows(READ, [c for c, _ in asked], [since for _, since in asked], self.most + 1)

    def _replay(self, top: Position, since: int, found: list[Numbered]) -> Replay:
        """Complete only if every offset in (since, top] is there: holes mean that some are no longer kept."""
        complete = since <= top.offset and len(found) <= self.most and len(found) == top.offset - since
        return Replay(top, tuple(found) if complete else (), complete)

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


def announcement(event: Event, to: Iterable[Channel]) -> dict[str, Any]:
    """What the database function emit() takes for one event."""
    return {"type": event.type, "to": list(to), "data": event.model_dump(mode="json")}
