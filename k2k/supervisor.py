"""`run.py serve --workers N`: one process that holds the sockets and keeps N others serving on them.

The sockets stay open here whatever becomes of a worker, so that a connection waits for the next one instead of being
refused. A worker is this program started afresh (what is on the disk by then), and is replaced by a successor that
serves before it stops. Nothing of the service itself enters here: a fault in it must not reach its supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import structlog

log = structlog.get_logger()

# A migration that another process runs may be waited for up to a minute.
START_SECONDS = 90.0
# A worker that served this long is started again at once; one that did not, ever later.
SETTLED_SECONDS = 10.0
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)
# How often a worker may fail to start before who waits at its socket is let go: nobody else can serve them.
PATIENCE = 2

READY = b"+"
RELIEVED = b"-"

Bind = Callable[[], socket.socket]


class StartError(Exception):
    """Why the process cannot serve, in words a person can act on."""


@dataclass(frozen=True)
class Post:
    """What a worker gets from its supervisor: a number (from 1), a socket to listen on, and the line between them.

    The line ends with whichever of the two ends first.
    """

    number: int
    listening: socket.socket
    line: socket.socket

    @classmethod
    def parse(cls, text: str) -> Self:
        """The post that `words` told the command line of this process. ValueError if it is none."""
        number, listening, line = map(int, text.split(":"))
        post = cls(number, socket.socket(fileno=listening), socket.socket(fileno=line))
        for inherited in (post.listening, post.line):
            inherited.set_inheritable(False)
        post.line.setblocking(False)
        return post

    @property
    def words(self) -> str:
        return f"{self.number}:{self.listening.fileno()}:{self.line.fileno()}"

    def ready(self) -> None:
        """Say that requests are answered. OSError if the supervisor has gone."""
        self.line.send(READY)

    async def relieved(self) -> bool:
        """Wait for the supervisor's word that a successor serves; False if it has gone instead."""
        return await _heard(self.line) == RELIEVED


class Worker:
    """A worker as its supervisor sees it, from start to end."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.number = number
        self.started = asyncio.get_running_loop().time()
        self._process = process
        self._line = line

    @classmethod
    async def start(
        cls, number: int, listening: socket.socket, command: Sequence[str], environment: Mapping[str, str]
    ) -> Self:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                Post(number, listening, theirs).words,
                env=environment,
                pass_fds=(listening.fileno(), theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the supervisor, and it alone
            )
        return cls(number, process, ours)

    async def ready(self) -> bool:
        """Wait until it serves; False if it ends instead, or is not there after START_SECONDS."""
        try:
            async with asyncio.timeout(START_SECONDS):
                return await _heard(self._line) == READY
        except TimeoutError:
            return False

    async def ended(self) -> str:
        """Wait until it has ended, however it comes to that; how it ended."""
        code = await self._process.wait()
        self._line.close()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    async def stop(self, seconds: float, *, relieved: bool = False) -> None:
        """Ask it to end in order, and wait until it has; by force after so many seconds."""
        with contextlib.suppress(OSError):  # it has ended by itself
            if relieved:
                self._line.send(RELIEVED)
            else:
                self._process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await self.ended()
        except TimeoutError:
            log.warning("worker killed", worker=self.number, pid=self._process.pid, waited_seconds=seconds)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self.ended()


class Seat:
    """One of the N places: its socket, and the worker that serves there."""

    def __init__(self, number: int, listening: socket.socket) -> None:
        self.number = number
        self.listening = listening
        self.worker: Worker | None = None
        self.turn = asyncio.Lock()
        """Held by whoever is about to put another worker here."""


class Supervisor:
    """Keeps one worker in each seat. `command` starts one, given its post as a last word."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], bind: Bind, count: int, stop_seconds: float
    ) -> None:
        self._command = command
        self._environment = environment
        self._bind = bind
        self._stop_seconds = stop_seconds
        self._seats = [Seat(number, bind()) for number in range(1, count + 1)]
        self._workers: set[Worker] = set()
        self._roll_wanted = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM, then end all workers in order; SIGHUP replaces one after the other.

        Calls `ready` when all serve. Raises StartError if one does not start.
        """
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked.set)
        at_terminal = os.isatty(0)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._hung_up(asked, at_terminal=at_terminal))
        serving = loop.create_task(self._serve(ready))
        stopping = loop.create_task(asked.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (serving, stopping):
                task.cancel()
            outcome, _ = await asyncio.gather(serving, stopping, return_exceptions=True)
            log.info("stopping", workers=len(self._workers))
            await self._stop()
        if isinstance(outcome, Exception):
            raise outcome

    def _hung_up(self, asked: asyncio.Event, *, at_terminal: bool) -> None:
        if at_terminal and not os.isatty(0):  # no wish for new workers: the terminal was closed
            asked.set()
        else:
            self._roll_wanted.set()

    async def _serve(self, ready: Callable[[], None]) -> None:
        started = await asyncio.gather(*(self._fill(seat) for seat in self._seats))
        if not all(started):
            raise StartError("A worker did not start; its own words stand above")
        ready()
        async with asyncio.TaskGroup() as tasks:
            for seat in self._seats:
                tasks.create_task(self._keep(seat))
            tasks.create_task(self._keep_rolling())

    async def _fill(self, seat: Seat) -> bool:
        """Put a new worker in the seat; if it does not come to serve, all stays as it was. Whether it serves."""
        try:
            worker = await Worker.start(seat.number, seat.listening, self._command, self._environment)
        except OSError as error:  # the machine has no room for another process
            log.error("worker cannot be started", worker=seat.number, error=str(error))
            return False
        self._workers.add(worker)
        if await worker.ready():
            seat.worker = worker
            return True
        await self._end(worker)
        return False

    async def _keep(self, seat: Seat) -> None:
        """Start the seat's worker again whenever it ends without having been relieved."""
        while worker := seat.worker:
            how = await worker.ended()
            self._workers.discard(worker)
            async with seat.turn:
                if seat.worker is worker:
                    log.error("worker ended", worker=seat.number, how=how, now="it is started again")
                    await self._refill(seat, worker)

    async def _refill(self, seat: Seat, ended: Worker) -> None:
        settled = asyncio.get_running_loop().time() - ended.started > SETTLED_SECONDS
        failures = 0
        await asyncio.sleep(PAUSES[0 if settled else 1])
        while not await self._fill(seat):
            failures += 1
            if failures == PATIENCE:
                before, seat.listening = seat.listening, self._bind()
                before.close()
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            log.error("worker did not start", worker=seat.number, tried=failures, again_in_seconds=pause)
            await asyncio.sleep(pause)

    async def _keep_rolling(self) -> None:
        while True:
            await self._roll_wanted.wait()
            self._roll_wanted.clear()
            await self._roll()

    async def _roll(self) -> None:
        """Replace each worker by a successor; up to the first that does not start, whose predecessor stays."""
        log.info("workers are replaced", workers=len(self._seats))
        for seat in self._seats:
            async with seat.turn:
                old = seat.worker
                if not await self._fill(seat):
                    log.error("successor did not start", worker=seat.number, now="those before it go on serving")
                    return
            if old is not None:
                await self._end(old, relieved=True)
            log.info("worker replaced", worker=seat.number)
        log.info("all workers are replaced", workers=len(self._seats))

    async def _end(self, worker: Worker, *, relieved: bool = False) -> None:
        await worker.stop(self._stop_seconds, relieved=relieved)
        self._workers.discard(worker)

    async def _stop(self) -> None:
        """End all, at the same time. They share the sockets until then; whoever comes now is refused by the last."""
        for seat in self._seats:
            seat.listening.close()
        await asyncio.gather(*(self._end(worker) for worker in tuple(self._workers)))


async def _heard(line: socket.socket) -> bytes:
    """The next word on the line; empty when its other end is gone."""
    try:
        return await asyncio.get_running_loop().sock_recv(line, 1)
    except ConnectionError:
        return b""
