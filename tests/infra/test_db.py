"""The database that is away, frozen, slow or cut off: every wait ends, and what is told was committed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from signal import SIGCONT, SIGSTOP
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg
import psutil
import pytest
from pydantic import SecretStr

from k2k.core.clock import Clock
from k2k.core.errors import Conflict, DomainError, NotFound, OutcomeUnknown, Unavailable
from k2k.core.ids import Channel
from k2k.core.settings import Settings
from k2k.infra import embedded
from k2k.infra.db import Db
from k2k.infra.metrics import Metrics
from k2k.infra.sql import Statement
from k2k.infra.streams import Event, Numbered
from k2k.infra.transaction import Reader, Tx
from tests.support import eventually

DEADLINE = 0.3
# Room for a busy machine; every wait that is not bounded by the deadline is longer than both together.
ROOM = 2.0


class Happened(Event):
    type: ClassVar[str] = "test.happened"
    number: int


async def took(waiting: Awaitable[Any]) -> tuple[object, float]:
    """What it answered or raised, and after how many seconds."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(10):
            outcome = await waiting
    except Exception as error:
        outcome = error
    return outcome, time.monotonic() - start


async def raised_by(story: Awaitable[Any]) -> object:
    """What it raised; None if nothing."""
    return (await took(story))[0]


async def opened(settings: Settings, url: str, *, deadline: float = DEADLINE, connections: int = 3) -> Db:
    database = settings.database.model_copy(
        update={"url": SecretStr(url), "deadline_seconds": deadline, "pool_min": 1, "pool_max": connections}
    )
    return await Db.open(database, Clock())


async def opened_in_haste(settings: Settings, url: str) -> Db:
    """With the short deadline, which on a busy machine may not do for a first connection."""
    opening: list[Db] = []

    async def is_open() -> bool:
        with contextlib.suppress(TimeoutError):
            opening.append(await opened(settings, url))
        return bool(opening)

    await eventually(is_open)
    return opening[0]


@pytest.fixture
async def db(settings: Settings, database_url: str) -> AsyncIterator[Db]:
    """One whose deadline no story reaches by itself."""
    db = await opened(settings, database_url, deadline=4)
    yield db
    await db.close()


@pytest.fixture
async def hasty(settings: Settings, database_url: str) -> AsyncIterator[Db]:
    """One that gives up after DEADLINE."""
    db = await opened_in_haste(settings, database_url)
    yield db
    await db.close()


@pytest.fixture
async def outside(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of somebody else's."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def a_channel() -> Channel:
    return Channel(f"test:{uuid4()}")


async def stored(reader: Reader, channel: Channel) -> int:
    """How many events stand in the stream of `channel`."""
    counted = "select count(*) from events join streams on streams.id = stream_id where channel = $1"
    (record,) = await reader.records(counted, (channel,))
    return int(record[0])


async def pid_of(tx: Reader) -> int:
    return int((await tx.records("select pg_backend_pid()", ()))[0][0])


async def answers_again(db: Db) -> None:
    async def answers() -> bool:
        return await raised_by(db.ping()) is None

    await eventually(answers)


async def cut(outside: asyncpg.Connection[asyncpg.Record], pid: int) -> None:
    """End the server's side of a connection, and let our side hear of it."""
    await outside.fetchval("select pg_terminate_backend($1, 1000)", pid)
    await asyncio.sleep(0.02)


# A server that is not there


@pytest.fixture
async def silent_server() -> AsyncIterator[str]:
    """Takes connections and never says a word."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"postgresql://k2k:x@127.0.0.1:{server.sockets[0].getsockname()[1]}/k2k"
    server.close()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """Belongs to us, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql://k2k:x@127.0.0.1:{taken.getsockname()[1]}/k2k"


@pytest.fixture(params=["silent_server", "closed_port"])
def nowhere(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


async def single(db: Db) -> None:
    async with db.single() as tx:
        await tx.records("select 1", ())


async def transaction(db: Db) -> None:
    async with db.transaction() as tx:
        await tx.records("select 1", ())


async def together(db: Db) -> None:
    async def ask(tx: Tx, items: Sequence[int]) -> Sequence[int | DomainError]:
        await tx.records("select 1", ())
        return items

    await db.together(ask, 1)


@pytest.mark.parametrize("use", [Db.ping, single, transaction, together])
async def test_a_server_that_is_away_is_unavailable_within_the_deadline(
    nowhere: str, use: Callable[[Db], Awaitable[None]]
) -> None:
    async with asyncpg.create_pool(nowhere, min_size=0, max_size=2, timeout=DEADLINE) as pool:
        outcome, seconds = await took(use(Db(pool, Clock(), Metrics(), deadline=DEADLINE)))
    assert type(outcome) is Unavailable
    assert seconds < DEADLINE + ROOM


async def test_opening_ends_within_the_deadline_too(nowhere: str, settings: Settings) -> None:
    outcome, seconds = await took(opened(settings, nowhere))
    assert isinstance(outcome, OSError)
    assert seconds < DEADLINE + ROOM


# A server that freezes


@dataclass
class Frozen:
    """A PostgreSQL of our own, that can be stopped in the middle of everything."""

    server: embedded.Server

    def freeze(self) -> None:
        for process in self._family():
            process.send_signal(SIGSTOP)

    def thaw(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(SIGCONT)

    def _family(self) -> list[Any]:
        postmaster = psutil.Process(self.server.pid)
        return [postmaster, *postmaster.children(recursive=True)]


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    server = embedded.start_postgres(tmp_path_factory.mktemp("own") / "postgres", durable=False)
    yield Frozen(server)
    server.stop()


@pytest.fixture
async def fragile(own_postgres: Frozen, settings: Settings) -> AsyncIterator[Db]:
    """Connected to the server that may freeze, every connection in use once before."""
    setting_up = await asyncpg.connect(own_postgres.server.url)
    await setting_up.execute("create table if not exists written (id uuid primary key)")
    await setting_up.close()
    db = await opened_in_haste(settings, own_postgres.server.url)
    await heals(db)
    yield db
    own_postgres.thaw()
    await db.close()


async def heals(db: Db) -> None:
    """All connections are usable again, at once."""

    async def well() -> bool:
        outcomes = await asyncio.gather(*(db.ping() for _ in range(6)), return_exceptions=True)
        return all(outcome is None for outcome in outcomes)

    await eventually(well)


@pytest.mark.parametrize(
    ("use", "expected"),
    [(Db.ping, Unavailable), (transaction, Unavailable), (single, OutcomeUnknown), (together, OutcomeUnknown)],
)
async def test_a_frozen_server_is_given_up_within_the_deadline_and_all_heals(
    own_postgres: Frozen, fragile: Db, use: Callable[[Db], Awaitable[None]], expected: type[DomainError]
) -> None:
    own_postgres.freeze()
    outcome, seconds = await took(use(fragile))
    assert type(outcome) is expected
    assert seconds < DEADLINE + ROOM
    own_postgres.thaw()
    await heals(fragile)


async def test_waiting_in_line_for_a_frozen_server_ends_as_well(own_postgres: Frozen, fragile: Db) -> None:
    own_postgres.freeze()
    outcomes = await asyncio.gather(*(took(fragile.ping()) for _ in range(30)))
    assert {type(outcome) for outcome, _ in outcomes} == {Unavailable}
    assert max(seconds for _, seconds in outcomes) < DEADLINE + ROOM
    own_postgres.thaw()
    await heals(fragile)


async def test_gathering_behind_a_call_that_is_stuck_does_not_double_the_wait(
    own_postgres: Frozen, settings: Settings
) -> None:
    db = await opened(settings, own_postgres.server.url, deadline=1.5)
    writes = Writes(lambda items: None)
    writes.gate.set()
    own_postgres.freeze()
    first = asyncio.ensure_future(took(db.together(writes, "first")))
    await writes.started.wait()
    second, seconds = await took(db.together(writes, "second"))
    own_postgres.thaw()
    assert type((await first)[0]) is OutcomeUnknown
    assert isinstance(second, Unavailable)
    assert seconds < 2 * 1.5
    await heals(db)
    await db.close()


async def test_a_commit_without_an_answer_has_an_unknown_outcome(own_postgres: Frozen, fragile: Db) -> None:
    told: list[Numbered] = []
    fragile.told = told.extend
    row = uuid4()

    async def write() -> None:
        async with fragile.transaction() as tx:
            await tx.records("insert into written values ($1)", (row,))
            own_postgres.freeze()

    outcome, seconds = await took(write())
    assert type(outcome) is OutcomeUnknown
    assert seconds < DEADLINE + ROOM
    assert told == []
    own_postgres.thaw()
    await heals(fragile)
    await fragile.records("insert into written values ($1) on conflict do nothing", (row,))


async def test_a_caller_that_gives_up_on_a_frozen_server_is_let_go_within_the_deadline(
    own_postgres: Frozen, fragile: Db
) -> None:
    async def impatient() -> None:
        async with asyncio.timeout(0.1):
            await fragile.ping()

    own_postgres.freeze()
    outcome, seconds = await took(impatient())
    assert isinstance(outcome, TimeoutError | Unavailable)
    assert seconds < 2 * DEADLINE
    own_postgres.thaw()
    await heals(fragile)


# A connection that is lost


async def test_a_connection_lost_between_two_statements_means_nothing_was_written(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def story() -> None:
        async with db.transaction() as tx:
            await cut(outside, await pid_of(tx))
            await tx.records("select 1", ())

    assert type(await raised_by(story())) is Unavailable
    await heals(db)


async def test_a_connection_lost_during_a_statement_means_nothing_was_written(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def story() -> None:
        async with db.transaction() as tx:
            cutting.append(asyncio.ensure_future(cut(outside, await pid_of(tx))))
            await tx.records("select pg_sleep(5)", ())

    cutting: list[asyncio.Future[None]] = []
    assert type(await raised_by(story())) is Unavailable
    await asyncio.gather(*cutting)
    await heals(db)


async def test_a_connection_cut_between_preparing_and_executing_is_unavailable(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = vars(asyncpg.Connection)["_get_statement"]

    async def cut_then(connection: asyncpg.Connection[asyncpg.Record], *asked: Any, **more: Any) -> Any:
        prepared = await prepare(connection, *asked, **more)
        connection.terminate()  # as the deadline does
        return prepared

    with monkeypatch.context() as cutting:
        cutting.setattr(asyncpg.Connection, "_get_statement", cut_then)
        assert isinstance(await raised_by(db.records("select 1", ())), Unavailable)
    await answers_again(db)


async def test_a_connection_lost_while_it_is_given_back_takes_no_answer_away(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_back = vars(asyncpg.pool.PoolConnectionHolder)["release"]

    async def lost_then(holder: Any, *more: Any) -> None:
        holder._con.terminate()
        while holder._in_use:
            await asyncio.sleep(0)
        await give_back(holder, *more)

    with monkeypatch.context() as losing:
        losing.setattr(asyncpg.pool.PoolConnectionHolder, "release", lost_then)
        assert [tuple(row) for row in await db.records("select 1", ())] == [(1,)]
    await answers_again(db)


async def test_a_connection_lost_before_commit_means_nothing_was_written(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    told: list[Numbered] = []
    db.told = told.extend
    channel = a_channel()

    async def story() -> None:
        async with db.transaction() as tx:
            tx.emit(Happened(number=1), to=[channel])
            await cut(outside, await pid_of(tx))

    assert type(await raised_by(story())) is Unavailable
    assert told == []
    await heals(db)
    assert await stored(db, channel) == 0


async def test_a_lost_connection_does_not_hide_what_was_decided_on_it(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def story() -> None:
        async with db.transaction() as tx:
            await cut(outside, await pid_of(tx))
            raise NotFound

    assert type(await raised_by(story())) is NotFound


async def test_a_transaction_that_outlives_the_deadline_is_given_up(hasty: Db) -> None:
    channel = a_channel()

    async def story() -> None:
        async with hasty.transaction() as tx:
            tx.emit(Happened(number=1), to=[channel])
            await tx.records("select 1", ())
            await asyncio.sleep(DEADLINE + 0.1)

    assert type(await raised_by(story())) is Unavailable
    assert await stored(hasty, channel) == 0


async def test_idle_connections_that_the_server_ended_cost_unavailable_at_most(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    for _ in range(5):
        busy = await asyncio.gather(*(db.records("select pg_backend_pid(), pg_sleep(0.01)", ()) for _ in range(3)))
        await outside.fetch(
            "select pg_terminate_backend(pid) from unnest($1::int[]) as pid", [row[0] for (row,) in busy]
        )
        outcomes = await asyncio.gather(*(db.ping() for _ in range(6)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), Unavailable}
        await heals(db)


async def test_a_statement_that_takes_too_long_is_unavailable(hasty: Db) -> None:
    outcome, seconds = await took(hasty.records("select pg_sleep(5)", ()))
    assert type(outcome) is Unavailable
    assert seconds < DEADLINE + ROOM
    await heals(hasty)


async def test_a_busy_pool_is_unavailable_within_the_deadline(hasty: Db) -> None:
    busy = [await hasty.pool.acquire() for _ in range(3)]
    outcome, seconds = await took(hasty.ping())
    for connection in busy:
        await hasty.pool.release(connection)
    assert type(outcome) is Unavailable
    assert seconds < DEADLINE + ROOM
    await heals(hasty)


async def test_a_deadlock_is_unavailable_for_one_and_well_for_the_other(settings: Settings, database_url: str) -> None:
    db = await opened(settings, database_url, deadline=3)
    held = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with db.transaction() as tx:
            await tx.records("set local deadlock_timeout = '10ms'", ())
            await tx.records("select pg_advisory_xact_lock(7, $1)", (first,))
            await held.wait()
            await tx.records("select pg_advisory_xact_lock(7, $1)", (second,))

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    await db.close()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "Unavailable"]


# What is told was committed


async def test_events_are_told_once_after_commit_in_the_order_they_were_made(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    told: list[Sequence[Numbered]] = []
    db.told = told.append
    channel = a_channel()
    async with db.transaction() as tx:
        emitted = [tx.emit(Happened(number=number), to=[channel]) for number in range(3)]
        assert emitted[0].position(channel) is None
        assert told == []
    ((*events,),) = told
    assert [(event.channel, event.offset, event.type) for event in events] == [
        (channel, offset, "test.happened") for offset in (1, 2, 3)
    ]
    positions = [one.position(channel) for one in emitted]
    assert [position.offset for position in positions if position is not None] == [1, 2, 3]
    seen = "select count(*) from events join streams on streams.id = stream_id where channel = $1"
    assert await outside.fetchval(seen, channel) == 3


async def test_an_exception_rolls_back_and_nothing_is_told(db: Db) -> None:
    told: list[Sequence[Numbered]] = []
    db.told = told.append
    channel, kept = a_channel(), a_channel()

    async def story() -> None:
        async with db.transaction() as tx:
            await tx.records("insert into streams (channel) values ($1)", (kept,))
            tx.emit(Happened(number=1), to=[channel])
            raise Conflict

    assert type(await raised_by(story())) is Conflict
    assert told == []
    assert await stored(db, channel) == 0
    assert await db.records("select from streams where channel = $1", (kept,)) == []


async def test_a_cancelled_transaction_rolls_back_and_nothing_is_told(db: Db) -> None:
    told: list[Sequence[Numbered]] = []
    db.told = told.append
    channel, inside = a_channel(), asyncio.Event()

    async def write() -> None:
        async with db.transaction() as tx:
            tx.emit(Happened(number=1), to=[channel])
            inside.set()
            await tx.records("select pg_sleep(5)", ())

    task = asyncio.ensure_future(write())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == []
    assert await stored(db, channel) == 0
    await heals(db)


@dataclass(frozen=True)
class Outcome:
    position: int
    events: bytes


ANNOUNCE = Statement(
    "announce",
    "with outcome as (select 1 as position, jsonb_build_array(jsonb_build_object('type', 'test.happened', 'to', "
    "array[$1::text], 'data', jsonb_build_object('number', 1))) as events) select * from outcome",
    Outcome,
)


async def test_a_single_statement_is_a_transaction_that_tells_its_events(db: Db) -> None:
    told: list[Sequence[Numbered]] = []
    db.told = told.append
    channel = a_channel()
    async with db.single() as tx:
        (announced,) = await tx.announce(ANNOUNCE, channel)
        assert told == []
    position = announced.emitted.position(channel)
    assert position is not None
    assert position.offset == 1
    assert [event.channel for event in told[0]] == [channel]
    assert await stored(db, channel) == 1


async def test_a_single_statement_is_one_and_no_more(db: Db) -> None:
    channel = a_channel()

    async def two(second: str) -> None:
        async with db.single() as tx:
            await tx.records("select 1", ())
            await tx.records(second, (channel,))

    for second in (ANNOUNCE.announcing, "select $1::text"):
        with pytest.raises(RuntimeError, match=r"db\.transaction\(\)"):
            await two(second)
    assert await stored(db, channel) == 0
    await heals(db)


async def test_a_single_statement_announces_in_sql_only(db: Db) -> None:
    with pytest.raises(RuntimeError, match="SQL"):
        async with db.single() as tx:
            tx.emit(Happened(number=1), to=[a_channel()])


# Sets


class Writes:
    """A set function whose calls can be counted, held back and made to fail."""

    def __init__(self, fail: Callable[[Sequence[str]], Exception | None]) -> None:
        self.__name__ = "writes"
        self.calls: list[list[str]] = []
        self.fail = fail
        self.started = asyncio.Event()
        self.gate = asyncio.Event()

    async def __call__(self, tx: Tx, items: Sequence[str]) -> Sequence[str | DomainError]:
        self.started.set()
        await self.gate.wait()
        self.calls.append(list(items))
        await tx.records("select 1", ())
        if (error := self.fail(items)) is not None:
            raise error
        return [NotFound() if item == "missing" else item.upper() for item in items]

    async def all(self, db: Db, items: Sequence[str]) -> list[object]:
        """The outcome of each item, gathered into one set behind a first one."""
        first = asyncio.ensure_future(db.together(self, "first"))
        await self.started.wait()
        rest = [asyncio.ensure_future(db.together(self, item)) for item in items]
        await asyncio.sleep(0)
        self.gate.set()
        assert await first == "FIRST"
        return list(await asyncio.gather(*rest, return_exceptions=True))


async def test_a_set_answers_everyone_their_own_outcome(db: Db) -> None:
    writes = Writes(lambda items: None)
    one, missing, two = await writes.all(db, ["one", "missing", "two"])
    assert (one, two) == ("ONE", "TWO")
    assert isinstance(missing, NotFound)
    assert writes.calls == [["first"], ["one", "missing", "two"]]


@pytest.mark.parametrize("poison", [asyncpg.CheckViolationError, asyncpg.StringDataRightTruncationError])
async def test_a_set_with_poison_is_halved_until_the_poison_stands_alone(db: Db, poison: type[Exception]) -> None:
    writes = Writes(lambda items: poison("no") if "poison" in items else None)
    outcomes = await writes.all(db, ["a", "b", "poison", "c", "d"])
    assert isinstance(outcomes.pop(2), poison)
    assert outcomes == ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    "race", [asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError]
)
async def test_a_set_that_lost_a_race_is_repeated_whole(db: Db, race: type[Exception]) -> None:
    races = iter([race("lost"), race("lost")])
    writes = Writes(lambda items: next(races, None) if "a" in items else None)
    assert await writes.all(db, ["a", "b"]) == ["A", "B"]
    assert writes.calls == [["first"], ["a", "b"], ["a", "b"], ["a", "b"]]


async def test_a_set_that_fails_for_another_reason_is_neither_repeated_nor_halved(db: Db) -> None:
    writes = Writes(lambda items: asyncpg.UndefinedTableError("none") if "a" in items else None)
    outcomes = await writes.all(db, ["a", "b"])
    assert [type(outcome) for outcome in outcomes] == [asyncpg.UndefinedTableError] * 2
    assert writes.calls == [["first"], ["a", "b"]]


async def test_a_set_whose_connection_is_lost_is_not_repeated(db: Db) -> None:
    writes = Writes(lambda items: ConnectionResetError() if "a" in items else None)
    outcomes = await writes.all(db, ["a", "b"])
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 2
    assert writes.calls == [["first"], ["a", "b"]]


async def test_losing_the_second_half_takes_nothing_back_from_the_first(db: Db) -> None:
    def fail(items: Sequence[str]) -> Exception | None:
        if "good" in items and "lost" in items:
            return asyncpg.CheckViolationError("halve it")
        return ConnectionResetError() if "lost" in items else None

    good, lost = await Writes(fail).all(db, ["good", "lost"])
    assert good == "GOOD"
    assert isinstance(lost, OutcomeUnknown)


async def test_closing_lets_running_sets_finish(settings: Settings, database_url: str) -> None:
    db = await opened(settings, database_url)
    writes = Writes(lambda items: None)
    tasks = [asyncio.ensure_future(db.together(writes, item)) for item in "abc"]
    await writes.started.wait()
    closing = asyncio.ensure_future(db.close())
    await asyncio.sleep(0)
    assert not closing.done()
    writes.gate.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    await closing
