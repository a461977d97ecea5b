"""One window of load on one side, and what it says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import asyncpg

from bench.harness.figures import percentile
from bench.harness.load import Outcome, Plan
from bench.harness.machine import Cores, Watch, cpu_seconds, pin
from bench.harness.servers import ROOT, STOP_SECONDS, Backing, Running

CALLS = "select coalesce(sum(calls), 0)::int8 from pg_stat_statements where query not like '%pg_stat_statements%'"


class ErrorsUnderLoad(Exception):
    """Requests failed, so the figures would be of something else."""


@dataclass(frozen=True)
class Side:
    """One of those that are compared."""

    name: str
    serving: Running
    backing: Backing


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures of one window. Times in seconds, CPU and statements a request."""

    per_second: float
    p50: float
    p99: float
    server_cpu: float
    backing_cpu: float
    statements: float
    generator_busy: float
    """Share of its core that the load generator used."""
    lateness: float
    """p99 of how much later than due the generator sent, at a steady rate."""
    foreign: float
    """Share of the machine that was used by processes which are none of the bench's."""

    @property
    def cpu(self) -> float:
        """CPU seconds a request costs, all of the side's processes together."""
        return self.server_cpu + self.backing_cpu


class Generator:
    """The load generator's process, warmed up."""

    def __init__(self, running: asyncio.subprocess.Process, plan: Plan) -> None:
        self._running = running
        self._plan = plan

    @property
    def pid(self) -> int:
        return self._running.pid

    @classmethod
    @asynccontextmanager
    async def start(cls, plan: Plan, warm_up: float, cores: Cores) -> AsyncIterator[Generator]:
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.harness.generator"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the bench first and alone
            limit=2**28,  # the times of a window are one line
        )
        try:
            pin(running.pid, cores.generator)
            generator = cls(running, plan)
            generator._tell(json.dumps({"plan": asdict(plan), "warm_up": warm_up}))
            await generator._outcome(warm_up)
            yield generator
        finally:
            assert running.stdin is not None
            running.stdin.close()
            try:
                await asyncio.wait_for(running.wait(), STOP_SECONDS)
            except BaseException:
                running.kill()
                await running.wait()
                raise

    async def window(self) -> tuple[Outcome, float]:
        """What came of a window, and the CPU seconds that making it took. Raises ErrorsUnderLoad if anything failed."""
        self._tell("go")
        return await self._outcome(self._plan.seconds)

    def _tell(self, line: str) -> None:
        assert self._running.stdin is not None
        self._running.stdin.write(line.encode() + b"\n")

    async def _outcome(self, seconds: float) -> tuple[Outcome, float]:
        assert self._running.stdout is not None
        async with asyncio.timeout(seconds + self._plan.patience + STOP_SECONDS):
            line = await self._running.stdout.readline()
        if not line:
            raise ErrorsUnderLoad("the load generator has ended; see its words above")
        answer = json.loads(line)
        cpu = answer.pop("cpu_seconds")
        outcome = Outcome(**answer)
        if outcome.errors:
            raise ErrorsUnderLoad(", ".join(f"{count} × {what}" for what, count in outcome.errors.items()))
        return outcome, cpu


@dataclass(frozen=True, slots=True)
class Cost:
    """What a side has used so far, or in a window."""

    server: float
    backing: float
    statements: int

    @classmethod
    async def so_far(cls, side: Side, database: asyncpg.Connection[asyncpg.Record]) -> Cost:
        return cls(cpu_seconds([side.serving.pid]), cpu_seconds(side.backing.pids), await database.fetchval(CALLS))

    def __sub__(self, before: Cost) -> Cost:
        return Cost(self.server - before.server, self.backing - before.backing, self.statements - before.statements)


async def measure(side: Side, plan: Plan, warm_up: float, cores: Cores) -> Reading:
    """One window on one side."""
    database = await asyncpg.connect(side.backing.database_url)
    try:
        async with Generator.start(plan, warm_up, cores) as generator:
            before, watch = await Cost.so_far(side, database), Watch()
            outcome, generator_cpu = await generator.window()
            foreign, cost = watch.foreign(), await Cost.so_far(side, database) - before
    finally:
        await database.close()
    count = len(outcome.times)
    return Reading(
        per_second=count / outcome.seconds,
        p50=percentile(outcome.times, 0.5),
        p99=percentile(outcome.times, 0.99),
        server_cpu=cost.server / count,
        backing_cpu=cost.backing / count,
        statements=cost.statements / count,
        generator_busy=generator_cpu / outcome.seconds,
        lateness=percentile(outcome.late, 0.99) if outcome.late else 0.0,
        foreign=foreign,
    )
