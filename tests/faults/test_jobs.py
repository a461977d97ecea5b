"""Jobs while processes and PostgreSQL die: what was enqueued is done, and a job that kills is found out."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from k2k.core.settings import Settings
from k2k.infra import embedded, migrations
from k2k.infra.jobs.job import Attempt, Job
from k2k.infra.mail import SendMail
from tests.infra.test_mail import PostOffice
from tests.support import ROOT, Workplace, eventually, free_port

KILLER = """
import asyncio, os, signal, sys
from typing import ClassVar
from pydantic import SecretStr
from k2k.core.settings import load
from k2k.infra.jobs.job import Job
from k2k.infra.jobs.worker import Worker

class Deadly(Job):
    name: "ClassVar[str]" = "test.deadly"

async def main():
    base = load({})
    database = base.database.model_copy(update={"url": SecretStr(sys.argv[1])})
    worker = Worker(database, base.jobs.model_copy(update={"heartbeat_seconds": 0.5, "poll_seconds": 0.1}))
    async def kill(job, attempt):
        os.kill(os.getpid(), signal.SIGKILL)
    worker.bind(Deadly, kill)
    await worker.start()
    await asyncio.sleep(30)

asyncio.run(main())
"""


class Deadly(Job):
    """Kills the process that does it."""

    name: ClassVar[str] = "test.deadly"


class Count(Job):
    """Number `number`."""

    name: ClassVar[str] = "test.count"
    number: int


async def test_a_job_that_kills_its_process_is_a_dead_letter_after_three(workplace: Workplace) -> None:
    url = workplace.settings.database.url.get_secret_value()
    await workplace.enqueue(Deadly())
    killed = [await asyncio.create_subprocess_exec(sys.executable, "-c", KILLER, url, cwd=ROOT) for _ in range(3)]
    try:
        codes = await asyncio.wait_for(asyncio.gather(*(process.wait() for process in killed)), 25)
    finally:
        for process in killed:
            if process.returncode is None:
                process.kill()
    assert codes == [-signal.SIGKILL] * 3

    async def never(_job: Deadly, _attempt: Attempt) -> None:
        raise AssertionError("it would have killed this process too")

    worker = workplace.worker(heartbeat_seconds=0.5)
    worker.bind(Deadly, never)
    await worker.start()
    (dead,) = await workplace.dead()
    assert dead.error == "3 processes ended while they ran it"


async def test_a_worker_asked_to_stop_sends_the_mail_it_has_begun(workplace: Workplace, tmp_path: Path) -> None:
    office, begun = PostOffice(), asyncio.Event()

    async def slowly(_server: object, _session: object, envelope: object) -> str:
        begun.set()
        await asyncio.sleep(0.5)
        office.received.append(envelope)  # type: ignore[arg-type]
        return "250 taken"

    office.handle_DATA = slowly  # type: ignore[method-assign]
    await office.open()
    await workplace.enqueue(SendMail(to="abebe@people.example", subject="Selam", text="Selam"))
    process = await run_worker(workplace.settings, tmp_path, K2K_MAIL__URL=f"smtp://127.0.0.1:{office.port}")
    try:
        await asyncio.wait_for(begun.wait(), 15)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await office.close()
    assert len(office.received) == 1
    assert ("mail.send", "waiting") not in await workplace.states()


async def run_worker(settings: Settings, home: Path, **environment: str) -> asyncio.subprocess.Process:
    """A real `run.py worker`."""
    given = {
        "K2K_HOME": str(home),
        "K2K_ENVIRONMENT": "production",
        "K2K_AUTH__SECRET": settings.auth.secret.get_secret_value(),
        "DATABASE_URL": settings.database.url.get_secret_value(),
        "REDIS_URL": settings.redis.url.get_secret_value(),
        "PATH": os.environ["PATH"],
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "run.py", "worker", cwd=ROOT, env={**given, **environment}, stdout=asyncio.subprocess.DEVNULL
    )


async def test_without_a_database_a_worker_says_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    given = {
        "K2K_HOME": str(tmp_path),
        "DATABASE_URL": f"postgresql://k2k:hunter2@127.0.0.1:{free_port()}/k2k",
        "REDIS_URL": settings.redis.url.get_secret_value(),
        "PATH": os.environ["PATH"],
    }
    for command in ("worker", "jobs"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "run.py", command, cwd=ROOT, env=given, stderr=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert b"Is the database of DATABASE_URL running?" in said
        assert b"hunter2" not in said


# PostgreSQL dies


class OwnPostgres:
    """A PostgreSQL that comes back under the same address."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = embedded.start_postgres(home)

    def kill(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()

    def start(self) -> None:
        self.server = embedded.start_postgres(self.home)


@pytest.fixture
async def fragile(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[OwnPostgres, Workplace]]:
    port = free_port()
    monkeypatch.setattr(embedded, "_free_port", lambda: port)
    postgres = OwnPostgres(tmp_path / "postgres")
    url = await migrations.ensure_database(postgres.server.url, "k2k")
    migrations.migrate(url)
    workplace = await Workplace.open(settings, url)
    yield postgres, workplace
    await workplace.close()
    postgres.server.stop()


async def test_postgres_killed_and_back_loses_no_job_and_repeats_none_that_was_done(
    fragile: tuple[OwnPostgres, Workplace],
) -> None:
    postgres, workplace = fragile
    done: list[int] = []
    running, goes_on = asyncio.Event(), asyncio.Event()

    async def count(job: Count, _attempt: Attempt) -> None:
        if job.number == 0:
            running.set()
            await goes_on.wait()
        done.append(job.number)

    worker = workplace.worker(heartbeat_seconds=30, poll_seconds=60)
    worker.bind(Count, count)
    await worker.start()
    await workplace.enqueue(*(Count(number=number) for number in range(20)))
    await running.wait()
    postgres.kill()
    goes_on.set()  # done, while nobody can be told

    async def told() -> bool:
        return 0 in done

    await eventually(told)
    postgres.start()

    async def answers() -> bool:
        try:
            await workplace.enqueue(*(Count(number=number) for number in range(20, 40)))
        except Exception:  # not yet back
            return False
        return True

    await eventually(answers)
    await eventually(workplace.empty, seconds=10)
    assert done.count(0) == 1
    assert sorted(set(done)) == list(range(40))
