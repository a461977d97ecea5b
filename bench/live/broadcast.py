"""One event to a thousand sockets of one serving process, by way of Redis."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harness.figures import percentile
from bench.harness.machine import pin
from bench.harness.servers import ROOT, Running, end
from bench.live.people import Person
from bench.live.publisher import Order
from bench.live.reading import Column, Goal, Meter, Question, Reading, in_turn
from bench.live.stacks import ROOM, Ground, Stack
from bench.live.swarm import Client, Sample, Swarm, SwarmError, swarm

CLIENTS = 1_000
SIZE = 300
WINDOW = 32
"""Events on the way at full load: published, and not yet with every client."""
RATE = 10.0
RATES = (
    Column("deliveries/s", lambda one: one.per_second),
    Column("CPU µs a delivery, server", lambda one: one.server_cpu * 1e6),
    Column("CPU µs, all", lambda one: one.cpu * 1e6),
    Column("p50 ms", lambda one: one.p50 * 1e3),
    Column("p99 ms", lambda one: one.p99 * 1e3),
)


def per_second(reading: Reading) -> float:
    return reading.per_second


def server_cpu(reading: Reading) -> float:
    return reading.server_cpu


def p99(reading: Reading) -> float:
    return reading.p99


class Broadcast:
    """Measures a side; each reading has clients and a publisher of its own."""

    def __init__(self, ground: Ground, people: Sequence[Person]) -> None:
        self._ground = ground
        self._people = people[:CLIENTS]

    def measure(self, stack: Stack, running: Running, seconds: float, *, rate: float = 0.0) -> Reading:
        """At full load, or `rate` events a second. Raises SwarmError if a client was cut."""
        clients = [Client(running.port, stack.path, stack.hellos(one, [ROOM])) for one in self._people]
        with (
            fifo() as feedback,
            swarm(stack.dialect, clients, self._ground.cores, feedback=None if rate else feedback) as found,
        ):
            found.connect()
            order = self._order(stack, rate, feedback)
            with publishing(order, self._ground) as publisher:
                found.listen(0.7)
                meter = Meter([running], self._ground)
                counted, samples = found.listen(seconds, 1 if rate else 16)
                reading = meter.read(counted, counted["deliveries"], ())
                published = log(publisher, found)
        return with_latencies(reading, samples, published)

    def _order(self, stack: Stack, rate: float, feedback: Path) -> Order:
        behind = self._ground.backing
        return Order(
            form=stack.form,
            room=ROOM,
            database_url=behind.database_url,
            redis_url=behind.redis_url,
            secret=self._ground.key,
            size=SIZE,
            rate=rate,
            window=0 if rate else WINDOW,
            feedback=str(feedback),
        )


def with_latencies(reading: Reading, samples: Sequence[Sample], published: dict[int, float]) -> Reading:
    """With the times from publishing to the clients: for us that is after COMMIT, for all after Redis took it."""
    late = sorted(one.at + one.late - published[one.number] for one in samples if one.number in published)
    if not late:
        raise SwarmError("nothing arrived")
    return replace(reading, p50=percentile(late, 0.5), p99=percentile(late, 0.99))


@contextmanager
def fifo() -> Iterator[Path]:
    """A FIFO that either end may open first."""
    with TemporaryDirectory() as home:
        path = Path(home) / "feedback"
        os.mkfifo(path)
        held = os.open(path, os.O_RDWR)
        try:
            yield path
        finally:
            os.close(held)


@contextmanager
def publishing(order: Order, ground: Ground) -> Iterator[subprocess.Popen[bytes]]:
    """A publisher that has begun."""
    with TemporaryDirectory() as home:  # for us alone: a secret is in it
        file = Path(home) / "order"
        file.write_text(json.dumps(asdict(order)))
        command = [sys.executable, "-m", "bench.live.publisher", str(file)]
        pipe = subprocess.PIPE
        running = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, start_new_session=True)
        try:
            pin(running.pid, ground.cores.generator)
            assert running.stdout is not None
            if (said := running.stdout.readline()) != b"ready\n":
                raise SwarmError(f"the publisher did not begin but said {said!r}")
            yield running
        finally:
            end(running)


def log(publisher: subprocess.Popen[bytes], found: Swarm) -> dict[int, float]:
    """When each event was published. The clients go on taking what arrives while the publisher ends."""
    assert publisher.stdin is not None
    assert publisher.stdout is not None
    publisher.stdin.close()
    while not select.select([publisher.stdout], [], [], 0)[0]:
        found.listen(0.05)
    if not (said := publisher.stdout.readline()):
        raise SwarmError("the publisher has ended; see its words above")
    return {number: at for number, _, at in json.loads(said)}


def questions(
    sides: Sequence[tuple[Stack, Running]], ground: Ground, people: Sequence[Person], rounds: int, seconds: float
) -> Iterator[Question]:
    """Full load, then ten events a second."""
    broadcast = Broadcast(ground, people)
    by_name = {stack.name: (stack, running) for stack, running in sides}

    def at(rate: float) -> Callable[[str], Reading]:
        return lambda name: broadcast.measure(*by_name[name], seconds, rate=rate)

    title = f"Broadcast: {SIZE}-byte events to {CLIENTS:,} sockets, {WINDOW} on the way"
    print(title, flush=True)
    goals = [
        Goal("Socket.IO", per_second, "deliveries/s", 3),
        Goal("FastAPI", per_second, "deliveries/s", 5),
        Goal("node ws", per_second, "deliveries/s", 1.5),
        Goal("bare picows", server_cpu, "CPU a delivery", 1, more=False),
    ]
    yield Question(title, RATES, goals, in_turn(list(by_name), rounds, at(0)))
    title = f"Broadcast: {SIZE}-byte events to {CLIENTS:,} sockets, {RATE:.0f} events a second"
    print(title, flush=True)
    goals = [Goal(name, p99, "p99", 1, more=False) for name in by_name if name != sides[0][0].name]
    yield Question(title, RATES, goals, in_turn(list(by_name), rounds, at(RATE)), full_load=False)
