"""The database: a pool whose every wait has an end, transactions that tell their events after COMMIT, and sets.

When PostgreSQL is away or frozen, every call ends in `Unavailable` within the deadline; a write whose COMMIT got no
answer ends in `OutcomeUnknown`. Connections are never reset between borrowers (a round trip each), so nothing may
change a connection's state beyond its transaction: `set local` and transaction-level advisory locks only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import asyncpg
import structlog

from k2k.core.clock import Clock
from k2k.core.errors import DomainError, OutcomeUnknown, Unavailable
from k2k.core.settings import DatabaseSettings
from k2k.infra.batch import Batch
from k2k.infra.streams import Numbered
from k2k.infra.transaction import Connection, Reader, SingleStatement, Transaction, Tx

Item = TypeVar("Item")
Result = TypeVar("Result")
SetFunction = Callable[[Tx, Sequence[Item]], Awaitable[Sequence[Result | DomainError]]]

log = structlog.get_logger()

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
CLIENT_FAULTS = (asyncpg.InterfaceError, asyncpg.InternalClientError)


class Db(Reader):
    """One process's way to PostgreSQL. `told` is given the events of each transaction right after its COMMIT."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], clock: Clock, *, deadline: float) -> None:
        self.pool = pool
        self.clock = clock
        self.told: Callable[[Sequence[Numbered]], None] = lambda _: None
        self._deadline = deadline
        self._sets: dict[Callable[..., Any], Batch[Any, Any]] = {}

    @classmethod
    async def open(cls, settings: DatabaseSettings, clock: Clock) -> Db:
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
            before = datetime.now(UTC)
            told = await connection.fetchval("select clock_timestamp()")
            clock.measured(told, before + (datetime.now(UTC) - before) / 2)

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
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": str(int(settings.deadline_seconds * 5000)),
            },
        )
        return cls(pool, clock, deadline=settings.deadline_seconds)

    async def close(self) -> None:
        """Let running sets finish, then close the connections; forcibly after the deadline."""
        for batch in self._sets.values():
            await batch.close()
        try:
            async with asyncio.timeout(self._deadline):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    async def ping(self) -> None:
        """Raises Unavailable while the database does not answer."""
        await self.records("select 1", ())

    async def analyze(self) -> None:
        """Tell the planner what tables hold that have just been filled; plans made before are dropped."""
        await self.records("analyze", ())

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
            batch = self._sets[function] = Batch(lambda items: self._run_set(function, items))
        result: Result = await batch.add(item)
        return result

    def _tell(self, tx: Tx) -> None:
        try:
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

    @asynccontextmanager
    async def _connection(self, *, writing: bool) -> AsyncIterator[Connection[asyncpg.Record]]:
        """Borrow a connection; whatever is lost with it becomes a domain error within the deadline."""
        try:
            async with asyncio.timeout(self._deadline):
                connection = await self.pool.acquire()
        except (*LOST, *CLIENT_FAULTS) as error:
            log.warning("database away", error=repr(error))
            raise Unavailable from error
        # Cancelling a query on a frozen server waits for that server; cutting the connection does not.
        timer = asyncio.get_running_loop().call_later(self._deadline, _terminate, connection)
        try:
            yield connection
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
            if writing:
                raise
            raise Unavailable from error
        except LOST as error:
            log.warning("database connection lost", error=repr(error))
            raise (OutcomeUnknown if writing else Unavailable) from error
        except CLIENT_FAULTS as error:
            if not _lost(connection):
                raise
            raise (OutcomeUnknown if writing else Unavailable) from error
        finally:
            # A cancelled query makes even this wait for the server, so the timer runs until it is through.
            await self.pool.release(connection)
            timer.cancel()


def _lost(connection: Connection[asyncpg.Record]) -> bool:
    """Whether the connection ended under us. The pool then takes it back at once and answers nothing about it."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _terminate(connection: Connection[asyncpg.Record]) -> None:
    if not _lost(connection):
        connection.terminate()
