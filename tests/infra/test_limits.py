"""Counting what is taken: exactly, over all processes, and still somehow when Redis is away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs

from k2k.core.settings import RedisSettings, Settings
from k2k.infra import embedded, limits
from k2k.infra.limits import GCRA, MICROSECONDS, Limits, Rate, Standing
from k2k.infra.metrics import Metrics
from k2k.infra.valkey import SOCKET_SECONDS
from tests.support import ROOT, eventually

HOUR = 3600 * MICROSECONDS
SLOW = Rate(10, seconds=3600)
"""Nothing is paid back while a test runs."""


@pytest.fixture
def apart(settings: Settings) -> RedisSettings:
    """The run's Valkey, under a prefix of the test's own."""
    return settings.redis.model_copy(update={"prefix": f"limits-{uuid4().hex}"})


@asynccontextmanager
async def counting(redis_settings: RedisSettings, processes: int = 1) -> AsyncIterator[list[Limits]]:
    """What so many processes count with."""
    opened = [Limits(redis_settings, Metrics()) for _ in range(processes)]
    try:
        yield opened
    finally:
        for one in opened:
            await one.close()


@pytest.fixture
async def counted(apart: RedisSettings) -> AsyncIterator[Limits]:
    async with counting(apart) as (one,):
        yield one


@pytest.fixture
async def raw(apart: RedisSettings) -> AsyncIterator[Redis]:
    async with Redis.from_url(apart.url.get_secret_value(), decode_responses=True) as client:
        yield client


async def server_clock(raw: Redis) -> int:
    seconds, microseconds = await raw.time()
    return int(seconds) * MICROSECONDS + int(microseconds)


def granted(standings: Sequence[Standing]) -> int:
    return sum(standing.granted for standing in standings)


# The arithmetic


class Bucket:
    """The same promise told in another way: a bucket of `count` that fills evenly, with a clock of its own."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.held = rate.window

    def pass_by(self, microseconds: int) -> None:
        self.held = min(self.rate.window, self.held + microseconds)

    def take(self) -> tuple[bool, int, int]:
        """Whether one more was there, how many are left, and the seconds until it is full."""
        had = self.held >= self.rate.interval
        self.held -= self.rate.interval if had else 0
        return had, self.held // self.rate.interval, -(-(self.rate.window - self.held) // MICROSECONDS)


RATES = st.one_of(
    st.builds(Rate, st.integers(1, 1000), st.integers(1, 3600)),
    st.sampled_from([Rate(1, 86_400), Rate(100_000, 1), Rate(3, 1), Rate(7, 60), Rate(1, 1), Rate(10_000_000, 1)]),
)
WAITS = st.lists(st.one_of(st.just(0), st.integers(0, 10**7), st.integers(0, 10**11)), max_size=40)


def told(standing: Standing) -> tuple[bool, int, int]:
    return standing.granted, standing.remaining, standing.reset


@given(RATES, WAITS)
def test_a_debt_is_a_bucket_that_fills_evenly(rate: Rate, waits: list[int]) -> None:
    bucket, debt = Bucket(rate), 0
    for wait in waits:
        bucket.pass_by(wait)
        standing = Standing.after(debt - wait, rate)
        assert told(standing) == bucket.take()
        debt = standing.debt


@given(RATES, st.integers(0, 10**12))
def test_who_waits_as_told_gets_in_and_not_a_second_earlier(rate: Rate, debt: int) -> None:
    standing = Standing.after(debt, rate)
    assert (standing.remaining == 0) == (standing.retry_after > 0)
    assert Standing.after(standing.debt - standing.retry_after * MICROSECONDS, rate).granted
    if standing.retry_after > 0:
        assert not Standing.after(standing.debt - (standing.retry_after - 1) * MICROSECONDS, rate).granted
    assert standing.retry_after <= standing.reset <= -(-rate.window // MICROSECONDS)
    whole = Standing.after(standing.debt - standing.reset * MICROSECONDS, rate)
    assert whole.granted
    assert whole.remaining == rate.count - 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RATES, WAITS)
def test_redis_reckons_as_we_do(apart: RedisSettings, rate: Rate, waits: list[int]) -> None:
    """The script, with a clock that the test moves."""
    script = GCRA
    for part, instead in {"redis.call('TIME')": "{ARGV[3], ARGV[4]}", ", 'PX', math.ceil(debt / 1000)": ""}.items():
        assert part in script
        script = script.replace(part, instead)
    bucket, now, key = Bucket(rate), 1_790_000_000 * MICROSECONDS, uuid4().hex
    with redis.Redis.from_url(apart.url.get_secret_value()) as client:
        for wait in waits:
            now += wait
            bucket.pass_by(wait)
            debt, had = client.eval(script, 1, key, rate.interval, rate.window, now // MICROSECONDS, now % MICROSECONDS)
            assert told(Standing(rate, debt, bool(had))) == bucket.take()
        client.delete(key)


# Over all processes


async def test_exactly_a_burst_passes_whoever_counts(apart: RedisSettings) -> None:
    async with counting(apart, processes=3) as processes:
        asked = [processes[number % 3].take("somebody", SLOW) for number in range(SLOW.count * 5)]
        standings = await asyncio.gather(*asked)
    assert granted(standings) == SLOW.count
    assert sorted(standing.remaining for standing in standings if standing.granted) == list(range(SLOW.count))


TAKER = """
import asyncio, sys
from pydantic import SecretStr
from k2k.core.settings import RedisSettings
from k2k.infra.limits import Limits, Rate
from k2k.infra.metrics import Metrics
from k2k.infra.valkey import SOCKET_SECONDS

async def main():
    limits = Limits(RedisSettings(url=SecretStr(sys.argv[1]), prefix=sys.argv[2]), Metrics())
    print("ready", flush=True)
    sys.stdin.readline()
    taken = await asyncio.gather(*(limits.take("somebody", Rate(10, seconds=3600)) for _ in range(20)))
    print(sum(standing.granted for standing in taken))
    await limits.close()

asyncio.run(main())
"""


async def test_exactly_a_burst_passes_in_three_real_processes(apart: RedisSettings) -> None:
    command = (sys.executable, "-c", TAKER, apart.url.get_secret_value(), apart.prefix)
    takers = [await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE) for _ in range(3)]
    try:
        for taker in takers:
            assert taker.stdout is not None
            assert await asyncio.wait_for(taker.stdout.readline(), 20) == b"ready\n"
        said = await asyncio.wait_for(asyncio.gather(*(taker.communicate(b"\n") for taker in takers)), 20)
    finally:
        for taker in takers:
            if taker.returncode is None:
                taker.kill()
                await taker.wait()
    assert sum(int(out) for out, _ in said) == SLOW.count


async def test_two_keys_have_a_burst_each(counted: Limits) -> None:
    standings = await asyncio.gather(*(counted.take(f"one {number % 2}", SLOW) for number in range(50)))
    assert granted(standings) == SLOW.count * 2


async def test_what_arrives_together_is_asked_together(counted: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, ask = [], counted._ask

    async def noted(wishes: Sequence[tuple[str, Rate]]) -> list[Standing]:
        calls.append(len(wishes))
        return await ask(wishes)

    monkeypatch.setattr(counted, "_ask", noted)
    standings = await asyncio.gather(*(counted.take("somebody", Rate(1000, seconds=3600)) for _ in range(500)))
    assert granted(standings) == 500
    assert sorted(standing.remaining for standing in standings) == list(range(500, 1000))
    assert len(calls) <= 3


async def test_after_the_burst_one_more_is_granted_in_each_interval(counted: Limits) -> None:
    """Over a while no more than the burst and what was paid back meanwhile, and no less."""
    rate = Rate(10, seconds=1)
    begun, taken = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < 1:
        before = passed
        taken += (await counted.take("busy", rate)).granted
    assert rate.count + int(before * 10) - 1 <= taken <= rate.count + (time.monotonic() - begun) * 10


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "ключ ሰላም", "line\nbreak\r\n", "{tag}", "*", "x" * 10_000, "address:2001:db8::/64", "\x00"]
)
async def test_any_text_is_a_key(counted: Limits, key: str) -> None:
    standings = [await counted.take(key, Rate(2, seconds=3600)) for _ in range(3)]
    assert [standing.granted for standing in standings] == [True, True, False]


async def test_what_is_paid_back_leaves_nothing_behind(counted: Limits, raw: Redis, apart: RedisSettings) -> None:
    await counted.take("passing by", Rate(100, seconds=1))

    async def gone() -> bool:
        return not await raw.exists(f"{apart.prefix}:limit:passing by")

    await eventually(gone, seconds=2)


# When what stands in Redis is not what we wrote


async def test_a_clock_set_back_locks_nobody_out_for_longer_than_the_window(
    counted: Limits, raw: Redis, apart: RedisSettings
) -> None:
    rate, key = Rate(5, seconds=0.5), f"{apart.prefix}:limit:early"
    await raw.set(key, await server_clock(raw) + HOUR, px=3_600_000)
    assert not (await counted.take("early", rate)).granted

    async def gets_in() -> bool:
        return (await counted.take("early", rate)).granted

    await eventually(gets_in)
    assert await raw.pttl(key) <= 500


async def test_asking_all_the_while_does_not_lengthen_the_wait(counted: Limits) -> None:
    rate = Rate(1, seconds=0.3)
    begun = time.monotonic()
    assert (await counted.take("impatient", rate)).granted
    refused = 0
    while not (await counted.take("impatient", rate)).granted:
        refused += 1
        assert time.monotonic() - begun < 5
    assert refused > 3
    assert time.monotonic() - begun > 0.29


@pytest.mark.parametrize("found", ["", "soon", "nan", "-1", "12e", "\x00"])
async def test_what_is_no_time_counts_as_nothing(counted: Limits, raw: Redis, apart: RedisSettings, found: str) -> None:
    await raw.set(f"{apart.prefix}:limit:odd", found)
    standings = [await counted.take("odd", SLOW) for _ in range(SLOW.count + 1)]
    assert granted(standings) == SLOW.count


@pytest.mark.parametrize("found", ["inf", "1e300", "9" * 400])
async def test_a_time_without_end_ends_with_the_window(
    counted: Limits, raw: Redis, apart: RedisSettings, found: str
) -> None:
    await raw.set(f"{apart.prefix}:limit:endless", found)
    standing = await counted.take("endless", SLOW)
    assert (standing.granted, standing.reset) == (False, 3600)
    assert await raw.pttl(f"{apart.prefix}:limit:endless") <= 3_600_000


async def test_a_key_of_another_type_is_written_over_and_its_neighbours_are_counted_on(
    counted: Limits, raw: Redis, apart: RedisSettings
) -> None:
    await raw.rpush(f"{apart.prefix}:limit:list", "x")
    with capture_logs() as logged:
        standings = await asyncio.gather(*(counted.take(name, SLOW) for name in ["list", "other"] * SLOW.count * 2))
    assert granted(standings) == SLOW.count * 2
    assert not logged


async def test_flushing_redis_costs_a_fresh_burst_at_most(own_valkey: embedded.Server, apart: RedisSettings) -> None:
    own = apart.model_copy(update={"url": SecretStr(own_valkey.url)})
    async with counting(own) as (one,), Redis.from_url(own_valkey.url) as raw:
        before = [await one.take("somebody", SLOW) for _ in range(SLOW.count + 5)]
        await raw.flushall()
        await raw.script_flush()
        after = [await one.take("somebody", SLOW) for _ in range(SLOW.count + 5)]
    assert (granted(before), granted(after)) == (SLOW.count, SLOW.count)


async def test_a_narrower_rate_takes_hold_at_once(counted: Limits) -> None:
    """A deployment that changes a rate leaves nobody owing what was never allowed."""
    for _ in range(100):
        await counted.take("somebody", Rate(100, seconds=3600))
    assert (await counted.take("somebody", Rate(10, seconds=60))).reset <= 60


# When Redis is away


@pytest.fixture
async def own(
    own_valkey: embedded.Server, apart: RedisSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Limits]:
    """Limits on a Valkey that may be killed, which is asked again soon."""
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 0.3)
    async with counting(apart.model_copy(update={"url": SecretStr(own_valkey.url)})) as (one,):
        assert (await one.take("warm", SLOW)).granted
        yield one


async def takes(one: Limits, key: str, count: int) -> list[Standing]:
    """What so many callers at once are answered, each in the end."""
    async with asyncio.timeout(10):
        return await asyncio.gather(*(one.take(key, SLOW) for _ in range(count)))


async def counts_in(one: Limits, client: Redis) -> bool:
    """Whether what is taken is counted in Redis."""
    key = uuid4().hex
    await one.take(key, SLOW)
    return bool(await client.exists(one._prefix + key))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_nobody_waits_for_a_redis_that_is_gone(
    own: Limits, own_valkey: embedded.Server, number: signal.Signals
) -> None:
    """A thousand at once are more than one call takes: those behind the first wait for no silence of their own."""
    os.kill(own_valkey.pid, number)
    try:
        with capture_logs() as logged:
            standings = await takes(own, "somebody", 1000)
        assert granted(standings) == SLOW.count
        silences = ["redis away: each process limits for itself"]
        assert [line["event"] for line in logged] == silences, "each is logged, and one is waited for"
        begun = time.monotonic()
        assert not (await own.take("somebody", SLOW)).granted
        assert time.monotonic() - begun < SOCKET_SECONDS
    finally:
        if number is signal.SIGSTOP:
            os.kill(own_valkey.pid, signal.SIGCONT)


async def test_a_thawed_redis_counts_again(own: Limits, own_valkey: embedded.Server) -> None:
    os.kill(own_valkey.pid, signal.SIGSTOP)
    await takes(own, "somebody", 3)
    os.kill(own_valkey.pid, signal.SIGCONT)
    async with Redis.from_url(own_valkey.url) as raw:
        await eventually(lambda: counts_in(own, raw), seconds=5)


async def test_a_restarted_redis_counts_again(own: Limits, own_valkey: embedded.Server, tmp_path: Path) -> None:
    os.kill(own_valkey.pid, signal.SIGKILL)
    own_valkey._process.wait(10)
    assert granted(await takes(own, "somebody", SLOW.count + 1)) == SLOW.count
    command = [str(word) for word in own_valkey._process.args]  # type: ignore[union-attr]
    again = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=DEVNULL)
    try:
        async with Redis.from_url(own_valkey.url, retry=None) as raw:

            async def counted_there() -> bool:
                try:
                    return await counts_in(own, raw)
                except redis.ConnectionError:
                    return False

            await eventually(counted_there, seconds=10)
    finally:
        again.kill()
        await again.wait()


async def test_a_full_redis_is_one_that_is_away(own: Limits, own_valkey: embedded.Server) -> None:
    async with Redis.from_url(own_valkey.url) as raw:
        await raw.config_set("maxmemory-policy", "noeviction")
        await raw.config_set("maxmemory", "1")
        with capture_logs() as logged:
            assert granted(await takes(own, "somebody", SLOW.count * 2)) == SLOW.count
        assert len(logged) == 1
        await raw.config_set("maxmemory", "0")
        await eventually(lambda: counts_in(own, raw), seconds=5)


async def test_a_redis_that_became_a_replica_is_one_that_is_away(own: Limits, own_valkey: embedded.Server) -> None:
    """And its connections are given up: the name may lead to the new primary by now."""
    async with Redis.from_url(own_valkey.url) as raw:
        before = {client["id"] for client in await raw.client_list()}
        await raw.replicaof("127.0.0.1", 1)
        assert granted(await takes(own, "somebody", SLOW.count * 2)) == SLOW.count
        await raw.replicaof("NO", "ONE")
        await eventually(lambda: counts_in(own, raw), seconds=5)
        mine = await raw.client_id()
        assert {client["id"] for client in await raw.client_list()} & before == {str(mine)}


SILENT = b""
"""The connection is closed without an answer."""


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Valkey is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b"-NOSCRIPT No matching script. Please use EVAL.\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-BUSY Valkey is busy running a script.\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
        b"*2\r\n:1\r\n",
        b"\x00\xffno protocol at all\r\n",
        SILENT,
    ],
    ids=lambda answer: bytes(answer[:9]).decode("ascii", "replace").strip() or "closed",
)
async def test_whatever_redis_answers_everybody_gets_a_standing(apart: RedisSettings, answer: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answer != SILENT and await reader.read(65536):
            writer.write(answer * 20)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    own = apart.model_copy(update={"url": SecretStr(f"redis://127.0.0.1:{port}/0")})
    async with server, counting(own) as (one,):
        assert granted(await takes(one, "somebody", SLOW.count * 2)) == SLOW.count


async def test_what_is_counted_here_is_bounded(
    own: Limits, own_valkey: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks most is remembered longest."""
    monkeypatch.setattr(limits, "MOST_COUNTED_HERE", 100)
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 60)
    os.kill(own_valkey.pid, signal.SIGKILL)
    for number in range(1000):
        await own.take("busy", SLOW)
        await own.take(f"passer-by {number}", SLOW)
    assert len(own._here) == 100
    assert not (await own.take("busy", SLOW)).granted
    assert (await own.take("passer-by 1", SLOW)).remaining == SLOW.count - 1


async def test_a_caller_who_leaves_disturbs_nobody(counted: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = asyncio.Event()
    ask = counted._ask

    async def slowly(wishes: Sequence[tuple[str, Rate]]) -> list[Standing]:
        await hold.wait()
        return await ask(wishes)

    monkeypatch.setattr(counted, "_ask", slowly)
    leaver, stayer = (asyncio.ensure_future(counted.take("somebody", SLOW)) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    hold.set()
    assert (await stayer).granted
    assert leaver.cancelled()


async def test_a_connection_lost_a_moment_ago_is_a_redis_that_is_away(apart: RedisSettings) -> None:
    """On uvloop, which serves: its streams refuse in a way of their own."""

    async def lost() -> list[bool]:
        async with counting(apart) as (one,):
            first = await one.take("key", SLOW)
            (connection,) = one._redis.connection_pool._available_connections
            assert connection._writer is not None
            connection._writer.transport.abort()
            return [first.granted, (await one.take("key", SLOW)).granted]

    def on_uvloop() -> list[bool]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(lost())

    assert await asyncio.to_thread(on_uvloop) == [True, True]
