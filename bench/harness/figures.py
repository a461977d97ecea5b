"""Statistics of repeated measurements. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """What repeated measurements say: the middle one and both ends."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


def spread(values: Iterable[float]) -> Spread:
    """Median and range. Raises ValueError without values."""
    found = list(values)
    if not found:
        raise ValueError("nothing was measured")
    return Spread(statistics.median(found), min(found), max(found))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """ours / theirs, round by round: what slows a whole round down slows both and cancels out.

    Raises ValueError if the two were not measured in the same rounds.
    """
    return spread(one / other for one, other in zip(ours, theirs, strict=True))


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all values do not exceed (nearest rank: a value that was seen)."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def number(value: float) -> str:
    """Three significant digits, without an exponent: 0.0123, 1.42, 14.2, 142, 1,420."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"
