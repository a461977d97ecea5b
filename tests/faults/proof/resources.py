"""What a process holds: files, memory, tasks, database connections. At the end it must be what it was before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import psutil

from tests.faults.proof.servers import App

# A pool keeps up to pool_max connections once they were needed, so they count apart, and so do the tasks of a moment.
MORE_FILES = 4
MORE_TASKS = 4
# Measured after a warm-up; what Python's allocator keeps after a storm of reconnects is not a leak.
MORE_MIB = 48


@dataclass(frozen=True)
class Footprint:
    files: int
    """Open descriptors besides the pool's connections."""
    mib: float
    tasks: int
    pool: int
    pool_idle: int
    sockets: int

    def __str__(self) -> str:
        return (
            f"{self.files} files, {self.mib:.0f} MiB, {self.tasks} tasks, "
            f"{self.pool_idle} of {self.pool} connections idle, {self.sockets} sockets"
        )


async def footprint(http: aiohttp.ClientSession, app: App) -> Footprint:
    """From /proc and from the process's own metrics."""
    async with http.get(f"http://127.0.0.1:{app.metrics_port}/metrics") as answer:
        text = await answer.text()

    def figure(name: str) -> int:
        found = re.search(rf"^k2k_{name} (\S+)$", text, re.MULTILINE)
        assert found, f"the metrics have no k2k_{name}"
        return int(float(found[1]))

    process = psutil.Process(app.pid)
    pool = figure("pool_connections")
    return Footprint(
        files=process.num_fds() - pool,
        mib=process.memory_info().rss / 2**20,
        tasks=figure("proof_tasks"),
        pool=pool,
        pool_idle=figure("pool_idle_connections"),
        sockets=figure("sockets"),
    )


def grown(before: Footprint, now: Footprint) -> Iterator[str]:
    """What did not return to where it was."""
    if now.files > before.files + MORE_FILES:
        yield f"{now.files} files are open, {before.files} were"
    if now.tasks > before.tasks + MORE_TASKS:
        yield f"{now.tasks} tasks run, {before.tasks} did"
    if now.mib > before.mib + MORE_MIB:
        yield f"it holds {now.mib:.0f} MiB, {before.mib:.0f} before"
    if now.pool_idle != now.pool:
        yield f"{now.pool - now.pool_idle} database connections were not given back"
    if now.sockets:
        yield f"{now.sockets} sockets are counted, nobody is connected"
