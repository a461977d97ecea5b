"""Bringing a database to the newest form with yoyo, and refusing one that cannot hold it.

Several processes may start at once: one migrates, the others wait at an advisory lock and find nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
from yoyo import get_backend, read_migrations

from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader

MIGRATIONS = Path(__file__).parents[2] / "sql" / "migrations"
LOCK = 0x6B326B  # "k2k": any number will do as long as all processes use the same
LOCK_SECONDS = 60
MINIMUM_VERSION = 180000
EXTENSIONS = {"citext", "pg_trgm"}


@dataclass(frozen=True, slots=True)
class _Applied:
    id: str


APPLIED = Queries("migrations").rows("applied_migrations", _Applied)


class DatabaseUnfit(Exception):
    """The database server cannot be used. The message names each fault and its remedy."""


async def ensure_database(url: str, name: str, *, template: str = "template0") -> str:
    """Create the database `name` on the server of `url` if it is not there; return its URL."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        if not await connection.fetchval("select true from pg_database where datname = $1", name):
            quoted = await connection.fetchval("select quote_ident($1)", name)
            source = await connection.fetchval("select quote_ident($1)", template)
            await connection.execute(f"create database {quoted} template {source}")
    finally:
        await connection.close()
    return url.rsplit("/", 1)[0] + f"/{name}"


async def check_server(url: str) -> None:
    """Raise DatabaseUnfit unless version, character type and extensions are what the schema stands on."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        version = int(await connection.fetchval("show server_version_num"))
        name = await connection.fetchval("select current_database()")
        ctype = await connection.fetchval("select datctype from pg_database where datname = $1", name)
        available = {row[0] for row in await connection.fetch("select name::text from pg_available_extensions")}
    finally:
        await connection.close()
    faults = []
    if version < MINIMUM_VERSION:
        faults.append(f"it is PostgreSQL {version // 10000}; {MINIMUM_VERSION // 10000} or newer is needed")
    if ctype.lower().replace("-", "") != "c.utf8":
        faults.append(
            f"its LC_CTYPE is {ctype}; Amharic search needs C.UTF-8: "
            f"create database {name} template template0 encoding 'UTF8' locale 'C.UTF-8'"
        )
    if missing := EXTENSIONS - available:
        faults.append(f"extensions are missing: {', '.join(sorted(missing))} (package postgresql-contrib)")
    if faults:
        raise DatabaseUnfit("The database cannot be used:\n" + "\n".join(f"  - {fault}" for fault in faults))


def migrate(url: str, *, down: bool = False) -> list[str]:
    """Apply every missing migration in order (or, with `down`, roll all of them back); return their ids.

    Waits at most a minute for another process that is migrating.
    """
    with psycopg.connect(url, autocommit=True) as guard:
        guard.execute("select set_config('lock_timeout', %s, false)", (f"{LOCK_SECONDS}s",))
        guard.execute("select pg_advisory_lock(%s)", (LOCK,))
        backend = get_backend(_yoyo_url(url))
        try:
            # We hold the advisory lock, so a row in yoyo's own lock table is left from a crash.
            backend.break_lock()
            every = read_migrations(str(MIGRATIONS))
            chosen = backend.to_rollback(every) if down else backend.to_apply(every)
            ids = [migration.id for migration in chosen]
            if down:
                backend.rollback_migrations(chosen)
            elif ids:
                backend.apply_migrations(chosen)
                guard.execute("analyze")
        finally:
            backend.connection.close()
    return ids


async def applied_migrations(db: Reader) -> set[str]:
    """The ids of the migrations this database has."""
    return {row.id for row in await db.rows(APPLIED)}


def missing_migrations(applied: set[str]) -> list[str]:
    """The ids of the files that are not among the `applied`."""
    return sorted({path.stem for path in MIGRATIONS.glob("*.sql") if ".rollback" not in path.name} - applied)


def _yoyo_url(url: str) -> str:
    scheme, rest = url.split("://", 1)
    if scheme not in {"postgres", "postgresql"}:
        raise DatabaseUnfit(f"The database URL must begin with postgresql://, not {scheme}://")
    return f"postgresql+psycopg://{rest}"
