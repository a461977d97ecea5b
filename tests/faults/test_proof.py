"""Nothing acknowledged is lost, whatever dies: a slice of the long run, and the proof that the checker can see.

`make faults` is the whole of it (tests/faults/proof).
"""

from __future__ import annotations

import faulthandler
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.faults.proof import judge
from tests.faults.proof.proxy import Proxy, Trap
from tests.faults.proof.run import Plan, Report, run
from tests.support import eventually

# Beyond what tests may take otherwise; a run that hangs still ends.
PATIENCE_SECONDS = 170
SLICE_SECONDS = 35.0
# A fault may start two processes one after the other, and a busy machine takes ten seconds for each.
AT_LEAST = 4


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    assert sys.__stderr__ is not None
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


async def test_twenty_faults_lose_double_and_reorder_nothing(tmp_path: Path) -> None:
    seed = secrets.randbelow(10**6)
    report = await run(Plan(seed, faults=20, seconds=SLICE_SECONDS, home=tmp_path, hold=(0.2, 0.8)))
    assert not report.violations, report.text()
    assert len(report.outcomes) >= AT_LEAST, report.text()


@asynccontextmanager
async def watched(servers: tuple[str, str]) -> AsyncIterator[tuple[Proxy, asyncpg.Connection[asyncpg.Record]]]:
    """A proxy before the run's PostgreSQL, and a connection through it to a database with one table and an emit()."""
    url = urlsplit(servers[0])
    proxy = Proxy(url.port or 0, postgres=True)
    await proxy.open()
    connection = await asyncpg.connect(servers[0].replace(f":{url.port}/", f":{proxy.port}/"), timeout=5)
    await connection.execute("create table if not exists kept (word text)")
    try:
        yield proxy, connection
    finally:
        connection.terminate()
        await proxy.close()


async def words(servers: tuple[str, str]) -> set[str]:
    """What is stored, past the proxy."""
    connection = await asyncpg.connect(servers[0])
    stored = {row["word"] for row in await connection.fetch("select word from kept")}
    await connection.close()
    return stored


EMITTING = "insert into kept select $1 where 'emit(' <> ''"  # all that the proxy looks at is the name


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["a transaction", "an announcing statement"])
async def test_a_connection_is_reset_exactly_before_or_after_its_commit(
    servers: tuple[str, str], when: Literal["before", "after"], how: str
) -> None:
    word = uuid4().hex
    async with watched(servers) as (proxy, connection):
        await connection.execute(EMITTING.replace("$1", "'prepares nothing'"))
        proxy.trap = Trap(when, left=1)
        if how == "a transaction":
            await connection.execute("begin")
            await connection.execute(EMITTING, word)
            assert not proxy.trap.sprung, "inside of a transaction an announcement commits nothing"
        with pytest.raises((asyncpg.PostgresConnectionError, OSError)):
            await (connection.execute("commit") if how == "a transaction" else connection.execute(EMITTING, word))
        assert proxy.trap.sprung == 1
    assert (word in await words(servers)) == (when == "after")


async def test_a_transaction_that_nobody_ends_is_seen(servers: tuple[str, str]) -> None:
    left = await asyncpg.connect(servers[0], timeout=5, server_settings={"application_name": "k2k"})
    looking = await asyncpg.connect(servers[0], timeout=5)

    async def seen() -> bool:
        found = await judge.forgotten(looking)
        return any(one.startswith(f"{left.get_server_pid()} idle in transaction") for one in found)

    try:
        await left.execute("begin")
        assert not await seen(), "it may still be at work"
        await eventually(seen)
    finally:
        left.terminate()
        looking.terminate()


async def spoiled(how: str, home: Path, *names: str) -> Report:
    """A short run of processes that commit a fault; it ends with the first violation."""
    spoiling = {"PROOF_SPOILED": how}
    return await run(
        Plan(
            1,
            len(names),
            60.0,
            home,
            hold=(0.3, 0.3),
            busy=2,
            quiet=2,
            names=names,
            environment=spoiling,
            until_violation=True,
        )
    )


async def test_a_process_that_answers_before_it_commits_is_caught(tmp_path: Path) -> None:
    report = await spoiled("early", tmp_path, *["postgres killed", "app killed"] * 6)
    assert any("was acknowledged as" in violation.what for violation in report.violations), report.text()


async def test_a_process_that_overlooks_late_commits_is_caught(tmp_path: Path) -> None:
    report = await spoiled("cursor", tmp_path, *["valkey killed + one commit late"] * 12)
    assert any("after healing it is at" in violation.what for violation in report.violations), report.text()


async def test_a_process_that_repeats_events_is_caught(tmp_path: Path) -> None:
    report = await spoiled("doubles", tmp_path, "clients dropped")
    assert any(violation.what.startswith("a duplicate") for violation in report.violations), report.text()
