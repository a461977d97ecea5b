"""What can be broken. Each fault is a context: broken on entry, healed on exit. Two at once share nothing of `hits`.

A fault draws what it needs from `world.rng` and stays broken for as long as the run holds it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal, Protocol

import asyncpg
import psutil

from tests.faults.proof.device import Device
from tests.faults.proof.proxy import Proxy, Trap
from tests.faults.proof.servers import AWAY, App, Disk, Postgres, Valkey
from tests.faults.proof.town import Talk, Town

# A trap or a trigger waits for a write to fall into it.
TRAP_SECONDS = 5.0
# How long a stream is held: less than the deadline of those who wait for it.
LOCK_SECONDS = 1.5
FLOOD = "for _ = 1, 2000 do redis.call('PUBLISH', ARGV[1], ARGV[2]) end"
# A stream has no row before its first event: whoever would open it waits for this transaction as well.
LOCK = "insert into streams (channel) values ($1) on conflict (channel) do update set channel = excluded.channel"
# Longer than the deadline: those who wait are refused, and again.
LONG_LOCK_SECONDS = 5.0
LOCK_LEAD = "select from leads where id = (select lead_id from conversations where id = $1) for update"
LOCK_CONVERSATION = "select from conversations where id = $1 for update"
LOCK_LISTING = "select from listings where id = $1 for update"
DEADLOCKS = "select deadlocks from pg_stat_database where datname = 'k2k'"
WAITING = """
    select count(*) from pg_stat_activity
    where application_name = 'k2k' and wait_event_type = 'Lock'
      and ($1::int is null or $1 = any (pg_blocking_pids(pid)))"""
TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'k2k'"
# database.pool_max
POOL = 10
HANG_UPS = 150
HOUR = 3600


class World(Protocol):
    """What faults may touch."""

    rng: random.Random
    apps: list[App]
    postgres: Postgres
    valkey: Valkey
    town: Town
    disk: Disk

    def all_devices(self) -> Sequence[Device]: ...

    def speak(self, talk: Talk) -> None:
        """Have one of the two say something, now."""

    def hang_up(self, talk: Talk, seconds: float) -> None:
        """Have one of the two say something and be gone so many seconds later."""

    def reprice(self, talk: Talk, app: App) -> None:
        """Have the agent change the price, at this process first."""

    async def travel(self, app: App) -> None:
        """Somebody new signs in at this process and is known everywhere, and the other way round."""


Inflict = Callable[[World], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    name: str
    hits: frozenset[str]
    inflict: Inflict
    drawn: bool
    """Whether it takes part in the mixture. Those that do not need a disk of their own."""


FAULTS: dict[str, Fault] = {}


def fault(*hits: str, drawn: bool = True) -> Callable[[Callable[[World], AsyncIterator[None]]], Inflict]:
    """Register a generator function under its own name, with spaces."""

    def register(function: Callable[[World], AsyncIterator[None]]) -> Inflict:
        inflict = asynccontextmanager(function)
        name = function.__name__.replace("_", " ")
        FAULTS[name] = Fault(name, frozenset(hits), inflict, drawn)
        return inflict

    return register


# Processes


@fault("app")
async def app_killed(world: World) -> AsyncIterator[None]:
    app = world.rng.choice(world.apps)
    await app.end(signal.SIGKILL)
    yield
    await app.start()


@fault("app")
async def app_frozen(world: World) -> AsyncIterator[None]:
    app = world.rng.choice(world.apps)
    app.signal(signal.SIGSTOP)
    yield
    app.signal(signal.SIGCONT)


@fault("app", "postgres", "writes")
async def app_killed_between_commit_and_publish(world: World) -> AsyncIterator[None]:
    app = world.rng.choice(world.apps)
    app.trigger.touch()
    assert app.process is not None
    await asyncio.wait_for(app.process.wait(), TRAP_SECONDS)
    yield
    await app.start()


@fault("app", "postgres")  # a process does not start without its database
async def rolling_restart(world: World) -> AsyncIterator[None]:
    for app in world.rng.sample(world.apps, len(world.apps)):
        await app.end(signal.SIGTERM)
        await app.start()
    yield


@fault("app", "postgres")  # as with the restart above
async def clock_set_wrong(world: World) -> AsyncIterator[None]:
    """An hour too early or too late: while it runs, from its start on, and back."""
    app = world.rng.choice(world.apps)
    app.clock.write_text(str(world.rng.choice((-HOUR, HOUR))))
    try:
        await world.travel(app)
        await app.end(signal.SIGTERM)
        await app.start()
        await world.travel(app)
        yield
    finally:
        app.clock.unlink()
    await world.travel(app)


@fault("clients", "writes")
async def clients_hang_up(world: World) -> AsyncIterator[None]:
    """Right after they sent something, at any moment of its being written."""
    for _ in range(HANG_UPS):
        world.hang_up(world.rng.choice(world.town.talks), world.rng.uniform(0, 0.03))
        await asyncio.sleep(0.01)
    yield


@fault("clients")
async def clients_dropped(world: World) -> AsyncIterator[None]:
    devices = list(world.all_devices())
    for device in world.rng.sample(devices, len(devices) // 2):
        device.drop()
        await asyncio.sleep(0.01)
    yield


# Valkey


@fault("valkey")
async def valkey_killed(world: World) -> AsyncIterator[None]:
    await world.valkey.kill()
    yield
    await world.valkey.start()


@fault("valkey")
async def valkey_restarted_empty_at_once(world: World) -> AsyncIterator[None]:
    await world.valkey.kill()
    await world.valkey.start()
    yield


@fault("valkey")
async def valkey_frozen(world: World) -> AsyncIterator[None]:
    world.valkey.freeze()
    yield
    world.valkey.thaw()


@fault("valkey")
async def pubsub_connections_killed(world: World) -> AsyncIterator[None]:
    for _ in range(3):
        await world.valkey.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(0.3)
    yield


@fault("valkey")
async def subscriber_output_overflowed(world: World) -> AsyncIterator[None]:
    """Each process listens to the bare prefix as well, so more than a buffer takes, all in one moment, reaches all."""
    limit = "client-output-buffer-limit"
    before = await world.valkey.ask("INFO", "stats")
    await world.valkey.ask("CONFIG", "SET", limit, "pubsub 32768 0 0")
    await world.valkey.ask("EVAL", FLOOD, 0, "k2k:", "x" * 100)
    yield
    await world.valkey.ask("CONFIG", "SET", limit, "pubsub 33554432 8388608 60")
    counter = "client_output_buffer_limit_disconnections"
    after = await world.valkey.ask("INFO", "stats")
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert after[counter] > before[counter], "no subscriber was cut for its full buffer"


@fault("valkey")
async def valkey_slow(world: World) -> AsyncIterator[None]:
    async with slow(world.rng, world.valkey.proxies):
        yield


@fault("valkey")
async def valkey_connections_reset(world: World) -> AsyncIterator[None]:
    async with reset_again_and_again(world.valkey.proxies):
        yield


@fault("valkey")
async def valkey_dark(world: World) -> AsyncIterator[None]:
    async with dark(some(world.rng, world.valkey.proxies)):
        yield


# PostgreSQL


@fault("postgres")
async def postgres_killed(world: World) -> AsyncIterator[None]:
    await world.postgres.kill()
    yield
    await world.postgres.start()


@fault("postgres")
async def postgres_backend_killed(world: World) -> AsyncIterator[None]:
    """The postmaster then ends all its children and recovers from the log."""
    backends = [one for one in world.postgres.family()[:-1] if _is_client_backend(one)]
    os.kill(world.rng.choice(backends).pid, signal.SIGKILL)
    yield


@fault("postgres")
async def postgres_frozen(world: World) -> AsyncIterator[None]:
    world.postgres.freeze()
    yield
    world.postgres.thaw()


@fault("postgres")
async def postgres_slow(world: World) -> AsyncIterator[None]:
    async with slow(world.rng, some(world.rng, world.postgres.proxies)):
        yield


@fault("postgres")
async def postgres_stalled(world: World) -> AsyncIterator[None]:
    proxies = some(world.rng, world.postgres.proxies)
    for proxy in proxies:
        proxy.flows.clear()
    yield
    for proxy in proxies:
        proxy.flows.set()


@fault("postgres")
async def postgres_dark(world: World) -> AsyncIterator[None]:
    async with dark(some(world.rng, world.postgres.proxies)):
        yield


@fault("postgres")
async def postgres_connections_reset(world: World) -> AsyncIterator[None]:
    async with reset_again_and_again(world.postgres.proxies):
        yield


@fault("postgres", "writes")
async def reset_before_commit(world: World) -> AsyncIterator[None]:
    async with trapped(world, "before"):
        yield


@fault("postgres", "writes")
async def reset_after_commit(world: World) -> AsyncIterator[None]:
    async with trapped(world, "after"):
        yield


@fault("postgres")
async def postgres_sessions_terminated(world: World) -> AsyncIterator[None]:
    await world.postgres.asked(lambda database: database.execute(TERMINATE))
    yield


@fault("postgres")
async def connections_exhausted(world: World) -> AsyncIterator[None]:
    """Strangers take every connection there is, those of the processes too; what is kept for superusers is ours."""
    async with AsyncExitStack() as crowd:
        for _ in range(3):
            await world.postgres.asked(lambda database: database.execute(TERMINATE))
            await fill(world.postgres, crowd)
        yield


@fault("app", "postgres", "writes")
async def pool_exhausted(world: World) -> AsyncIterator[None]:
    """More wait for one row at one process than it has connections, and then once more."""
    app, talk = world.rng.choice(world.apps), world.rng.choice(world.town.talks)
    async with holding(world, LOCK_LISTING, talk.listing):
        for _ in range(2 * POOL):
            world.reprice(talk, app)
        await waiting(world.postgres, POOL)
        yield


@fault("app", "clients", "postgres", "writes")  # whoever is to run into it must not be hindered
async def deadlocks(world: World) -> AsyncIterator[None]:
    """Somebody else locks a person's stream and then the lead, those who write a message the other way round."""
    talk = world.rng.choice([talk for talk in world.town.talks if talk.quiet])
    before = await world.postgres.asked(lambda database: database.fetchval(DEADLOCKS))
    async with holding(world, LOCK, talk.people[0].channel) as connection:
        await connection.execute("set local deadlock_timeout = '1min'")  # they find it first, and give way
        world.speak(talk)
        await waiting(world.postgres, 1, behind=connection.get_server_pid())
        await connection.execute(LOCK_LEAD, talk.id)
    await counted(world.postgres, before + 1)
    yield


@fault("postgres", "writes")
async def hot_row_locked_for_long(world: World) -> AsyncIterator[None]:
    """Whoever writes to a busy conversation is refused, and whoever is gathered with them."""
    talk = world.rng.choice([talk for talk in world.town.talks if not talk.quiet])
    rows = [(LOCK, talk.people[0].channel), (LOCK_LEAD, talk.id), (LOCK_CONVERSATION, talk.id)]
    async with holding(world, *world.rng.choice(rows)):
        await asyncio.sleep(LONG_LOCK_SECONDS)
    yield


@fault("postgres", "writes", drawn=False)
async def disk_full(world: World) -> AsyncIterator[None]:
    """No byte is left for the log: PostgreSQL ends, and cannot come back before there is room."""
    world.disk.fill()
    with suppress(*AWAY, asyncpg.PostgresError):
        connection = await world.postgres.connect()
        await connection.execute("select pg_switch_wal()")  # the next write needs a new file
    yield
    world.disk.free()
    await world.postgres.recover()


@fault("postgres", "writes")
async def hot_stream_locked(world: World) -> AsyncIterator[None]:
    """Whoever writes to somebody busy waits, and whoever is gathered with them."""
    talk = world.rng.choice([talk for talk in world.town.talks if not talk.quiet])
    async with locked(world, talk.people[0].channel):
        await asyncio.sleep(LOCK_SECONDS)
    yield


@fault("postgres", "writes")
async def one_commit_late(world: World) -> AsyncIterator[None]:
    """A price begins to change, waits to be told of, and is committed after many writes that began later.

    Nothing else happens in that stream: only whoever asks for what was not yet committed ever finds it.
    """
    talk = world.rng.choice([talk for talk in world.town.talks if talk.quiet])
    async with locked(world, f"listing:{talk.listing}"):
        world.reprice(talk, world.rng.choice(world.apps))
        await asyncio.sleep(LOCK_SECONDS)
    yield


def _is_client_backend(one: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return " k2k " in " ".join(one.cmdline())
    return False


def some(rng: random.Random, proxies: Sequence[Proxy]) -> list[Proxy]:
    """The way of one process to the server, or that of all."""
    return list(proxies) if rng.random() < 0.5 else [rng.choice(proxies)]


@asynccontextmanager
async def slow(rng: random.Random, proxies: Sequence[Proxy]) -> AsyncIterator[None]:
    for proxy in proxies:
        proxy.delay = rng.uniform(0.05, 0.5)
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.delay = 0.0


@asynccontextmanager
async def dark(proxies: Sequence[Proxy]) -> AsyncIterator[None]:
    for proxy in proxies:
        proxy.darken()
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.light()


@asynccontextmanager
async def reset_again_and_again(proxies: Sequence[Proxy]) -> AsyncIterator[None]:
    for _ in range(3):
        for proxy in proxies:
            proxy.reset()
        await asyncio.sleep(0.3)
    yield


@asynccontextmanager
async def trapped(world: World, when: Literal["before", "after"]) -> AsyncIterator[None]:
    """Resets the next commits of every process, at least one in all."""
    traps = []
    for proxy in world.postgres.proxies:
        proxy.trap = Trap(when, left=3)
        traps.append(proxy.trap)
    try:
        end = asyncio.get_running_loop().time() + TRAP_SECONDS
        while not any(trap.sprung for trap in traps) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)
        yield
    finally:
        for proxy in world.postgres.proxies:
            proxy.trap = None
    assert any(trap.sprung for trap in traps), "nothing was committed while the trap was set"


@asynccontextmanager
async def locked(world: World, channel: str) -> AsyncIterator[None]:
    """Hold this stream, so that nothing can be numbered in it."""
    async with holding(world, LOCK, channel):
        yield


@asynccontextmanager
async def holding(world: World, statement: str, *arguments: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A transaction of somebody else's that holds what the statement locks."""
    connection = await world.postgres.connect()
    try:
        async with connection.transaction():
            await connection.execute(statement, *arguments)
            yield connection
    finally:
        connection.terminate()


async def fill(postgres: Postgres, crowd: AsyncExitStack) -> None:
    """Connect until nobody else is let in."""
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            crowd.callback((await postgres.stranger()).terminate)


async def waiting(postgres: Postgres, count: int, *, behind: int | None = None) -> None:
    """Until so many connections of the processes wait for a row, the one that the backend `behind` holds if given."""
    end = asyncio.get_running_loop().time() + TRAP_SECONDS
    while (found := await postgres.asked(lambda database: database.fetchval(WAITING, behind))) < count:
        assert asyncio.get_running_loop().time() < end, f"only {found} of {count} connections wait for the row"
        await asyncio.sleep(0.02)


async def counted(postgres: Postgres, deadlocks: int) -> None:
    """Until PostgreSQL has counted so many deadlocks; a second late, as it counts."""
    end = asyncio.get_running_loop().time() + TRAP_SECONDS
    while (found := await postgres.asked(lambda database: database.fetchval(DEADLOCKS))) < deadlocks:
        assert asyncio.get_running_loop().time() < end, f"{deadlocks - found} deadlocks did not come about"
        await asyncio.sleep(0.1)
