"""When a socket is pinged, when its silence is taken for its end, and when its time is up.

Whatever a client sends shows that it lives, not only the pong. While it still takes what was written before, on a slow
network perhaps, the ping stands behind that and cannot have been answered yet.
"""

from __future__ import annotations

import asyncio
import random
from math import inf
from typing import Protocol

from k2k.core.settings import LiveSettings
from k2k.live import wire
from k2k.live.wheel import Wheel


class Patient(Protocol):
    """The sending side of a socket, as far as its pulse is concerned."""

    def offer(self, message: bytes) -> None: ...

    def cut(self, close: wire.Close) -> None: ...

    @property
    def untaken(self) -> int:
        """Bytes that the client's network has not taken."""


class Pulse:
    """One socket's times, by the loop's clock. Until `start` the client has not connected, and has little time to."""

    __slots__ = (
        "_asked_at",
        "_deadline",
        "_heard_at",
        "_look_at",
        "_patient",
        "_ping",
        "_place",
        "_settings",
        "_untaken",
        "_wheel",
    )

    def __init__(self, patient: Patient, ping: bytes, wheel: Wheel, settings: LiveSettings) -> None:
        self._patient = patient
        self._ping = ping
        self._wheel = wheel
        self._settings = settings
        self._deadline = asyncio.get_running_loop().time() + settings.connect_seconds
        self._look_at = inf
        self._asked_at: float | None = None
        """When the ping was sent that nothing has been heard since."""
        self._heard_at = 0.0
        self._untaken = 0
        self._place = wheel.at(self._deadline, self)

    def start(self, deadline: float) -> None:
        """The client has connected: it is pinged from now on, and cut at the deadline."""
        # Spread, or those who came together would be pinged together for hours.
        wait = random.uniform(0.5, 1) * self._settings.ping_seconds  # noqa: S311 -- no secret
        self._look_at = asyncio.get_running_loop().time() + wait
        self.prolong(deadline)

    def prolong(self, deadline: float) -> None:
        """Its time is up then, and no sooner."""
        self._deadline = deadline
        self._plan()

    def hear(self) -> None:
        """The client sent something."""
        self._heard_at = asyncio.get_running_loop().time()

    def hold(self) -> None:
        """Nothing is read from it just now, so that it is silent means nothing, until `hear`."""
        self._heard_at = inf

    def stop(self) -> None:
        self._wheel.forget(self._place, self)

    def visit(self) -> None:
        """The wheel has come round."""
        now = asyncio.get_running_loop().time()
        if now >= self._deadline:
            self._patient.cut(wire.NOT_CONNECTED if self._look_at == inf else wire.EXPIRED)
            return
        if now >= self._look_at:
            if self._asked_at is None:
                self._ask(now)
            elif self._heard_at > self._asked_at:
                self._look_at, self._asked_at = self._asked_at + self._settings.ping_seconds, None
            elif not self._takes():
                self._patient.cut(wire.NO_PONG)
                return
            else:
                self._look_at = now + self._settings.pong_seconds
        self._plan()

    def _ask(self, now: float) -> None:
        self._patient.offer(self._ping)
        self._untaken = self._patient.untaken
        self._asked_at, self._look_at = now, now + self._settings.pong_seconds

    def _takes(self) -> bool:
        """Whether the client has taken some of what stands before the ping, and not all of it."""
        before, self._untaken = self._untaken, self._patient.untaken
        return 0 < self._untaken < before

    def _plan(self) -> None:
        self._wheel.forget(self._place, self)
        self._place = self._wheel.at(min(self._deadline, self._look_at), self)
