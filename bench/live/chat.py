"""A thousand conversations of two, over two serving processes: who writes hangs on one, who reads on the other.

Every second pair does so the other way round, so that both processes have the same to do. Every message is stored, and
counts when the reader has it. A writer writes again when it has its own echo.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from bench.harness.servers import ROOT, Running, end
from bench.live.people import PAIRS, Person, row_id
from bench.live.reading import Column, Goal, Meter, Question, Reading, in_turn
from bench.live.stacks import Ground, Stack, serving
from bench.live.swarm import Client, SwarmError, swarm

RATE = 500.0
STRAIGHT = "the same statements, no sockets"
COLUMNS = (
    Column("messages/s", lambda one: one.per_second),
    Column("p50 ms", lambda one: one.p50 * 1e3),
    Column("p99 ms", lambda one: one.p99 * 1e3),
    Column("CPU µs a message, servers", lambda one: one.server_cpu * 1e6),
    Column("CPU µs, PostgreSQL and Valkey", lambda one: one.backing_cpu * 1e6),
    Column("CPU µs, all", lambda one: one.cpu * 1e6),
)


def per_second(reading: Reading) -> float:
    return reading.per_second


def cpu(reading: Reading) -> float:
    return reading.cpu


def p50(reading: Reading) -> float:
    return reading.p50


def pairs(stack: Stack, running: Sequence[Running], people: Sequence[Person]) -> list[Client]:
    """The writers of every second pair on the first process, the others on the second; each reader on the other one."""
    clients = []
    for number in range(PAIRS):
        first, second = running if number % 2 == 0 else running[::-1]
        room = f"conversation:{number}"
        message = stack.message(str(row_id("conversation", number + 1)), room)
        clients.append(Client(first.port, stack.path, stack.chatting(people[number], room), "w", message))
        clients.append(Client(second.port, stack.path, stack.chatting(people[number + PAIRS], room)))
    return clients


class Chat:
    """Measures a side that serves with two processes."""

    def __init__(self, ground: Ground, people: Sequence[Person], seconds: float) -> None:
        self._ground = ground
        self._people = people
        self._seconds = seconds

    def measure(self, stack: Stack, running: Sequence[Running], rate: float) -> Reading:
        """Every writer with one message on the way, or all together `rate` a second."""
        with swarm(stack.dialect, pairs(stack, running, self._people), self._ground.cores) as found:
            found.connect()
            found.chat(0.0, 0.7, 1, rate)
            meter = Meter(running, self._ground)
            counted, samples = found.chat(0.0, self._seconds, 1, rate)
            return meter.read(counted, counted["deliveries"], [one.late for one in samples])

    def straight(self) -> Reading:
        """What two processes make of it that have no sockets, with half of the writers each."""
        behind = self._ground.backing
        command = [sys.executable, "-m", "bench.live.straight", str(self._seconds)]
        environment = {"DATABASE_URL": behind.database_url, "PATH": "/usr/bin:/bin"}
        started = [
            subprocess.Popen(
                [*command, str(1 + half * PAIRS // 2), str(PAIRS // 2)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            for half in range(2)
        ]
        try:
            for one in started:
                say(one, "ready")
            meter = Meter([Running(0, one.pid) for one in started], self._ground)
            for one in started:
                go(one)
            answers = [json.loads(answer(one)) for one in started]
            seconds = max(one["seconds"] for one in answers)
            late = [late for one in answers for late in one["late"]]
            return meter.read({"seconds": seconds, "cpu": 0.0}, len(late), late)
        finally:
            for one in started:
                end(one)


def go(running: subprocess.Popen[bytes]) -> None:
    assert running.stdin is not None
    running.stdin.write(b"go\n")
    running.stdin.flush()


def answer(running: subprocess.Popen[bytes]) -> bytes:
    assert running.stdout is not None
    return running.stdout.readline()


def say(running: subprocess.Popen[bytes], expected: str) -> None:
    if (said := answer(running).decode().strip()) != expected:
        raise SwarmError(f"bench.live.straight said {said!r}, not {expected}")


def questions(
    stacks: Sequence[Stack], ground: Ground, people: Sequence[Person], rounds: int, seconds: float
) -> Iterator[Question]:
    """Saturated, then 500 messages a second."""
    chat = Chat(ground, people, seconds)
    with ExitStack() as stack:
        sides = {
            one.name: (one, [stack.enter_context(serving(one, ground, f"live-chat-{n}-{side}")) for side in "ab"])
            for n, one in enumerate(stacks)
        }

        def at(rate: float) -> Callable[[str], Reading]:
            return lambda name: chat.straight() if name == STRAIGHT else chat.measure(*sides[name], rate)

        title = f"Chat: {PAIRS:,} writers and as many readers on two processes, one message of each on the way"
        print(title, flush=True)
        goals = [
            Goal("node ws", per_second, "messages/s", 3),
            Goal("node ws, batching", per_second, "messages/s"),
            Goal("Socket.IO", per_second, "messages/s", 4),
            Goal("FastAPI", per_second, "messages/s", 5),
            Goal(STRAIGHT, per_second, "messages/s"),
            *(Goal(name, cpu, "CPU a message, all processes", more=False) for name in (*list(sides)[1:], STRAIGHT)),
        ]
        yield Question(title, COLUMNS, goals, in_turn([*sides, STRAIGHT], rounds, at(0)))
        title = f"Chat: the same, {RATE:.0f} messages a second in all"
        print(title, flush=True)
        goals = [Goal(name, p50, "p50", 1 if name == "node ws" else None, more=False) for name in list(sides)[1:]]
        goals += [Goal("node ws", cpu, "CPU a message, all processes", more=False)]
        yield Question(title, COLUMNS, goals, in_turn(list(sides), rounds, at(RATE)), full_load=False)
