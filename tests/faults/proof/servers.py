"""PostgreSQL, Valkey and the serving processes: real ones, which may be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import psutil
import redis.asyncio

from k2k.infra import embedded
from tests.faults.proof.proxy import Proxy
from tests.support import free_port

ROOT = Path(__file__).parents[3]
# A busy machine needs seconds for the imports alone.
READY_SECONDS = 90.0
AWAY = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
# More than the processes' pools may grow to, and few enough for strangers to take the rest.
CONNECTIONS = 60
CROWD = "crowd"
DISK_MIB = 256
Answer = TypeVar("Answer")


class Backing:
    """A server behind the proxies of all processes. Its port may differ from start to start, its password may not."""

    def __init__(self, home: Path, threads: ThreadPoolExecutor) -> None:
        self.home = home
        self.proxies: list[Proxy] = []
        self.server: embedded.Server | None = None
        # One thread that lives as long as the run: the kernel ends a server with the thread that started it.
        self._threads = threads

    async def start(self) -> None:
        """Start it empty or on what it has on disk, and lead the proxies to it."""
        self.server = await self._aside(lambda: self._begin(self.home))
        for proxy in self.proxies:
            proxy.upstream = self.port

    async def kill(self) -> None:
        """kill -9 of the server; returns when it is gone."""
        assert self.server is not None
        os.kill(self.server.pid, signal.SIGKILL)
        await self._aside(self.server.stop)

    async def stop(self) -> None:
        if self.server is not None:
            self.thaw()
            await self._aside(self.server.stop)

    @property
    def url(self) -> str:
        """Past every proxy."""
        assert self.server is not None
        return self.server.url

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def freeze(self) -> None:
        """SIGSTOP of the server and its children."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def family(self) -> list[psutil.Process]:
        """The server's children, then itself."""
        assert self.server is not None
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.server.pid)
            return [*server.children(recursive=True), server]
        return []

    def _signal(self, number: signal.Signals) -> None:
        for member in self.family():
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)

    def _begin(self, home: Path) -> embedded.Server:
        raise NotImplementedError

    async def _aside(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class Postgres(Backing):
    """Durable: fsync and synchronous_commit are on, as PostgreSQL has them. The processes are no superusers in it."""

    def __init__(self, home: Path, threads: ThreadPoolExecutor) -> None:
        super().__init__(home, threads)
        self.password = secrets.token_hex(16)

    def _begin(self, home: Path) -> embedded.Server:
        return embedded.start_postgres(home, settings=("log_min_messages=fatal", f"max_connections={CONNECTIONS}"))

    async def make(self) -> None:
        """The processes' role and its empty database, and a role for strangers."""
        connection = await self.connect("postgres")
        for role in ("k2k", CROWD):
            await connection.execute(f"create role {role} login password '{self.password}'")
        await connection.execute("create database k2k owner k2k")
        await connection.close()

    async def stranger(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection of somebody else's, past the proxies. Raises asyncpg.TooManyConnectionsError."""
        url = f"postgresql://{CROWD}:{self.password}@127.0.0.1:{self.port}/k2k"
        return await asyncpg.connect(url, timeout=5)

    async def connect(self, database: str = "k2k") -> asyncpg.Connection[asyncpg.Record]:
        """The checker's own way in, as superuser and past the proxies."""
        url = self.url.rsplit("/", 1)[0]
        return await asyncpg.connect(f"{url}/{database}", timeout=5, command_timeout=120)

    async def asked(self, question: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Answer]]) -> Answer:
        """What the checker reads past the proxies, asked again while the server recovers from a crash."""
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                connection = await self.connect()
                try:
                    return await question(connection)
                finally:
                    connection.terminate()
            except AWAY:
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(0.05)

    def through(self, proxy: Proxy) -> str:
        return f"postgresql://k2k:{self.password}@127.0.0.1:{proxy.port}/k2k"

    async def recover(self) -> None:
        """Start it if it has ended. Returns when it answers."""
        with suppress(*AWAY):
            await (await self.connect()).close()
            return
        assert self.server is not None
        await self._aside(self.server.stop)
        await self.start()


class NoDisk(Exception):
    """Nobody may mount one here."""


class Disk:
    """A small disk of the server's own, mounted at `home`. Only root may do that (Linux)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ballast = home / "ballast"

    async def mount(self) -> None:
        """Raises NoDisk."""
        self.home.mkdir(mode=0o700, parents=True)
        if not await _done("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(self.home)):
            raise NoDisk

    async def unmount(self) -> None:
        await _done("umount", str(self.home))

    def fill(self) -> None:
        """Take all the room there is left."""
        assert self.home.is_mount(), "that would fill everybody's disk"
        room = os.statvfs(self.home)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)

    def free(self) -> None:
        self._ballast.unlink()


async def _done(*words: str) -> bool:
    """Run a command, and whether it succeeded."""
    silence = asyncio.subprocess.DEVNULL
    try:
        return not await (await asyncio.create_subprocess_exec(*words, stdout=silence, stderr=silence)).wait()
    except OSError:
        return False


class Valkey(Backing):
    """Keeps nothing: each start is an empty one."""

    def __init__(self, home: Path, threads: ThreadPoolExecutor) -> None:
        super().__init__(home, threads)
        self.password = secrets.token_urlsafe(24)

    async def start(self) -> None:
        await super().start()
        parts = urlsplit(self.url)
        first = redis.asyncio.from_url(self.url)
        await first.config_set("requirepass", self.password)
        await first.aclose()
        own = f"redis://:{self.password}@127.0.0.1:{parts.port}/0"
        assert self.server is not None
        self.server = embedded.Server(own, self.server._process, self.server._signals)

    def _begin(self, home: Path) -> embedded.Server:
        return embedded.start_valkey(home)

    def through(self, proxy: Proxy) -> str:
        return f"redis://:{self.password}@127.0.0.1:{proxy.port}/0"

    async def ask(self, *words: str | int) -> object:
        """One command, past the proxies."""
        connection = redis.asyncio.from_url(self.url, socket_timeout=5, decode_responses=True)
        try:
            return await connection.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            await connection.aclose()


@dataclass(eq=False)
class App:
    """One `run.py serve` in production mode, by way of `program` so that a test can make it die at a chosen moment."""

    number: int
    home: Path
    environment: dict[str, str]
    postgres: Proxy
    valkey: Proxy
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None
    starts: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def trigger(self) -> Path:
        """While this file exists, the process kills itself between its next COMMIT and telling of it."""
        return self.home / f"die-{self.number}"

    @property
    def clock(self) -> Path:
        """While this file exists, the process's wall clock is wrong by as many seconds as it says."""
        return self.home / f"clock-{self.number}"

    @property
    def log(self) -> Path:
        return self.home / f"app-{self.number}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self, command: tuple[str, ...] = ("serve",)) -> None:
        """Start and wait until it is ready; again if it ends, for the database may not be back yet.

        Raises AssertionError with its last words.
        """
        end = time.monotonic() + READY_SECONDS
        while not await self._started(command, end):
            last_words = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
            assert time.monotonic() < end, f"app {self.number} does not serve:\n{last_words}"

    async def _started(self, command: tuple[str, ...], end: float) -> bool:
        """Start once; whether it became ready before it ended or time was up."""
        self.trigger.unlink(missing_ok=True)
        own = {"PROOF_TRIGGER": str(self.trigger), "PROOF_CLOCK": str(self.clock), "K2K_SERVER__PORT": str(self.port)}
        given = {**self.environment, **own, "K2K_METRICS__PORT": str(self.metrics_port)}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *_with_us(),
                *(sys.executable, "-m", "tests.faults.proof.program", *command),
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **given},
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.starts += 1
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while time.monotonic() < end and self.running:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(f"{self.base}/health/ready") as answer:
                        if answer.status == 200:
                            return True
                await asyncio.sleep(0.05)
        return False

    async def end(self, number: signal.Signals = signal.SIGKILL, *, seconds: float = 30) -> None:
        """Send the signal and wait for its end; killed when that takes too long."""
        if self.process is None:
            return
        self.signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _with_us() -> tuple[str, ...]:
    """Words before a command that make the kernel end it with this program, however that ends (Linux)."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL") if setpriv else ()
