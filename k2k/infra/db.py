"""The database: a pool whose every wait has an end, transactions that tell their events after COMMIT, and sets.

When PostgreSQL is away or frozen, every call ends in `Unavailable` within the deadline; a write whose COMMIT got no
answer ends in `OutcomeUnknown`. Connections are never reset between borrowers (a round trip each), so nothing may
change a connection's state beyond its transaction: `set local` and transaction-level advisory locks only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from types import TracebackType
from typing import Any, TypeVar

import asyncpg
import structlog

from k2k.core.clock import Clock
from k2k.core.errors import DomainError, OutcomeUnknown, Unavailable
from k2k.core.settings import DatabaseSettings
from k2k.infra.batch import Batch
from k2k.infra.metrics import Metrics
from k2k.infra.streams import Numbered
from k2k.infra.transaction import Connection, Reader, SingleStatement, Transaction, Tx

Item = TypeVar("Item")
Result = TypeVar("Result")
SetFunction = Callable[[Tx, Sequence[Item]], Awaitable[Sequence[Result | DomainError]]]
GatheredRead = Callable[[Reader, Sequence[Item]], Awaitable[Sequence[Result | DomainError]]]

log = structlog.get_logger()

_AT_ONCE = nullcontext()

# A unique violation is a race lost by a statement whose snapshot was older than the winner's row: the repeat sees it.
RACES = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError)
REPEATS = 5
DATA_FAULTS = ("22", "23")
LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # the connection leads to what has become a replica
)
# What asyncpg also says when a connection ends at a bad moment; on one that lives it is a fault of ours.
# AttributeError: cut between preparing and executing it stumbles over its own protocol, which is gone by then.
CLIENT_FAULTS = (asyncpg.InterfaceError, asyncpg.InternalClientError, AttributeError)


class Db(Reader):
    """One process's way to PostgreSQL. `told` is given the events of each transaction right after its COMMIT."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], clock: Clock, metrics: Metrics, *, deadline: float) -> None:
        self.pool = pool
        self.metrics = metrics
        self.clock = clock
        self.told: Callable[[Sequence[Numbered]], None] = lambda _: None
        self._deadline = deadline
        self._sets: dict[Callable[..., Any], Batch[Any, Any]] = {}
        self._reads: dict[Callable[..., Any], Batch[Any, Any]] = {}

    @classmethod
    async def open(cls, settings: DatabaseSettings, clock: Clock, metrics: Metrics | None = None) -> Db:
        """Connect. Raises OSError or asyncpg's errors while the server cannot be reached."""

        async def prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            await connection.set_type_codec(
                "jsonb",
                schema="pg_catalog",
                format="binary",
                encoder=lambda content: b"\x01" + (content.encode() if isinstance(content, str) else content),
                decoder=lambda content: content[1:],
            )
            # asyncpg asks the server about array types when it first meets them: not in the first write, please.
            await connection.fetch("select '{}'::jsonb[], '{}'::bigint[], '{}'::uuid[], '{}'::text[]")
            before = time.monotonic()
            told = await connection.fetchval("select clock_timestamp()")
            clock.measured(told, (before + time.monotonic()) / 2)

        async def leave_as_it_is(_: object) -> None:
            """The default reset is a round trip per borrow."""

        milliseconds = str(int(settings.deadline_seconds * 1000))
        pool = await asyncpg.create_pool(
            settings.url.get_secret_value(),
            min_size=settings.pool_min,
            max_size=settings.pool_max,
            timeout=settings.deadline_seconds,
            command_timeout=settings.deadline_seconds * 2,
            init=prepare,
            reset=leave_as_it_is,
            server_settings={
                "application_name": "k2k",
                "timezone": "UTC",
                "jit": "off",
                "plan_cache_mode": "force_generic_plan",  # docs/adr/0004
                "random_page_cost": "1.1",  # what is asked for is in memory or on an SSD
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": str(int(settings.deadline_seconds * 5000)),
            },
        )
        return cls(pool, clock, metrics or Metrics(), deadline=settings.deadline_seconds)

    async def close(self) -> None:
        """Let running sets and reads finish, then close the connections; forcibly after the deadline."""
        for batch in (*self._sets.values(), *self._reads.values()):
            await batch.close()
        try:
            async with asyncio.timeout(self._deadline):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    async def ping(self) -> None:
        """Raises Unavailable while the database does not answer."""
        await self.records("select 1", ())

    async def records(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """Read outside of a transaction: one round trip."""
        async with self._connection(writing=False) as connection:
            return await connection.fetch(text, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """BEGIN … COMMIT. An exception inside rolls back and nothing is told.

        Raises Unavailable if nothing was written, OutcomeUnknown if COMMIT was sent and not answered.
        """
        async with self._connection(writing=False) as connection:
            begun = connection.transaction()
            await begun.start()
            tx = Transaction(connection)
            try:
                yield tx
                await tx.finish()
            except BaseException:
                # What went wrong first is what the caller hears; a lost connection has rolled back by itself.
                with suppress(*LOST, *CLIENT_FAULTS):
                    await begun.rollback()
                raise
            try:
                await begun.commit()
            except LOST as error:
                raise OutcomeUnknown from error
        self._tell(tx)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        """Several reads of one and the same moment. Raises Unavailable."""
        async with (
            self._connection(writing=False) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield Transaction(connection)

    @asynccontextmanager
    async def single(self) -> AsyncIterator[SingleStatement]:
        """A transaction of one announcing statement, in one round trip.

        Raises OutcomeUnknown if the statement was sent and not answered.
        """
        async with self._connection(writing=True) as connection:
            tx = SingleStatement(connection)
            yield tx
        self._tell(tx)

    async def together(self, function: SetFunction[Item, Result], item: Item) -> Result:
        """Have the set function write `item` along with whatever else arrives meanwhile; raise its outcome if error.

        The function gets a single-statement transaction. A set that lost a race is repeated; one that the
        database refuses as data is halved until the refused item stands alone.
        """
        batch = self._sets.get(function)
        if batch is None:
            observe = self.metrics.batches.labels(function.__name__).observe
            batch = self._sets[function] = Batch(lambda items: self._run_set(function, items), observe=observe)
        result: Result = await batch.add(item)
        return result

    async def gather(self, function: GatheredRead[Item, Result], item: Item) -> Result:
        """Have the function read `item` along with whatever else is asked for meanwhile; raise its outcome if error."""
        batch = self._reads.get(function)
        if batch is None:
            observe = self.metrics.batches.labels(function.__name__).observe
            batch = self._reads[function] = Batch(lambda items: function(self, items), observe=observe)
        result: Result = await batch.add(item)
        return result

    def _tell(self, tx: Tx) -> None:
        try:
            for action in tx.afterwards:
                action()
            self.told(tx.committed())
        except Exception:  # what was committed must not look failed; the tail delivers
            log.exception("events could not be told")

    async def _run_set(
        self, function: SetFunction[Item, Result], items: Sequence[Item]
    ) -> Sequence[Result | Exception]:
        for _ in range(REPEATS):
            try:
                async with self.single() as tx:
                    return await function(tx, items)
            except RACES as error:
                last: Exception = error
            except (asyncpg.PostgresError, DomainError) as error:
                last = error
                break
        if len(items) > 1 and (getattr(last, "sqlstate", None) or "").startswith(DATA_FAULTS):
            middle = len(items) // 2
            return [
                *await self._run_set(function, items[:middle]),
                *await self._run_set(function, items[middle:]),
            ]
        return [last] * len(items)

    def _connection(self, *, writing: bool) -> _Borrowed:
        return _Borrowed(self.pool, self.metrics, self._deadline, writing=writing)


class _Borrowed:
    """A connection for a block; whatever is lost with it becomes a domain error within the deadline.

    A class, because a generator would cost a tenth of the statement.
    """

    __slots__ = ("_connection", "_deadline", "_metrics", "_pool", "_timer", "_writing")

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], metrics: Metrics, deadline: float, *, writing: bool) -> None:
        self._pool = pool
        self._metrics = metrics
        self._deadline = deadline
        self._writing = writing

    async def __aenter__(self) -> Connection[asyncpg.Record]:
        began = time.perf_counter()
        try:
            # An idle connection is there at once, or, if it has ended, anew within the pool's own deadline.
            async with asyncio.timeout(self._deadline) if not self._pool.get_idle_size() else _AT_ONCE:
                self._connection = await self._pool.acquire()
        except (*LOST, *CLIENT_FAULTS) as error:
            log.warning("database away", error=repr(error))
            raise Unavailable from error
        self._metrics.pool_waits.observe(time.perf_counter() - began)
        # Cancelling a query on a frozen server waits for that server; cutting the connection does not.
        self._timer = asyncio.get_running_loop().call_later(self._deadline, _terminate, self._connection)
        return self._connection

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Before the connection goes back: a pool has nothing to say of one that it holds.
        meaning = self._meaning(error)
        # A cancelled query makes even this wait for the server, so the timer runs until it is through.
        try:
            await self._pool.release(self._connection)
        except CLIENT_FAULTS:
            if not _lost(self._connection):  # or it ended in this very moment and the pool has it back already
                raise
        finally:
            self._timer.cancel()
        if meaning is not None:
            raise meaning from error

    def _meaning(self, error: BaseException | None) -> DomainError | None:
        """What the loss of a connection means to the caller; None for everything else, which goes on as it is."""
        match error:
            case asyncpg.DeadlockDetectedError() | asyncpg.SerializationError():
                return None if self._writing else Unavailable()
            case _ if isinstance(error, LOST):
                log.warning("database connection lost", error=repr(error))
            case _ if isinstance(error, CLIENT_FAULTS) and _lost(self._connection):
                pass
            case _:
                return None
        return OutcomeUnknown() if self._writing else Unavailable()


def _lost(connection: Connection[asyncpg.Record]) -> bool:
    """Whether the connection ended under us. The pool then takes it back at once and answers nothing about it."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _terminate(connection: Connection[asyncpg.Record]) -> None:
    if not _lost(connection):
        connection.terminate()
