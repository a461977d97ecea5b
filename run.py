"""The command line of Key2Key: serve · worker · migrate · maintain · seed · jobs · openapi. `make run` serves."""

from __future__ import annotations

import time

STARTED = time.monotonic()  # before the imports, which are most of a warm start

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import psycopg
from pydantic import SecretStr

from k2k.app import LIVE, OPERATIONS, open_studio, watch_pool, working
from k2k.core.clock import Clock
from k2k.core.errors import DomainError
from k2k.core.settings import Settings, SettingsError, load
from k2k.features.accounts.passwords import Passwords
from k2k.features.listings.bulk import any_listing
from k2k.features.media import collection
from k2k.features.media.studio import Studio
from k2k.features.places.service import gazetteer
from k2k.flows import sample_market
from k2k.infra import log, migrations, retention
from k2k.infra.bulk import Bulk
from k2k.infra.db import Db
from k2k.infra.jobs import report
from k2k.seed.load import load as load_market
from k2k.seed.market import Market
from k2k.seed.progress import Progress
from k2k.serving import listening, measured, serve_until_asked, stop_asked, stop_seconds
from k2k.supervisor import Post, StartError, Supervisor
from k2k.web import documents

# Absolute, links and all: where a release is put in place by moving a link, new workers are of that release.
RUN = os.path.abspath(__file__)
SMALL = argparse.Namespace(size="small")
SIZES = {"100k": 100_000, "1m": 1_000_000}
A_DAY = timedelta(days=1)


def main() -> int:
    """Run one command; 0 if it did what was asked, 1 with a message if it could not."""
    chosen = arguments()
    if chosen.command == "openapi":
        openapi()
        return 0
    commands: dict[str, Callable[[Settings], Coroutine[None, None, None]]] = {
        "serve": partial(serve, chosen),
        "worker": worker,
        "migrate": migrate,
        "maintain": maintain,
        "seed": partial(seed, chosen),
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
    for command in (worker, migrate, maintain):
        commands.add_parser(command.__name__, help=command.__doc__)
    seeding = commands.add_parser("seed", help=seed.__doc__)
    seeding.add_argument("--size", choices=("small", *SIZES), default="small", help="small: the sample market")
    seeding.add_argument("--seed", type=int, default=1, metavar="N", help="another number, another big market")
    seeding.add_argument("--until", type=midnight, metavar="DATE", help="its last day (yesterday): same day, same rows")
    serving = commands.add_parser("serve", help=serve.__doc__)
    serving.add_argument("--workers", type=count, metavar="N", help="so many processes on one port; SIGHUP renews them")
    serving.add_argument("--post", type=Post.parse, help=argparse.SUPPRESS)  # from a supervisor to a worker
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


def count(text: str) -> int:
    """A number of workers."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def midnight(text: str) -> datetime:
    """The end of a day (UTC) that is given as 2026-11-22."""
    return datetime.fromisoformat(text).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC) + A_DAY


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, a fifth cheaper per request, where there is a build of it; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


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
    """Do now what the worker does every hour: partitions of events ahead and away, uploads that nothing refers to."""
    done = await retention.tend(settings.database.url.get_secret_value())
    db = await Db.open(settings.database, Clock())
    studio = await open_studio(settings, db.clock)
    try:
        done += await collection.collect(db, studio, everything=True)
    finally:
        await studio.close()
        await db.close()
    print("\n".join(done) or "Nothing was due")


async def seed(chosen: argparse.Namespace, settings: Settings) -> None:
    """Fill an empty development database with the sample market, or with a big one made up from a number."""
    if not settings.development:
        raise StartError(
            "Made-up markets are for development: their passwords are in the source. To try it all the same on a "
            "database that nobody else reaches, set K2K_ENVIRONMENT=development for this command"
        )
    await migrate(settings)
    db = await Db.open(settings.database, Clock())
    passwords = Passwords(settings.auth)
    studio = await open_studio(settings, db.clock)
    try:
        if chosen.size == "small":
            await add_sample_market(db, passwords, studio, settings)
        else:
            await fill(chosen, settings, db, passwords, studio)
    finally:
        passwords.close()
        await studio.close()
        await db.close()


async def add_sample_market(db: Db, passwords: Passwords, studio: Studio, settings: Settings) -> None:
    """Make the sample market, unless it is there."""
    if await sample_market.seed(db, passwords, studio, settings.listings):
        async with Bulk.open(settings.database.url.get_secret_value()) as bulk:
            await bulk.analyze()
        print("Seeded the sample market of Addis Ababa")


async def fill(chosen: argparse.Namespace, settings: Settings, db: Db, passwords: Passwords, studio: Studio) -> None:
    """Make a big market, as fast as the machine can."""
    if await any_listing(db):
        raise StartError("There are listings already: a big market goes into an empty database (remove .k2k for one)")
    market = Market(
        listings=SIZES[chosen.size],
        seed=chosen.seed,
        until=chosen.until or midnight((db.clock.now() - A_DAY).date().isoformat()),
        gazetteer=tuple(await gazetteer(db, "ET")),
        password_hash=await passwords.hash(sample_market.DEMO_PASSWORD),
    )
    began, processes = time.monotonic(), min(4, os.cpu_count() or 1)
    url, told = settings.database.url.get_secret_value(), Progress(market.listings, sys.stderr)
    await load_market(url, market, studio.storage, processes=processes, told=told)
    print(f"Seeded {market.listings:,} listings in {time.monotonic() - began:.0f} s")


async def serve(chosen: argparse.Namespace, settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order: sockets, requests, connections."""
    if chosen.post is not None:
        await migrate(settings)  # a successor may be of a later release than its supervisor
        await serve_until_asked(settings, chosen.post.ready, chosen.post)
        return
    if settings.development:
        await seed(SMALL, settings)
    else:
        await migrate(settings)
    if chosen.workers:
        await supervise(chosen.workers, settings)
    else:
        await serve_until_asked(settings, partial(banner, settings))


async def supervise(workers: int, settings: Settings) -> None:
    """Serve with so many processes on one port."""
    # The kernel would let a second service in beside them; alone, this socket finds out whether there is one.
    alone = listening(settings.server.host, settings.server.port, "K2K_SERVER__PORT")
    port = alone.getsockname()[1]
    alone.close()
    bind = partial(listening, settings.server.host, port, "K2K_SERVER__PORT", shared=True)
    told = settings.model_copy(update={"server": settings.server.model_copy(update={"port": port})})
    command = (sys.executable, RUN, "serve", "--post")
    environment = {**os.environ, **(embedded_servers(settings) if settings.development else {})}
    supervisor = Supervisor(command, environment, bind, workers, stop_seconds(settings))
    await supervisor.run(partial(banner, told, workers))


def embedded_servers(settings: Settings) -> dict[str, str]:
    """What workers need to be told in development: the servers and the secret that their supervisor has found."""
    return {
        "K2K_DATABASE__URL": settings.database.url.get_secret_value(),
        "K2K_REDIS__URL": settings.redis.url.get_secret_value(),
        "K2K_AUTH__SECRET": settings.auth.secret.get_secret_value(),
    }


async def worker(settings: Settings) -> None:
    """Work on the background jobs, without serving, until SIGINT or SIGTERM."""
    await migrate(settings)
    db = await Db.open(settings.database, Clock())
    studio = await open_studio(settings, db.clock)
    work = working(settings, db, studio)
    watch_pool(db)
    try:
        async with measured(db.metrics, settings):
            await work.start()
            print("Key2Key works on its jobs", flush=True)
            await stop_asked()
    finally:
        await work.stop()
        await studio.close()
        await db.close()


async def jobs(chosen: argparse.Namespace, settings: Settings) -> None:
    """Show the queue of background jobs and its dead letters; retry or drop some."""
    db = await Db.open(settings.database, Clock())
    try:
        print(await report.answer(db, chosen.action, None if chosen.all else chosen.ids))
    finally:
        await db.close()


def banner(settings: Settings, workers: int = 1) -> None:
    """Say where it is, how long it took and, in development, as whom to sign in."""
    server = settings.server
    many = f" with {workers} workers" if workers > 1 else ""
    print(f"\nKey2Key serves on http://{server.host}:{server.port}{many} (ready in {time.monotonic() - STARTED:.1f} s)")
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
