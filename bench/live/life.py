"""What many sockets cost: how fast they come, what they weigh while nothing happens, and a process that dies with them.

One process serves. The clients are as many different people; they come from four addresses, so that none runs out of
ports. Then the process is killed and a new one started on its port, and the clients come back at once, over and over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import asyncpg
import psutil

from bench.harness.machine import family
from bench.harness.servers import Running
from bench.live.people import Person
from bench.live.reading import Column, Goal, Meter, Question, Reading, in_turn
from bench.live.stacks import ROOM, Compressing, Ground, Key2Key, Stack, serving
from bench.live.swarm import Client, Swarm, SwarmError, swarm

SOURCES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
AT_ONCE = 100
SETTLE_SECONDS = 2.0
BACK_SECONDS = 120.0
MISSED = 2_000_000_000
"""The number of the event that everybody misses."""
MARK = f"~{1:016d}~{MISSED:010d}~"
EMIT = """
    select count(*) from emit((
        select jsonb_agg(jsonb_build_object('type', 'bench.missed', 'to', jsonb_build_array(user_channel(id)),
                                            'data', jsonb_build_object('mark', $2::text)))
        from unnest($1::uuid[]) as id))
"""
COMING = (
    Column("sockets/s", lambda one: one.per_second),
    Column("CPU µs a socket, server", lambda one: one.server_cpu * 1e6),
    Column("CPU µs, all", lambda one: one.cpu * 1e6),
)
IDLE = (Column("KiB a socket", lambda one: one.memory / 1024),)
STORM = (
    Column("seconds until all are back", lambda one: one.back),
    Column("of which the new process took to answer", lambda one: one.start),
)


def per_second(reading: Reading) -> float:
    return reading.per_second


def memory(reading: Reading) -> float:
    return reading.memory


def back(reading: Reading) -> float:
    return reading.back


@dataclass(frozen=True)
class Life:
    """Measures a side: each reading is the whole life of a process, and the beginning of the next."""

    ground: Ground
    people: Sequence[Person]

    def measure(self, stack: Stack, name: str) -> Reading:
        with ExitStack() as lives:
            running = lives.enter_context(serving(stack, self.ground, name))
            clients = self._clients(stack, running.port)
            deflate = isinstance(stack, Compressing)
            with swarm(stack.dialect, clients, self.ground.cores, at_once=AT_ONCE, deflate=deflate) as found:
                before, meter = resident(running), Meter([running], self.ground)
                told = found.connect(BACK_SECONDS)
                if told["ready"] < len(clients):
                    raise SwarmError(f"only {told['ready']} of {len(clients)} connected")
                reading = meter.read(told, len(clients), ())
                found.listen(SETTLE_SECONDS)
                reading = replace(reading, memory=(resident(running) - before) / len(clients))
                return reading if deflate else self._storm(stack, running, found, lives, reading)

    def _clients(self, stack: Stack, port: int) -> list[Client]:
        return [
            Client(
                port,
                stack.path,
                stack.hellos(person, [ROOM]),
                again=stack.again(person),
                source=SOURCES[number % len(SOURCES)],
            )
            for number, person in enumerate(self.people)
        ]

    def _storm(self, stack: Stack, running: Running, found: Swarm, lives: ExitStack, reading: Reading) -> Reading:
        """Kill the process, start another in its place, and wait for everybody; ours must have what they missed."""
        ours = isinstance(stack, Key2Key)
        os.kill(running.pid, signal.SIGKILL)
        killed = time.monotonic()
        found.listen_to_the_end(0.1)
        asked = time.monotonic()
        found.begin(f"connect {BACK_SECONDS} {MISSED if ours else 0}")
        missed = threading.Thread(target=lambda: asyncio.run(emit(self.ground, self.people)))
        if ours:
            missed.start()
        lives.enter_context(serving(stack, self.ground, "live-life-again", running.port))
        started = time.monotonic()
        told = found.answer(BACK_SECONDS, refusals=True)  # who is refused comes back
        if ours:
            missed.join()
        if told["caught_up"] < len(self.people):
            raise SwarmError(f"only {told['caught_up']} of {len(self.people)} came back: {json.dumps(told)}")
        return replace(reading, back=asked - killed + told["seconds"], start=started - killed)


async def emit(ground: Ground, people: Sequence[Person]) -> None:
    """Commit an event for each, which no process tells of."""
    connection = await asyncpg.connect(ground.backing.database_url)
    await connection.execute("select 1")
    await connection.fetchval(EMIT, [one.id for one in people], MARK)
    await connection.close()


def resident(running: Running) -> int:
    """Bytes of memory that a process and its children have."""
    total = 0
    for process in family(running.pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def questions(stacks: Sequence[Stack], ground: Ground, people: Sequence[Person], rounds: int) -> list[Question]:
    life = Life(ground, people)
    by_name = {stack.name: (stack, f"live-life-{number}") for number, stack in enumerate(stacks)}
    print(f"{len(people):,} sockets of as many people: coming, idle, and back after a crash", flush=True)
    found = in_turn(list(by_name), rounds, lambda name: life.measure(*by_name[name]))
    storms = {name: readings for name, readings in found.items() if readings[0].back}
    others = [name for name in by_name if not isinstance(by_name[name][0], Key2Key)]
    coming = [Goal("node ws", per_second, "sockets/s", 1.5), Goal("Socket.IO", per_second, "sockets/s", 2)]
    coming += [Goal(name, per_second, "sockets/s") for name in others if name not in ("node ws", "Socket.IO")]
    return [
        Question(f"Coming: {len(people):,} people connect, {AT_ONCE} at once", COMING, coming, found),
        Question(
            f"Idle: {len(people):,} sockets",
            IDLE,
            [Goal(name, memory, "memory", more=False) for name in others],
            found,
            most=("KiB a socket", memory, 16 * 1024),
        ),
        Question(
            f"Back: {len(people):,} clients after their process was killed",
            STORM,
            [Goal(name, back, "seconds", more=False) for name in others],
            storms,
            notes=[
                "The others are back when they are connected; what they missed is lost. Ours have it: each missed an "
                "event that was committed while nobody served."
            ],
        ),
    ]
