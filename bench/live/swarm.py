"""The clients: a program in C (clients.c) in a process and on a core of its own, and how it is spoken to."""

from __future__ import annotations

import json
import os
import select
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp.test_utils import unused_port

from bench.harness.machine import Cores, pin
from bench.harness.servers import HOME, end
from bench.harness.window import ErrorsUnderLoad
from bench.live.stacks import Dialect

SOURCES = Path(__file__).parent
PATIENCE = 30.0
FIRST = 1_000_000_000
_SAMPLE = struct.Struct("=QII")


class SwarmError(ErrorsUnderLoad):
    """The clients cannot be built, or were not served as they should be."""


@dataclass(frozen=True, slots=True)
class Client:
    """One client. `role`: r counts what arrives, w writes `message` and again at each echo."""

    port: int
    path: str
    hellos: Sequence[str]
    role: str = "r"
    message: str = ""
    again: str = ""
    source: str = "127.0.0.1"

    def line(self) -> str:
        return "\t".join([self.source, str(self.port), self.path, self.role, self.message, self.again, *self.hellos])


@dataclass(frozen=True, slots=True)
class Sample:
    """An event at a client: its mark's moment and number, and the seconds after that moment."""

    at: float
    number: int
    late: float


def compiler() -> str | None:
    """The path of a C compiler."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def built(name: str) -> Path:
    """The program, compiled when its source is newer. Raises SwarmError without a compiler."""
    source, program = SOURCES / f"{name}.c", HOME / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        command = compiler()
        if command is None:
            raise SwarmError("The clients of this bench are written in C: install a compiler (cc)")
        program.parent.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run([command, "-O2", "-o", str(fresh), str(source)], check=True, timeout=120)
        fresh.replace(program)
    return program


class Swarm:
    """The running clients. What goes wrong with them raises SwarmError."""

    def __init__(self, running: subprocess.Popen[bytes], home: Path) -> None:
        self._running = running
        self._home = home
        self._said = b""
        self.pid = running.pid

    def connect(self, seconds: float = PATIENCE, number: int = 0) -> dict[str, Any]:
        """Connect all that are not, and wait until they are and, with `number`, have that event."""
        return self.order(f"connect {seconds} {number}", seconds)

    def listen(self, seconds: float, every: int = 1) -> tuple[dict[str, Any], list[Sample]]:
        """Count what arrives; keep one of `every` arrivals."""
        return self._window(f"listen {seconds} {every}", seconds)

    def chat(self, warm_up: float, seconds: float, most: int, rate: float = 0.0) -> tuple[dict[str, Any], list[Sample]]:
        """Have the writers write: each with `most` messages without an echo, or all together `rate` a second."""
        return self._window(f"chat {warm_up} {seconds} {most} {rate}", warm_up + seconds)

    def listen_to_the_end(self, seconds: float) -> None:
        """Notice for so long who is cut."""
        self.order(f"listen {seconds} 1 {self._home / 'samples'}", seconds)

    def order(self, order: str, seconds: float = 0.0) -> dict[str, Any]:
        self.begin(order)
        return self.answer(seconds)

    def begin(self, order: str) -> None:
        """Give an order whose answer is read later."""
        assert self._running.stdin is not None
        self._running.stdin.write(order.encode() + b"\n")
        self._running.stdin.flush()

    def answer(self, seconds: float, *, refusals: bool = False) -> dict[str, Any]:
        """What came of the order, which takes about so many seconds. `refusals`: may clients have been refused?"""
        answer: dict[str, Any] = json.loads(self._line(seconds + PATIENCE))
        if answer.get("refusals") and not refusals:
            raise SwarmError(f"{answer['refusals']} refusals")
        return answer

    def _window(self, order: str, seconds: float) -> tuple[dict[str, Any], list[Sample]]:
        file = self._home / "samples"
        counted = self.order(f"{order} {file}", seconds)
        if counted["losses"]:
            raise SwarmError(f"{counted['losses']} connections were lost")
        samples = [Sample(at / 1e6, number, late / 1e6) for at, number, late in _SAMPLE.iter_unpack(file.read_bytes())]
        return counted, samples

    def _line(self, seconds: float) -> bytes:
        assert self._running.stdout is not None
        stop_at = time.monotonic() + seconds
        while b"\n" not in self._said:
            there, _, _ = select.select([self._running.stdout], [], [], max(0.0, stop_at - time.monotonic()))
            got = os.read(self._running.stdout.fileno(), 65536) if there else b""
            if not got:
                raise SwarmError("the clients have ended" if there else f"no answer in {seconds:.0f} s")
            self._said += got
        line, _, self._said = self._said.partition(b"\n")
        return line


@contextmanager
def swarm(
    dialect: Dialect,
    clients: Sequence[Client],
    cores: Cores,
    *,
    feedback: Path | None = None,
    at_once: int = 100,
    deflate: bool = False,
) -> Iterator[Swarm]:
    """Clients that are not yet connected. `feedback` is told each event that all of them have."""
    first = FIRST + int(time.time()) % 200_000 * 10_000
    command = [str(built("clients")), str(feedback or "-"), dialect, str(first)]
    with TemporaryDirectory() as home:  # for us alone: tokens are in it
        listed = Path(home) / "clients"
        listed.write_text("".join(client.line() + "\n" for client in clients))
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        try:
            pin(running.pid, cores.generator)
            found = Swarm(running, Path(home))
            found.order(f"open {listed} {at_once} {int(deflate)}")
            yield found
        finally:
            end(running)
            for pipe in (running.stdin, running.stdout):
                assert pipe is not None
                pipe.close()


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What the clients take in of a server that does nothing but send."""

    per_second: float
    busy: float
    together: int
    """Events in one write of that server."""

    @property
    def at_most(self) -> float:
        """What they would take in with their whole core."""
        return self.per_second / max(self.busy, 0.01)


def ceiling(clients: int, size: int, together: int, seconds: float, cores: Cores) -> Ceiling:
    """Have a native sender feed the clients as fast as it can."""
    port = unused_port()
    sender = subprocess.Popen([str(built("sender")), str(port), str(size), str(together)], start_new_session=True)
    try:
        pin(sender.pid, cores.server)
        time.sleep(0.1)
        with swarm("plain", [Client(port, "/", ["{}"])] * clients, cores) as found:
            found.connect()
            time.sleep(0.5)  # it begins when nobody has come for a while
            found.listen(0.3, 1000)
            counted, _ = found.listen(seconds, 1000)
    finally:
        end(sender)
    return Ceiling(counted["deliveries"] / counted["seconds"], counted["cpu"] / counted["seconds"], together)
