"""Sides in turn: rounds of windows, the load generator's own limit, and when a figure must not be believed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiohttp.test_utils import unused_port

from bench.harness.figures import Spread, ratio, spread
from bench.harness.load import Plan
from bench.harness.machine import Cores
from bench.harness.servers import ROOT, process
from bench.harness.window import Generator, Reading, Side, measure

MOST_BUSY = 0.85
"""Share of its core from which on the generator may have been the limit."""
LEAST_HEADROOM = 1.5
"""How many times more than measured the generator must be able to make."""
MOST_FOREIGN = 0.05
"""Share of the machine that others may use before the figures are those of a busy machine."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure. Seconds."""

    rounds: int
    seconds: float
    warm_up: float


THOROUGH = Effort(rounds=5, seconds=3.0, warm_up=0.7)
QUICK = Effort(rounds=2, seconds=1.0, warm_up=0.3)


@dataclass(frozen=True)
class Scenario:
    """What is asked of every side. `size` is the length of an answer's body, for the generator's own limit."""

    title: str
    requests: Sequence[str]
    """Requests below their port, see `get`."""
    size: int
    connections: int
    rate: float | None = None

    def plan(self, port: int, seconds: float) -> Plan:
        return Plan(port, self.requests, self.connections, seconds, self.rate)


@dataclass(frozen=True)
class Comparison:
    """All readings of a scenario, round by round for each side, the first of which is compared with the last."""

    scenario: Scenario
    readings: Mapping[str, Sequence[Reading]]
    ceiling: float
    """Requests a second that the generator makes against a server that does nothing."""

    def spread(self, side: str, figure: Callable[[Reading], float]) -> Spread:
        return spread(figure(reading) for reading in self.readings[side])

    def ratio(self, side: str, peer: str, figure: Callable[[Reading], float]) -> Spread:
        """How many times the peer's figure this side's is, round by round."""
        return ratio(*[[figure(reading) for reading in self.readings[name]] for name in (side, peer)])

    def doubts(self) -> list[str]:
        """Why figures here must be read with care; nothing if they need not."""
        return [
            f"{side}: {why}"
            for side, readings in self.readings.items()
            for why in doubts(readings, self.ceiling, steady=self.scenario.rate is not None)
        ]


def doubts(readings: Sequence[Reading], ceiling: float, *, steady: bool) -> list[str]:
    """What speaks against one side's readings. At a steady rate the generator is not asked for all it can."""
    found = []
    busy = max(reading.generator_busy for reading in readings)
    if busy > MOST_BUSY:
        found.append(f"the load generator was busy {busy:.0%} of the time; the server may do more")
    headroom = ceiling / max(reading.per_second for reading in readings)
    if not steady and headroom < LEAST_HEADROOM:
        found.append(f"the load generator makes only {headroom:.2f} times as many requests; the server may do more")
    foreign = max(reading.foreign for reading in readings)
    if foreign > MOST_FOREIGN:
        found.append(f"other programs used up to {foreign:.0%} of the machine")
    return found


def get(path: str, **headers: str) -> str:
    """A GET request for a plan."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines) + "\r\n\r\n"


async def compare(scenario: Scenario, sides: Sequence[Side], effort: Effort, cores: Cores) -> Comparison:
    """Measure the sides in turn, A B B A …, so that whatever drifts hits all alike."""
    ceiling = await generator_ceiling(scenario, effort, cores)
    print(f"{scenario.title}\n  the generator alone: {ceiling:,.0f}/s", flush=True)
    readings: dict[str, list[Reading]] = {side.name: [] for side in sides}
    for number in range(effort.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            # A side that has slept through the others' turns gets its caches back before it counts.
            warm_up = effort.warm_up if number else 3 * effort.warm_up
            reading = await measure(side, scenario.plan(side.serving.port, effort.seconds), warm_up, cores)
            readings[side.name].append(reading)
            print(f"  round {number + 1} of {effort.rounds}  {side.name:<22} {line(reading)}", flush=True)
    return Comparison(scenario, readings, ceiling)


def line(reading: Reading) -> str:
    return (
        f"{reading.per_second:8,.0f}/s   p50 {reading.p50 * 1e3:6.2f}   p99 {reading.p99 * 1e3:6.2f} ms   "
        f"CPU {reading.server_cpu * 1e6:5,.0f} + {reading.backing_cpu * 1e6:5,.0f} µs   "
        f"{reading.statements:4.2f} statements   generator {reading.generator_busy:3.0%}  others {reading.foreign:3.0%}"
    )


async def generator_ceiling(scenario: Scenario, effort: Effort, cores: Cores) -> float:
    """What the generator makes of this scenario against a server that does nothing, on the cores of the real ones."""
    port = unused_port()
    command = [sys.executable, "-m", "bench.harness.trivial", str(port), str(scenario.size)]
    with process("trivial", command, {}, ROOT, cores.server, port, "/"):
        plan = replace(scenario.plan(port, effort.seconds), rate=None)
        async with Generator.start(plan, effort.warm_up, cores) as generator:
            outcome, _ = await generator.window()
    return len(outcome.times) / outcome.seconds
