"""The command line of Key2Key: serve · worker · migrate · maintain · seed · jobs · openapi. `make run` serves."""

from __future__ import annotations

import time

STARTED = time.monotonic()  # before the imports, which are most of a warm start

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import asyncpg
import psycopg
from aiohttp import web
from pydantic import SecretStr

from k2k.app import LIVE, OPERATIONS, build, watch_pool, working
from k2k.core.clock import Clock
from k2k.core.errors import DomainError
from k2k.core.settings import Settings, SettingsError, load
from k2k.features.accounts.passwords import Passwords
from k2k.flows import sample_market
from k2k.infra import log, migrations, retention
from k2k.infra.db import Db
from k2k.infra.jobs import report
from k2k.infra.metrics import Metrics
from k2k.web import documents
from k2k.web.headers import LEAVING
from k2k.web.metrics import exposing
from k2k.web.server import Runner, listening_socket


def main() -> int:
    """Run one command; 0 if it did what was asked, 1 with a message if it could not."""
    chosen = arguments()
    if chosen.command == "openapi":
        openapi()
        return 0
    commands: dict[str, Callable[[Settings], Coroutine[None, None, None]]] = {
        "serve": serve,
        "worker": worker,
        "migrate": migrate,
        "maintain": maintain,
        "seed": seed,
        "jobs": partial(jobs, chosen),
    }
    try:
        settings = load(os.environ)
        log.set_up(settings.log)
        joins = chosen.command in {"worker", "maintain", "jobs"}
        with servers(settings, join=joins) as ready, asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(commands[chosen.command](ready))
    except report.NotDead as error:
        print(error, file=sys.stderr)
        return 1
    except (SettingsError, migrations.DatabaseUnfit, StartError, DomainError) as error:
        print(f"Key2Key cannot start.\n{error}", file=sys.stderr)
        return 1
    except (OSError, asyncpg.PostgresError, psycopg.Error) as error:
        print(f"Key2Key cannot start: {error}\nIs the database of DATABASE_URL running?", file=sys.stderr)
        return 1
    return 0


def arguments() -> argparse.Namespace:
    """What the command line asks for; ends the process with 2 where that makes no sense."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in (serve, worker, migrate, maintain, seed):
        commands.add_parser(command.__name__, help=command.__doc__)
    commands.add_parser("openapi", help=openapi.__doc__)
    queue = commands.add_parser("jobs", help=jobs.__doc__)
    queue.add_argument("action", nargs="?", choices=("list", "show", "retry", "drop"), default="list")
    queue.add_argument("ids", nargs="*", type=int, metavar="id", help="of dead letters, as the list tells them")
    queue.add_argument("--all", action="store_true", help="with retry: every dead letter")
    chosen = parser.parse_args()
    if chosen.command == "jobs":
        if chosen.all and (chosen.action != "retry" or chosen.ids):
            queue.error("--all goes with retry and no id")
        if (chosen.action == "list") == bool(chosen.ids or chosen.all):
            queue.error("list takes no id; show, retry and drop need at least one")
    return chosen


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, a fifth cheaper per request, where there is a build of it; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class StartError(Exception):
    """Why the process cannot serve, in words a person can act on."""


@contextmanager
def servers(settings: Settings, *, join: bool) -> Iterator[Settings]:
    """The settings with a server behind every address: embedded ones where none are configured.

    They stop in reverse order when the block ends, PostgreSQL last. With `join` a PostgreSQL that a `serve` of this
    checkout has started is used as it is.
    """
    needed = (settings.database.url, settings.redis.url, settings.auth.secret)
    if not settings.development or all(value.get_secret_value() for value in needed):
        yield settings
        return
    # Only here: production has no embedded servers installed.
    from k2k.infra import embedded

    with ExitStack() as stack:
        try:
            database, redis = settings.database, settings.redis
            settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            running = embedded.running_postgres(settings.home / "postgres") if join else None
            if running and not database.url.get_secret_value():
                url = running.rsplit("/", 1)[0] + "/k2k"
                yield settings.model_copy(update={"database": database.model_copy(update={"url": SecretStr(url)})})
                return
            if not (database.url.get_secret_value() and redis.url.get_secret_value()):
                stack.enter_context(embedded.hold(settings.home))
            if not database.url.get_secret_value():
                postgres = embedded.start_postgres(settings.home / "postgres")
                stack.callback(postgres.stop)
                url = asyncio.run(migrations.ensure_database(postgres.url, "k2k"))
                database = database.model_copy(update={"url": SecretStr(url)})
            if not redis.url.get_secret_value():
                valkey = embedded.start_valkey(settings.home / "valkey")
                stack.callback(valkey.stop)
                redis = redis.model_copy(update={"url": SecretStr(valkey.url)})
        except embedded.EmbeddedError as error:
            raise StartError(str(error)) from error
        auth = settings.auth
        if not auth.secret.get_secret_value():
            auth = auth.model_copy(update={"secret": SecretStr(development_secret(settings.home / "secret"))})
        yield settings.model_copy(update={"database": database, "redis": redis, "auth": auth})


def development_secret(path: Path) -> str:
    """The signing secret of this checkout, made on the first start."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text()


def openapi() -> None:
    """Write openapi.json, asyncapi.json, errors.md and the tables of live.md in docs/ from what the code declares."""
    docs = Path(__file__).parent / "docs"
    for name, text in documents.files(OPERATIONS, LIVE, (docs / "live.md").read_text(encoding="utf-8")).items():
        path = docs / name
        path.write_text(text, encoding="utf-8")
        print(f"Wrote {path}")


async def migrate(settings: Settings) -> None:
    """Bring the database to the newest form."""
    url = settings.database.url.get_secret_value()
    await migrations.check_server(url)
    applied = await asyncio.to_thread(migrations.migrate, url)
    if applied:
        print(f"Migrated: {', '.join(applied)}")
    await retention.tend(url)


async def maintain(settings: Settings) -> None:
    """Do now what the worker does every hour: make partitions of events ahead, drop those past their time."""
    done = await retention.tend(settings.database.url.get_secret_value())
    print("\n".join(done) or "Nothing was due")


async def seed(settings: Settings) -> None:
    """Fill an empty development database with the sample market."""
    if not settings.development:
        raise StartError(
            "The sample market is for development: its passwords are in the source. To try it all the same on a "
            "database that nobody else reaches, set K2K_ENVIRONMENT=development for this command"
        )
    await migrate(settings)
    db = await Db.open(settings.database, Clock())
    passwords = Passwords(settings.auth)
    try:
        if await sample_market.seed(db, passwords):
            await db.analyze()
            print("Seeded the sample market of Addis Ababa")
    finally:
        passwords.close()
        await db.close()


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order: sockets, requests, connections."""
    require_c_extensions()
    await (seed if settings.development else migrate)(settings)
    process = await build(settings)
    runner = Runner(process.app, settings.server)
    await runner.setup()
    try:
        async with measured(process.metrics, settings):
            await listen(runner, settings.server.host, settings.server.port, "K2K_SERVER__PORT")
            banner(settings)
            await asked_to_stop()
            if not settings.development:
                process.app[LEAVING].set()
                await asyncio.sleep(settings.server.leave_seconds)
    finally:
        await runner.cleanup()


async def worker(settings: Settings) -> None:
    """Work on the background jobs, without serving, until SIGINT or SIGTERM."""
    await migrate(settings)
    db = await Db.open(settings.database, Clock())
    work = working(settings, db)
    watch_pool(db)
    try:
        async with measured(db.metrics, settings):
            await work.start()
            print("Key2Key works on its jobs", flush=True)
            await asked_to_stop()
    finally:
        await work.stop()
        await db.close()


async def jobs(chosen: argparse.Namespace, settings: Settings) -> None:
    """Show the queue of background jobs and its dead letters; retry or drop some."""
    db = await Db.open(settings.database, Clock())
    try:
        print(await report.answer(db, chosen.action, None if chosen.all else chosen.ids))
    finally:
        await db.close()


@asynccontextmanager
async def measured(metrics: Metrics, settings: Settings) -> AsyncIterator[None]:
    """Answer /metrics where the settings say, if they do."""
    if not settings.metrics.port:
        yield
        return
    runner = Runner(exposing(metrics), settings.server)
    await runner.setup()
    try:
        await listen(runner, settings.metrics.host, settings.metrics.port, "K2K_METRICS__PORT")
        yield
    finally:
        await runner.cleanup()


async def asked_to_stop() -> None:
    """Wait for SIGINT or SIGTERM."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    print("Stopping …", flush=True)


async def listen(runner: web.AppRunner, host: str, port: int, variable: str) -> None:
    try:
        await web.SockSite(runner, listening_socket(host, port)).start()
    except OSError as error:
        raise StartError(
            f"{host}:{port} cannot be used ({error.strerror}): stop what listens there, "
            f"or choose another port with {variable}"
        ) from error


def require_c_extensions() -> None:
    """aiohttp's pure-Python parser had most of its request-smuggling faults: refuse to run with it."""
    try:
        import aiohttp._http_parser  # noqa: F401
    except ImportError as error:
        raise StartError("aiohttp runs without its C extensions: install the wheel of this platform") from error


def banner(settings: Settings) -> None:
    """Say where it is, how long it took and, in development, as whom to sign in."""
    server = settings.server
    print(f"\nKey2Key serves on http://{server.host}:{server.port} (ready in {time.monotonic() - STARTED:.1f} s)")
    if settings.docs:
        print(f"The API to read and to try: http://{server.host}:{server.port}/docs")
    if settings.development:
        print(f"\nDemo accounts, password {sample_market.DEMO_PASSWORD}:")
        for account in sample_market.DEMO_ACCOUNTS:
            print(f"  {account.email:<32} {account.description}")
        print("\nNow, in another terminal: .venv/bin/python examples/live_lead.py")
        print("or with the JavaScript SDK: node examples/live_lead.mjs\nCtrl-C stops everything.\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
