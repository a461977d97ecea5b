"""All questions, their servers and their tables."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from bench.harness import report
from bench.harness.command import Bench
from bench.harness.machine import Cores
from bench.harness.servers import Running, backing, secret
from bench.live import broadcast, chat, life
from bench.live.people import people, populate
from bench.live.reading import Question
from bench.live.stacks import (
    Channels,
    Compressing,
    FastApi,
    Ground,
    Key2Key,
    NodeBatched,
    NodeWs,
    Picows,
    SocketIo,
    Stack,
    serving,
)
from bench.live.swarm import ceiling
from bench.live.tables import generator, table


@dataclass(frozen=True)
class Effort:
    """How much to measure. Seconds."""

    rounds: int
    seconds: float
    sockets: int
    lives: int
    """Rounds of what lasts as long as a process."""


THOROUGH = Effort(rounds=5, seconds=4.0, sockets=10_000, lives=2)
QUICK = Effort(rounds=1, seconds=1.0, sockets=1_000, lives=1)


@contextmanager
def running(stacks: Sequence[Stack], ground: Ground, what: str) -> Iterator[list[tuple[Stack, Running]]]:
    """A serving process of each."""
    with ExitStack() as stack:
        yield [
            (one, stack.enter_context(serving(one, ground, f"live-{what}-{number}")))
            for number, one in enumerate(stacks)
        ]


def raise_limits() -> int:
    """Let this process and those it starts open as many files as they may; how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def measure(quick: bool) -> str:
    raise_limits()
    effort = QUICK if quick else THOROUGH
    cores, key = Cores.shared_out(), secret()
    stacks = [Key2Key(), NodeWs(), SocketIo(), FastApi(), Channels(), Picows()]
    for stack in stacks:
        stack.prepare()
    everybody = people(key)
    found: list[Question] = []
    ceilings = [ceiling(broadcast.CLIENTS, broadcast.SIZE, together, effort.seconds, cores) for together in (1, 8)]
    with backing("live", cores) as behind:
        asyncio.run(populate(behind.database_url))
        ground = Ground(behind, key, cores)
        with running(stacks, ground, "broadcast") as sides:
            found += broadcast.questions(sides, ground, everybody, effort.rounds, effort.seconds)
        free = replace(ground, cores=Cores())
        writing = [Key2Key(), NodeWs(), NodeBatched(), SocketIo(), FastApi()]
        found += chat.questions(writing, free, everybody, effort.rounds, effort.seconds)
        living = [Key2Key(), Compressing(), NodeWs(), SocketIo(), FastApi(), Channels()]
        found += life.questions(living, ground, everybody[: effort.sockets], effort.lives)
        said = [f"{stack.name}: {stack.versions()}" for stack in stacks]
    parts = [report.conditions(BENCH.name, cores, *said), generator(ceilings), *map(table, found)]
    return "\n\n".join(parts)


BENCH = Bench("live", measure, minutes=20)
