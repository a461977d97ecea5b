"""HTTP load over keep-alive connections, cheap enough to stay ahead of what it measures.

No request is cut at the end of a window: what has begun is awaited and counted with the time it really took, and the
window lasts until the last answer. At a steady rate a request's time begins when it was due, not when a connection was
free for it, so a server that stalls is charged for everybody who would have waited (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """What to send. `rate` is requests a second; None: every connection asks again as soon as it is answered."""

    port: int
    requests: Sequence[str]
    """Whole HTTP/1.1 requests (latin-1), sent in turn and over again."""
    connections: int
    seconds: float
    rate: float | None = None
    status: int = 200
    """The only status that is no error."""
    patience: float = 10.0
    """Seconds after the window until what is not answered counts as an error."""


@dataclass
class Outcome:
    """What came of a window."""

    seconds: float = 0.0
    """From the first request to the last answer."""
    times: list[float] = field(default_factory=list)
    """Seconds of each request that was answered as it should be."""
    late: list[float] = field(default_factory=list)
    """Seconds between due and sent, at a steady rate."""
    errors: Counter[str] = field(default_factory=Counter)


class Load:
    """Drives connections through a plan; `run` once a window."""

    def __init__(self, plan: Plan, requests: Iterator[bytes]) -> None:
        self._plan = plan
        self._requests = requests
        self._connections: list[Connection] = []
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._busy = 0
        self._outcome = Outcome()
        self._stop_at = 0.0
        self._all_due = True
        self._idle = asyncio.Event()

    @classmethod
    async def connect(cls, plan: Plan) -> Load:
        """Open the connections. Raises OSError if nobody listens."""
        load = cls(plan, cycle([request.encode("latin-1") for request in plan.requests]))
        loop = asyncio.get_running_loop()
        for _ in range(plan.connections):
            _, connection = await loop.create_connection(lambda: Connection(load), "127.0.0.1", plan.port)
            load._connections.append(connection)
        return load

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def run(self, seconds: float) -> Outcome:
        """One window: start requests for `seconds`, await them all."""
        outcome = self._outcome = Outcome()
        self._idle.clear()
        self._free = deque(one for one in self._connections if one.open)
        begun = time.perf_counter()
        self._stop_at = begun + seconds
        if self._plan.rate is None:
            for _ in range(len(self._free)):
                self._send(self._free.popleft(), begun)
        else:
            self._all_due = False
            self._fall_due(begun, 0, round(seconds * self._plan.rate))
        try:
            async with asyncio.timeout(seconds + self._plan.patience):
                await self._idle.wait()
        except TimeoutError:
            outcome.errors["no answer"] += self._busy + len(self._due)
        outcome.seconds = time.perf_counter() - begun
        return outcome

    def _fall_due(self, begun: float, done: int, total: int) -> None:
        """Queue every request whose time has come, and come back for the next one."""
        assert self._plan.rate is not None
        now = time.perf_counter()
        while done < total and (due := begun + done / self._plan.rate) <= now:
            self._due.append(due)
            done += 1
        self._all_due = done == total
        if not self._all_due:
            asyncio.get_running_loop().call_later(due - now, self._fall_due, begun, done, total)
        while self._due and self._free:
            self._send(self._free.popleft(), self._due.popleft())
        self._rest()

    def _send(self, connection: Connection, due: float) -> None:
        self._busy += 1
        connection.send(next(self._requests), due)
        if self._plan.rate is not None:
            self._outcome.late.append(time.perf_counter() - due)

    def answered(self, connection: Connection, status: bytes, due: float) -> None:
        """A connection has its answer and is free again."""
        now = time.perf_counter()
        self._busy -= 1
        if int(status) == self._plan.status:
            self._outcome.times.append(now - due)
        else:
            self._outcome.errors[f"status {status.decode()}"] += 1
        if self._due:
            self._send(connection, self._due.popleft())
        elif self._plan.rate is None and now < self._stop_at:
            self._send(connection, now)
        else:
            self._free.append(connection)
            self._rest()

    def lost(self, why: str) -> None:
        """A connection ended that still owed an answer."""
        self._busy -= 1
        self._outcome.errors[why] += 1
        self._rest()

    def left(self, connection: Connection) -> None:
        """A connection ended that owed nothing: it gets no further request."""
        if connection in self._free:
            self._free.remove(connection)

    def _rest(self) -> None:
        if not self._busy and not self._due and self._all_due:
            self._idle.set()


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on the way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due: float | None = None
        self._head = b""
        self._missing: int | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def send(self, request: bytes, due: float) -> None:
        self._due, self._head, self._missing = due, b"", None
        self._transport.write(request)

    def close(self) -> None:
        self._due = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count the body down instead of keeping it: only its length matters here."""
        if self._missing is not None:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._head, 0, end + 2)
            if length is None:
                self._break("an answer without Content-Length")
                return
            self._missing = int(length[1]) - (len(self._head) - end - 4)
        if self._missing < 0:
            self._break("more bytes than the answer has")
        elif self._missing == 0 and self._due is not None:
            due, self._due = self._due, None
            self._load.answered(self, self._head[9:12], due)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._due is not None:
            self._due = None
            self._load.lost("connection lost")
        else:
            self._load.left(self)

    def _break(self, why: str) -> None:
        owed, self._due = self._due is not None, None
        self._transport.abort()
        if owed:
            self._load.lost(why)
