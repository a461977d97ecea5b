"""When each socket must be looked at next: one timer for all of a process's sockets, not several for each.

Ten thousand idle sockets with a timer for their ping and another for their token would be twenty thousand entries in
the loop's heap. Here a socket stands in one bucket of a tenth of a second, and is looked at when that has come.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

log = structlog.get_logger()

STEP_SECONDS = 0.1


class Visited(Protocol):
    def visit(self) -> None:
        """Its time has come."""


class Wheel:
    """Visits whoever asked for it, a little late but never early, once for each time it asked."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Visited]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def at(self, when: float, visited: Visited) -> int:
        """Visit at the loop's time `when`. Answers the bucket, for `forget`."""
        place = int(when / STEP_SECONDS) + 1
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = set()
        bucket.add(visited)
        if self._timer is None:
            self._arm()
        return place

    def forget(self, place: int, visited: Visited) -> None:
        """Not to be visited after all."""
        bucket = self._buckets.get(place)
        if bucket is not None:
            bucket.discard(visited)

    def stop(self) -> None:
        """Visit nobody any more."""
        self._buckets.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(STEP_SECONDS, self._turn)

    def _turn(self) -> None:
        self._timer = None
        reached = int(asyncio.get_running_loop().time() / STEP_SECONDS)
        for place in sorted(place for place in self._buckets if place <= reached):
            for visited in self._buckets.pop(place):
                try:
                    visited.visit()
                except Exception:  # one socket's fault is not the others', who stand behind it
                    log.exception("unforeseen")
        if self._buckets and self._timer is None:
            self._arm()
