"""What one window says, and the sides' windows in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness.compare import MOST_BUSY, MOST_FOREIGN
from bench.harness.figures import Spread, percentile, ratio, spread
from bench.harness.machine import Watch, cpu_seconds
from bench.harness.servers import Running
from bench.live.stacks import Ground

Figure = Callable[["Reading"], float]


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures of one window. Times in seconds; CPU in seconds for one delivery, message or client."""

    per_second: float
    p50: float = 0.0
    p99: float = 0.0
    server_cpu: float = 0.0
    backing_cpu: float = 0.0
    memory: float = 0.0
    """Bytes a socket."""
    back: float = 0.0
    """Until everybody was back after a crash."""
    start: float = 0.0
    """Until the next process answered after a crash."""
    busy: float = 0.0
    """Share of its core that the clients' process used."""
    foreign: float = 0.0
    """Share of the machine that was used by processes which are none of the bench's."""
    late: float = 0.0
    """How much later than due the clients wrote, at the worst."""

    @property
    def cpu(self) -> float:
        """All of the side's processes together, PostgreSQL and Valkey included."""
        return self.server_cpu + self.backing_cpu


class Meter:
    """What a side's processes use from now on."""

    def __init__(self, running: Sequence[Running], ground: Ground) -> None:
        self._servers = [one.pid for one in running]
        self._backing = ground.backing.pids
        self._begun = self._used()
        self._watch = Watch()

    def read(self, counted: Mapping[str, Any], count: int, late: Iterable[float]) -> Reading:
        """`counted` is what the clients said of the window, `count` how many things were done in it."""
        foreign = self._watch.foreign()
        server, backing = (now - then for now, then in zip(self._used(), self._begun, strict=True))
        lates = sorted(late)
        return Reading(
            per_second=count / counted["seconds"],
            p50=percentile(lates, 0.5) if lates else 0.0,
            p99=percentile(lates, 0.99) if lates else 0.0,
            server_cpu=server / max(count, 1),
            backing_cpu=backing / max(count, 1),
            busy=counted["cpu"] / counted["seconds"],
            foreign=foreign,
            late=counted.get("late", 0.0),
        )

    def _used(self) -> tuple[float, float]:
        return cpu_seconds(self._servers), cpu_seconds(self._backing)


@dataclass(frozen=True)
class Goal:
    """What is asked of us against one side: our figure at least `times` as good as its; None asks nothing."""

    against: str
    figure: Figure
    what: str
    times: float | None = None
    more: bool = True
    """Whether more is better."""


@dataclass(frozen=True)
class Column:
    heading: str
    figure: Figure


@dataclass(frozen=True)
class Question:
    """One table: the sides' readings, round by round, ours first."""

    title: str
    columns: Sequence[Column]
    goals: Sequence[Goal]
    readings: Mapping[str, Sequence[Reading]]
    notes: Sequence[str] = ()
    full_load: bool = True
    """Whether the clients' own limit may have been what was measured."""
    most: tuple[str, Figure, float] | None = None
    """What one figure of ours may be at most, by itself."""

    def spread(self, side: str, figure: Figure) -> Spread:
        return spread(map(figure, self.readings[side]))

    def times_better(self, goal: Goal) -> Spread:
        """How many times as good as theirs ours is, round by round."""
        ours, theirs = (
            [goal.figure(one) for one in self.readings[side]] for side in (next(iter(self.readings)), goal.against)
        )
        return ratio(ours, theirs) if goal.more else ratio(theirs, ours)

    def doubts(self) -> list[str]:
        found = []
        for side, readings in self.readings.items():
            if self.full_load and (busy := max(one.busy for one in readings)) > MOST_BUSY:
                found.append(f"{side}: the clients were busy {busy:.0%} of the time; the server may do more")
            if (foreign := max(one.foreign for one in readings)) > MOST_FOREIGN:
                found.append(f"{side}: other programs used up to {foreign:.0%} of the machine")
        return found


def in_turn(names: Sequence[str], rounds: int, measure: Callable[[str], Reading]) -> dict[str, list[Reading]]:
    """Measure the sides A B … B A …, so that whatever drifts hits all alike."""
    found: dict[str, list[Reading]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            reading = measure(name)
            found[name].append(reading)
            print(f"  round {number + 1} of {rounds}  {name:<22} {line(reading)}", flush=True)
    return found


def line(reading: Reading) -> str:
    memory = f"   {reading.memory / 1024:5.1f} KiB   back in {reading.back:.1f} s" if reading.memory else ""
    return (
        f"{reading.per_second:9,.0f}/s   p50 {reading.p50 * 1e3:8.2f}   p99 {reading.p99 * 1e3:8.2f} ms   "
        f"CPU {reading.server_cpu * 1e6:7,.1f} + {reading.backing_cpu * 1e6:6,.1f} µs{memory}   "
        f"clients {reading.busy:3.0%}  others {reading.foreign:3.0%}"
    )
