"""A transaction: statements, the events they make, and the numbering of those events as the last thing it does.

There are two kinds. `Transaction` is BEGIN … COMMIT around as many statements as a story needs; what it emitted is
numbered by one last statement. `SingleStatement` is one announcing statement that is a transaction by itself:
rows, events and offsets in one round trip. Services take a `Tx` and need not know which one they got.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import asyncpg
from pydantic_core import from_json, to_json

from k2k.core.ids import Channel
from k2k.infra.jobs.job import ENQUEUE, NOW, Enqueued, Job, columns
from k2k.infra.sql import Row, Statement
from k2k.infra.streams import Event, Numbered, Position, announcement

Outcome = TypeVar("Outcome")
Connection = asyncpg.pool.PoolConnectionProxy


class Emitted:
    """The events one row or call made. Where they stand in their streams is known after COMMIT."""

    def __init__(self) -> None:
        self.numbered: list[Numbered] = []

    def position(self, channel: Channel) -> Position | None:
        """The newest place these events took in the stream of `channel`; None if none stands there."""
        places = [event for event in self.numbered if event.channel == channel]
        return Position(places[-1].epoch, places[-1].offset) if places else None


@dataclass(frozen=True, slots=True)
class Announced(Generic[Row]):
    """A row of an announcing statement and the events it made."""

    row: Row
    emitted: Emitted


@dataclass(frozen=True, slots=True)
class _EmittedRow:
    ref: int
    n: int
    channel: str
    epoch: str
    offset: int
    type: str
    body: bytes


EMIT = Statement("emit", "select * from emit($1)", _EmittedRow)


def decoded(statement: Statement[Row], records: Iterable[asyncpg.Record]) -> list[Row]:
    """The records as the statement's row type; for a JSON statement the bytes of its only column."""
    if statement.row is bytes:
        return [record[0] for record in records]
    return [statement.row(*record) for record in records]


class Reader(ABC):
    """What can run statements: a transaction, or the database outside of one."""

    @abstractmethod
    async def records(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """Run one statement; everything else here is this and a decoding."""

    async def rows(self, statement: Statement[Row], *arguments: Any) -> list[Row]:
        """All rows of the statement."""
        return decoded(statement, await self.records(statement.text, arguments))

    async def find(self, statement: Statement[Row], *arguments: Any) -> Row | None:
        """The first row, or None."""
        rows = await self.rows(statement, *arguments)
        return rows[0] if rows else None

    async def run(self, statement: Statement[None], *arguments: Any) -> None:
        """Run a statement whose rows, if any, do not matter."""
        await self.records(statement.text, arguments)


class Tx(Reader):
    """What services write through."""

    def __init__(self, connection: Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self.afterwards: list[Callable[[], None]] = []
        """What runs once COMMIT has succeeded: quick, and nothing that may fail."""

    async def records(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        return await self._connection.fetch(text, *arguments)

    @abstractmethod
    async def announce(self, statement: Statement[Row], *arguments: Any) -> list[Announced[Row]]:
        """Run an announcing statement; its events become part of this transaction."""

    @abstractmethod
    def emit(self, event: Event, to: Iterable[Channel]) -> Emitted:
        """Add an event to this transaction, to stand in the stream of each channel in `to`."""

    @abstractmethod
    def enqueue(self, job: Job, *, key: str | None = None, delay: timedelta = NOW, priority: int = 0) -> None:
        """Have `job` done after COMMIT and `delay`, higher priorities first; without COMMIT there is no job.

        Where a job of the same kind and `key` already waits or runs, that one will do and this is left out.
        """

    @abstractmethod
    def part(self) -> AbstractAsyncContextManager[None]:
        """A block that may fail without the rest: what it wrote, emitted and enqueued before it raised is undone."""

    @abstractmethod
    def committed(self) -> list[Numbered]:
        """After COMMIT: every event of this transaction at its place, in the order they were made."""


class Transaction(Tx):
    """Between BEGIN and COMMIT. `finish` must be the last call before COMMIT."""

    def __init__(self, connection: Connection[asyncpg.Record]) -> None:
        super().__init__(connection)
        self._pending: list[dict[str, Any]] = []
        self._owners: list[Emitted] = []
        self._numbered: list[Numbered] = []
        self._jobs: list[Enqueued] = []

    async def announce(self, statement: Statement[Row], *arguments: Any) -> list[Announced[Row]]:
        announced = []
        for row in await self.rows(statement, *arguments):
            emitted = Emitted()
            for event in from_json(row.events):  # type: ignore[attr-defined]
                self._add(event, emitted)
            announced.append(Announced(row, emitted))
        return announced

    def emit(self, event: Event, to: Iterable[Channel]) -> Emitted:
        emitted = Emitted()
        self._add(announcement(event, to), emitted)
        return emitted

    def enqueue(self, job: Job, *, key: str | None = None, delay: timedelta = NOW, priority: int = 0) -> None:
        self._jobs.append(Enqueued(job, key, delay, priority))

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        events, jobs = len(self._pending), len(self._jobs)
        try:
            async with self._connection.transaction():
                yield
        except BaseException:
            del self._pending[events:], self._owners[events:], self._jobs[jobs:]
            raise

    def _add(self, event: dict[str, Any], owner: Emitted) -> None:
        self._pending.append(event)
        self._owners.append(owner)

    async def finish(self) -> None:
        """Store what was enqueued and emitted: the latter locks streams, so nothing may lock rows after it."""
        if self._jobs:
            await self.run(ENQUEUE, *columns(self._jobs))
        if not self._pending:
            return
        for row in await self.rows(EMIT, to_json(self._pending)):
            numbered = Numbered(Channel(row.channel), row.epoch, row.offset, row.type, row.body)
            self._numbered.append(numbered)
            self._owners[row.n - 1].numbered.append(numbered)

    def committed(self) -> list[Numbered]:
        return self._numbered


class SingleStatement(Tx):
    """One announcing statement and no more: PostgreSQL commits it by itself."""

    def __init__(self, connection: Connection[asyncpg.Record]) -> None:
        super().__init__(connection)
        self._ran = False
        self._numbered: list[Numbered] = []

    async def records(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        if self._ran:
            raise RuntimeError("a single-statement transaction has run its statement: open db.transaction()")
        self._ran = True
        return await super().records(text, arguments)

    async def announce(self, statement: Statement[Row], *arguments: Any) -> list[Announced[Row]]:
        announced = []
        for record in await self.records(statement.announcing, arguments):
            *columns, channels, epochs, offsets, types, bodies = record
            emitted = Emitted()
            if channels is not None:
                numbered = zip(channels, epochs, offsets, types, bodies, strict=True)
                emitted.numbered += [Numbered(Channel(channel), *rest) for channel, *rest in numbered]
            self._numbered += emitted.numbered
            announced.append(Announced(statement.row(*columns), emitted))
        return announced

    def emit(self, event: Event, to: Iterable[Channel]) -> Emitted:
        raise RuntimeError("a single-statement transaction announces its events in SQL")

    def enqueue(self, job: Job, *, key: str | None = None, delay: timedelta = NOW, priority: int = 0) -> None:
        raise RuntimeError("a single-statement transaction has no second statement for jobs: open db.transaction()")

    def part(self) -> AbstractAsyncContextManager[None]:
        raise RuntimeError("a single-statement transaction has no parts: open db.transaction()")

    def committed(self) -> list[Numbered]:
        return self._numbered


def one(outcomes: Sequence[Outcome | Exception]) -> Outcome:
    """The outcome of a set function called with one item; raises it if it is an error."""
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
