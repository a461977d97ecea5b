"""Chance that is the same on every machine: all of a made-up market follows from one number."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import TypeVar
from uuid import UUID

Thing = TypeVar("Thing")


class Dice(Random):
    """A source of chance. Its own methods are several times as fast as those they stand for, and there are millions."""

    def percent(self, share: float) -> bool:
        """True so many times of a hundred."""
        return self.random() * 100 < share

    def below(self, end: int) -> int:
        """A number from 0 up to, and without, the end."""
        return int(self.random() * end)

    def pick(self, things: Sequence[Thing]) -> Thing:
        """One of them, each as often."""
        return things[int(self.random() * len(things))]

    def several(self, things: Sequence[Thing], count: int) -> list[Thing]:
        """So many of them, none twice."""
        left = list(things)
        return [left.pop(int(self.random() * len(left))) for _ in range(count)]

    def weighed(self, things: Sequence[Thing], until: Sequence[float]) -> Thing:
        """One of them, by the sums of their weights up to each."""
        return things[bisect(until, self.random() * until[-1])]


def chance(seed: int, *names: object) -> Dice:
    """A source of chance for what is named so, whichever process asks and in whatever order."""
    return Dice("/".join(map(str, (seed, *names))))


@lru_cache(50_000)  # an agent has a hundred listings
def id_of(seed: int, kind: str, number: int, born: datetime) -> UUID:
    """The UUIDv7 (RFC 9562) of something by its kind and number, born at that moment."""
    digest = blake2b(f"{seed}/{kind}/{number}".encode(), digest_size=10).digest()
    return uuid7(born, int.from_bytes(digest))


def uuid7(born: datetime, bits: int) -> UUID:
    """The UUIDv7 of a moment and 74 further bits (what is beyond them does not count)."""
    milliseconds = int(born.timestamp() * 1000)
    rest = bits & ((1 << 62) - 1)
    middle = (bits >> 62) & 0xFFF
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (middle << 64) | (0b10 << 62) | rest)
