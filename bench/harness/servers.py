"""The servers a bench measures, each with PostgreSQL (fsync on) and Valkey of its own, so that its whole cost is seen.

Everything listens on 127.0.0.1 and is ended by its pid when the bench ends; when the bench is killed, by Linux.
"""

from __future__ import annotations

import asyncio
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import asyncpg
from aiohttp.test_utils import unused_port

from bench.harness.machine import Cores, pin
from k2k.infra import embedded, migrations

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".k2k" / "bench"
START_SECONDS = 30.0
STOP_SECONDS = 15.0
DATABASE = "bench"


@dataclass(frozen=True)
class Backing:
    """PostgreSQL with an empty, migrated database, and Valkey."""

    database_url: str
    redis_url: str
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Running:
    """A serving process."""

    port: int
    pid: int


@contextmanager
def held() -> Iterator[None]:
    """Keep other benches of this checkout out; SIGTERM ends us like Ctrl-C, with everything cleaned up."""
    # A shell starts what goes to the background with SIGINT ignored; asyncio only hears of the default handler.
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with embedded.hold(HOME):
            yield
    finally:
        signal.signal(signal.SIGTERM, ended)
        signal.signal(signal.SIGINT, interrupted)


@contextmanager
def backing(name: str, cores: Cores) -> Iterator[Backing]:
    """Servers behind one side. Statements are counted, which costs every side the same."""
    with ExitStack() as stack:
        home = HOME / "servers" / name
        counting = ("shared_preload_libraries=pg_stat_statements",)
        postgres = embedded.start_postgres(home / "postgres", settings=counting)
        stack.callback(postgres.stop)
        valkey = embedded.start_valkey(home / "valkey")
        stack.callback(valkey.stop)
        for server in (postgres, valkey):
            pin(server.pid, cores.database)
        url = asyncio.run(fresh_database(postgres.url))
        yield Backing(url, valkey.url, (postgres.pid, valkey.pid))


async def fresh_database(server_url: str) -> str:
    """The URL of a database as after the last migration, without rows."""
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"drop database if exists {DATABASE} with (force)")
    await connection.close()
    url = await migrations.ensure_database(server_url, DATABASE)
    await asyncio.to_thread(migrations.migrate, url)
    connection = await asyncpg.connect(url)
    await connection.execute("create extension pg_stat_statements")
    await connection.close()
    return url


def secret() -> str:
    """A key to sign tokens with, for one run."""
    return secrets.token_urlsafe(48)


@contextmanager
def key2key(
    name: str,
    backing: Backing,
    secret: str,
    cores: Cores,
    *,
    loop: str = "default",
    seeded: bool = False,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    lag: Path | None = None,
) -> Iterator[Running]:
    """Our serving process. `loop`: asyncio, uvloop, or whatever run.py takes; `seeded`: with the sample market.

    `settings` are further variables of its environment; into the file `lag` it notes how late its loop wakes up.
    """
    environment = {
        "K2K_ENVIRONMENT": "development" if seeded else "production",
        "K2K_HOME": str(HOME / "servers" / name),
        "K2K_AUTH__SECRET": secret,
        "K2K_LOG__LEVEL": "warning",
        "K2K_LIMITS__USER_PER_MINUTE": "100000000",
        "K2K_LIMITS__ADDRESS_PER_MINUTE": "100000000",
        "K2K_LIMITS__COMMANDS_PER_USER_MINUTE": "100000000",
        "K2K_LIMITS__COMMANDS_PER_ADDRESS_MINUTE": "100000000",
        "DATABASE_URL": backing.database_url,
        "REDIS_URL": backing.redis_url,
        **(settings or {}),
    }
    port = port or unused_port()
    environment["K2K_SERVER__PORT"] = str(port)
    command = [sys.executable, "-m", "bench.harness.serve", loop, *([str(lag)] if lag else [])]
    with process(name, command, environment, ROOT, cores.server, port, "/health/ready") as pid:
        yield Running(port, pid)


@contextmanager
def process(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    cores: tuple[int, ...],
    port: int,
    path: str | None,
) -> Iterator[int]:
    """A process that serves, from its first good answer on `path` (None: from when it listens); its pid.

    Raises RuntimeError with its last words.
    """
    log = HOME / "servers" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    setpriv = shutil.which("setpriv") if platform.system() == "Linux" else None
    wrapper = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    with log.open("wb") as out:
        running = subprocess.Popen(
            [*wrapper, *command],
            cwd=directory,
            env={"PATH": "/usr/bin:/bin", **environment},
            start_new_session=True,  # Ctrl-C reaches the bench first and alone
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        await_answer(running, port, path, log)
        pin(running.pid, cores)
        yield running.pid
    finally:
        end(running)


def await_answer(running: subprocess.Popen[bytes], port: int, path: str | None, log: Path) -> None:
    stop_at = time.monotonic() + START_SECONDS
    while time.monotonic() < stop_at and running.poll() is None:
        with suppress(HTTPError, URLError, OSError), answering(port, path):
            return
        time.sleep(0.05)
    last_words = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RuntimeError(f"{log.stem} does not serve. {log} ends with:\n{last_words}")


def answering(port: int, path: str | None) -> AbstractContextManager[object]:
    """An open connection to who listens there, or its good answer. Raises OSError or urllib's errors."""
    if path is None:
        return socket.create_connection(("127.0.0.1", port), timeout=2)
    answer: AbstractContextManager[object] = urlopen(f"http://127.0.0.1:{port}{path}", timeout=2)
    return answer


def end(running: subprocess.Popen[bytes]) -> None:
    """Ask, then force."""
    if running.poll() is None:
        running.terminate()
        try:
            running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
