"""Events stay as long as promised and then go by whole partitions; nobody waits for that, and no reader is fooled."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeAlias
from uuid import uuid4

import asyncpg
import psycopg
import pytest
from pydantic import SecretStr

from k2k.core.clock import Clock
from k2k.core.ids import Channel
from k2k.core.settings import Settings
from k2k.infra import migrations
from k2k.infra.db import Db
from k2k.infra.retention import tend
from k2k.infra.streams import READ, TAIL, Event, Streams
from tests.conftest import TEMPLATE
from tests.support import ROOT

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

MONTH, DAY = Channel("user:somebody"), Channel("listing:something")
PROMISED = {MONTH: timedelta(days=30), DAY: timedelta(days=1)}
UNIT = {MONTH: timedelta(weeks=1), DAY: timedelta(days=1)}


class Told(Event):
    type: ClassVar[str] = "test.told"


@pytest.fixture
async def url(servers: tuple[str, str]) -> AsyncIterator[str]:
    """A database whose partitions are this test's own."""
    name = f"k2k_kept_{uuid4().hex[:8]}"
    yield await migrations.ensure_database(servers[0], name, template=TEMPLATE)
    with psycopg.connect(servers[0], autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
async def db(settings: Settings, url: str) -> AsyncIterator[Db]:
    database = settings.database.model_copy(
        update={"url": SecretStr(url), "pool_min": 1, "pool_max": 4, "deadline_seconds": 30.0}
    )
    db = await Db.open(database, Clock())
    yield db
    await db.close()


@pytest.fixture
async def outside(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def tell(db: Db, number: int = 1, to: tuple[Channel, ...] = (MONTH, DAY)) -> None:
    async with db.transaction() as tx:
        for _ in range(number):
            tx.emit(Told(), to)


async def partitions(outside: Connection) -> set[str]:
    rows = await outside.fetch("select relid::regclass::text from pg_partition_tree('events') where isleaf")
    return {row[0] for row in rows}


async def standing(outside: Connection) -> list[Any]:
    """Every event, without the partition it stands in."""
    rows = await outside.fetch(
        'select stream_id, "offset", id, type, data, at, xid::text, kept from events order by 1, 2'
    )
    return [tuple(row) for row in rows]


async def spilled(outside: Connection) -> int:
    """Events in the default partitions."""
    found: int = await outside.fetchval(
        "select (select count(*) from events_month_default) + (select count(*) from events_day_default)"
    )
    return found


def end_of(channel: Channel, moment: datetime) -> datetime:
    """When the partition that `moment` falls into is full."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return (day - timedelta(days=day.weekday()) if channel == MONTH else day) + UNIT[channel]


# What is kept, and for how long


@pytest.mark.parametrize("channel", [MONTH, DAY])
async def test_events_stay_for_their_promise_and_then_go_with_their_partition(
    db: Db, url: str, outside: Connection, channel: Channel
) -> None:
    streams = Streams(db, 10, 100)
    await tell(db, 3, (channel,))
    (at,) = {row[5] for row in await standing(outside)}
    gone = end_of(channel, at) + PROMISED[channel]
    await tend(url, gone - timedelta(seconds=1))
    replay = await streams.read(channel, 0)
    assert (len(replay.events), replay.complete) == (3, True)
    assert any(step.startswith("dropped") for step in await tend(url, gone))
    assert await standing(outside) == []
    for since, complete in ((0, False), (2, False), (3, True), (4, False)):
        replay = await streams.read(channel, since)
        assert (replay.top.offset, replay.events, replay.complete) == (3, (), complete)
    await tell(db, 1, (channel,))
    for since, complete in ((0, False), (2, False), (3, True), (4, True)):
        assert (await streams.read(channel, since)).complete is complete


async def test_what_is_short_lived_goes_and_the_rest_stays(db: Db, url: str, outside: Connection) -> None:
    channels = tuple(map(Channel, ("user:1", "agency:1", "staff", "strange", "listing:1", "map:12/1/2", "mapping:1")))
    await tell(db, 1, channels)
    await tend(url, datetime.now(UTC) + timedelta(days=3))
    kept = {channel for channel in channels if (await Streams(db, 10, 100).read(channel, 0)).complete}
    assert kept == set(channels) - {"listing:1", "map:12/1/2"}


@pytest.mark.parametrize("days", [0, 1, 6, 8, 40, 400])
async def test_for_a_week_ahead_there_are_partitions(url: str, outside: Connection, days: int) -> None:
    moment = datetime.now(UTC) + timedelta(days=days)
    await tend(url, moment)
    place = "insert into events values (0, 1, $1, '', '{}', $2, default, $3) returning tableoid::regclass::text"
    for kept in ("month", "day"):
        for ahead in range(8):
            found = await outside.fetchval(place, uuid4(), moment + timedelta(days=ahead), kept)
            assert not found.endswith("default"), (kept, ahead)
            await outside.execute("delete from events where stream_id = 0")
    assert await tend(url, moment) == []
    assert len(await partitions(outside)) <= 2 + 7 + 10


# Events for which no partition was made in time


async def test_stray_events_are_read_and_move_into_a_partition_as_they_are(
    db: Db, url: str, outside: Connection
) -> None:
    before = await partitions(outside)
    for name in before:
        if not name.endswith("default"):
            await outside.execute(f"drop table {name}")
    await tell(db, 4)
    rows = await standing(outside)
    assert await spilled(outside) == len(rows) == 8
    done = await tend(url)
    assert [step for step in done if step.endswith("of 4 stray events")] == [step for step in done if "stray" in step]
    assert len([step for step in done if "stray" in step]) == 2
    assert (await standing(outside), await spilled(outside)) == (rows, 0)
    assert await partitions(outside) == before
    replay = await Streams(db, 10, 100).read(MONTH, 0)
    assert (len(replay.events), replay.complete) == (4, True)


async def test_many_stray_events_are_moved_only_when_no_more_are_added(db: Db, url: str, outside: Connection) -> None:
    """Moving them takes a while in which nobody could add to them."""
    for name in await partitions(outside):
        if name.startswith("events_month_2"):
            await outside.execute(f"drop table {name}")
    await tell(db, 1, (MONTH,))
    await outside.execute(
        "insert into events select 0, n, uuidv7(), '', '{}', now(), '3', 'month' from generate_series(1, 10000) as n"
    )
    assert not [step for step in await tend(url) if "stray" in step]
    assert await spilled(outside) == 10001
    later = await tend(url, end_of(MONTH, datetime.now(UTC)) + timedelta(seconds=1))
    assert [step for step in later if step.endswith("of 10001 stray events")]
    assert await spilled(outside) == 0
    assert (await Streams(db, 10, 100).read(MONTH, 0)).complete


# Nobody waits


async def test_a_partition_in_use_is_left_for_the_next_time_and_nobody_waits_long(
    db: Db, url: str, outside: Connection
) -> None:
    await tell(db)
    moment = datetime.now(UTC) + timedelta(days=60)
    reading = outside.transaction()
    await reading.start()
    await outside.fetch("select * from events")
    tending = asyncio.create_task(tend(url, moment))
    slowest = 0.0
    while not tending.done():
        start = time.perf_counter()
        await tell(db)
        slowest = max(slowest, time.perf_counter() - start)
    assert await tending == []
    assert slowest < 0.5
    await reading.commit()
    assert [step for step in await tend(url, moment) if step.startswith("dropped")]


async def test_of_many_that_tend_at_once_each_does_what_the_others_have_not(url: str, outside: Connection) -> None:
    moment = datetime.now(UTC) + timedelta(days=20)
    done = [step for steps in await asyncio.gather(*(tend(url, moment) for _ in range(6))) for step in steps]
    assert len(done) == len(set(done)) > 5
    assert await tend(url, moment) == []


async def test_writers_go_on_while_partitions_are_made_and_dropped(db: Db, url: str, outside: Connection) -> None:
    """As if months went by in a moment; no write fails and none is lost."""
    told, going = 0, True

    async def write() -> None:
        nonlocal told
        while going:
            await tell(db)
            told += 1

    writers = [asyncio.create_task(write()) for _ in range(3)]
    for days in range(2, 14, 3):
        await tend(url, datetime.now(UTC) + timedelta(days=days))
    going = False
    await asyncio.gather(*writers)
    offsets = [row[1] for row in await standing(outside) if row[7] == "month"]
    assert offsets == list(range(1, told + 1))
    assert (await Streams(db, 10, 100).read(DAY, 0)).top.offset == told


async def test_who_does_not_own_the_tables_can_tend_them(url: str, outside: Connection) -> None:
    role = f"k2k_servant_{uuid4().hex[:8]}"
    await outside.execute(f"create role {role}")
    try:
        async with outside.transaction():
            await outside.execute(f"set local role {role}")
            step = await outside.fetchval("select tend_events(now() + '9 days')")
        assert step.startswith("made events_")
    finally:
        await outside.execute(f"drop role {role}")


# What readers pay


def scans(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The partitions that were really read, and how."""
    if plan.get("Relation Name", "").startswith("events_") and plan["Actual Loops"]:
        yield plan["Relation Name"], plan["Node Type"]
    for part in plan.get("Plans", ()):
        yield from scans(part)


async def explained(outside: Connection, text: str, arguments: str) -> list[tuple[str, str]]:
    await outside.execute(f"prepare asked as {text}")
    plan = await outside.fetchval(f"explain (analyze, format json) execute asked({arguments})")
    await outside.execute("deallocate asked")
    return list(scans(json.loads(plan)[0]["Plan"]))


@pytest.mark.parametrize("filled", [0, 2000])
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_readers_and_the_tail_touch_few_partitions_and_none_from_end_to_end(
    db: Db, url: str, outside: Connection, mode: str, filled: int
) -> None:
    """Also right after everything was analyzed, when most partitions are empty."""
    await db.records("analyze", ())
    await tend(url)
    await tell(db, 1 + filled)
    await tell(db, filled, (Channel("user:other"), Channel("listing:other")))
    await outside.execute(f"set plan_cache_mode = {mode}")
    now = datetime.now(UTC)
    month, day = f"events_month_{end_of(MONTH, now) - UNIT[MONTH]:%Y%m%d}", f"events_day_{now:%Y%m%d}"
    for channel, own in ((MONTH, {month, "events_month_default"}), (DAY, {day, "events_day_default"})):
        found = await explained(outside, READ.text, f"array['{channel}'], array[0]::bigint[], 100, 10000")
        assert {name for name, _ in found} == own
        assert "Seq Scan" not in {how for _, how in found}
        assert (
            await explained(outside, READ.text, f"array['{channel}'], array[{filled + 1}]::bigint[], 100, 10000") == []
        )
    snapshot = await outside.fetchval("select pg_current_snapshot()::text")
    found = await explained(outside, TAIL.text, f"'{snapshot}'")
    assert {name for name, _ in found} == {month, day, "events_month_default", "events_day_default"}
    assert "Seq Scan" not in {how for _, how in found}


async def test_neither_is_planned_anew_each_time(db: Db, url: str, outside: Connection) -> None:
    """Planning for all the partitions takes ten times as long as reading."""
    await tell(db, 500)
    await outside.execute(
        "insert into events select 1000 + s, n, uuidv7(), '', '{}', now(), pg_current_xact_id(), 'month'"
        " from generate_series(1, 1000) s, generate_series(1, 150) n"
    )
    await outside.execute("insert into streams (channel) select 'user:' || n from generate_series(1, 3000) n")
    await outside.execute("analyze")
    await tend(url)
    snapshot = await outside.fetchval("select pg_current_snapshot()::text")
    for text, arguments in ((READ.text, ([MONTH], [490], 100, 1000)), (TAIL.text, (snapshot,))):
        statement = await outside.prepare(text)
        for _ in range(10):
            await statement.fetch(*arguments)
        plans = await outside.fetchrow(
            "select custom_plans, generic_plans from pg_prepared_statements where statement = $1", text
        )
        assert plans is not None
        assert tuple(plans) == (5, 5)


# Migrating, and the command


async def test_a_database_with_events_keeps_them(
    servers: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives them back when the migration is rolled back."""
    name = f"k2k_earlier_{uuid4().hex[:8]}"
    url = await migrations.ensure_database(servers[0], name)
    shutil.copytree(migrations.MIGRATIONS, tmp_path / "earlier")
    for path in (tmp_path / "earlier").glob("0*"):
        if path.name >= "0009":
            path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", tmp_path / "earlier")
        migrations.migrate(url)
    outside = await asyncpg.connect(url)
    try:
        announced = [{"type": "test.told", "to": ["user:1", "listing:1"], "data": {"number": n}} for n in range(20)]
        await outside.fetch("select * from emit($1)", json.dumps(announced))
        # One a day back from now: the listing's of before yesterday are past their time.
        await outside.execute("update events set at = now() - (20 - \"offset\") * interval '1 day'")
        query = 'select channel, "offset", events.id, at, xid::text from events join streams on streams.id = stream_id'
        before = {tuple(row) for row in await outside.fetch(query)}
        migrations.migrate(url)
        after = {tuple(row) for row in await outside.fetch(query)}
        assert {row for row in before if row[0] == "user:1" or row[1] >= 19} <= after <= before
        assert {row[1] for row in after if row[0] == "listing:1"} <= {18, 19, 20}
        assert await spilled(outside) == 0
        rollback = (migrations.MIGRATIONS / "0009.streams_kept.rollback.sql").read_text()
        await outside.execute(rollback)
        assert {tuple(row) for row in await outside.fetch(query)} == after
        told = await outside.fetch("select * from emit($1)", json.dumps(announced[:1]))
        assert {row["offset"] for row in told} == {21}
    finally:
        await outside.close()
        with psycopg.connect(servers[0], autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)")


async def test_the_command_says_what_it_did(settings: Settings, url: str, outside: Connection) -> None:
    await tend(url)
    (doomed,) = [name for name in await partitions(outside) if name == f"events_day_{datetime.now(UTC):%Y%m%d}"]
    await outside.execute(f"drop table {doomed}")
    given = {
        "K2K_ENVIRONMENT": "production",
        "K2K_AUTH__SECRET": settings.auth.secret.get_secret_value(),
        "DATABASE_URL": url,
        "REDIS_URL": settings.redis.url.get_secret_value(),
    }

    process = await asyncio.create_subprocess_exec(
        sys.executable, "run.py", "maintain", cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, complaints = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, said.decode()) == (0, f"made {doomed}\n"), complaints
    assert await tend(url) == []
