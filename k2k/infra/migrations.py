"""Bringing a database to the newest form with yoyo, and refusing one that cannot hold it.

Several processes may start at once: one migrates, the others wait at an advisory lock and find nothing to do.

An applied migration is history. The database keeps the checksum of each file as it was applied, and a process whose
file reads otherwise does not start; `sql/migrations/checksums.txt` keeps them for the eye of a reviewer.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    Waits at most a minute for another process that is migrating. Raises DatabaseUnfit, having changed nothing, if a
    file was changed after it was applied.
    """
    with psycopg.connect(url, autocommit=True) as guard:
        guard.execute("select set_config('lock_timeout', %s, false)", (f"{LOCK_SECONDS}s",))
        guard.execute("select pg_advisory_lock(%s)", (LOCK,))
        if not down:
            _refuse_changed(guard)
        ids = _run(url, down=down)
        if ids and not down:
            guard.execute("analyze")
        _keep_checksums(guard)
    return ids


def checksums() -> dict[str, str]:
    """The SHA-256 of each migration as it stands in its file, by id and in order. Rollbacks are not history."""
    files = sorted(path for path in MIGRATIONS.glob("*.sql") if not path.stem.endswith(".rollback"))
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def checksum_list() -> str:
    """What checksums.txt says, in the form that sha256sum --check reads."""
    return "".join(f"{checksum}  {id_}.sql\n" for id_, checksum in checksums().items())


def _run(url: str, *, down: bool) -> list[str]:
    """Have yoyo do it, inside the lock."""
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
    finally:
        backend.connection.close()
    return ids


def _refuse_changed(guard: psycopg.Connection[tuple[Any, ...]]) -> None:
    kept = guard.execute(
        "select true from information_schema.columns where table_name = '_yoyo_migration' and column_name = 'sha256'"
    ).fetchone()
    if kept is None:
        return
    files = checksums()
    applied = guard.execute("select migration_id, sha256 from _yoyo_migration where sha256 is not null order by 1")
    changed = [id_ for id_, checksum in applied if files.get(id_, checksum) != checksum]
    if changed:
        raise DatabaseUnfit(
            f"Files of migrations that this database already has were changed afterwards: {', '.join(changed)}.\n"
            "Bring them back as they were and write what is new as a further migration.\n"
            "If the database is for development only, remove it (.k2k, where it is ours) to start afresh."
        )


def _keep_checksums(guard: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Note them beside yoyo's record that a migration was applied, so that both go when it is rolled back."""
    guard.execute("alter table _yoyo_migration add column if not exists sha256 text")
    for id_, checksum in checksums().items():
        guard.execute(
            "update _yoyo_migration set sha256 = %s where migration_id = %s and sha256 is null", (checksum, id_)
        )


async def applied_migrations(db: Reader) -> set[str]:
    """The ids of the migrations this database has."""
    return {row.id for row in await db.rows(APPLIED)}


def missing_migrations(applied: set[str]) -> list[str]:
    """The ids of the files that are not among the `applied`."""
    return sorted(checksums().keys() - applied)


def _yoyo_url(url: str) -> str:
    scheme, rest = url.split("://", 1)
    if scheme not in {"postgres", "postgresql"}:
        raise DatabaseUnfit(f"The database URL must begin with postgresql://, not {scheme}://")
    return f"postgresql+psycopg://{rest}"


if __name__ == "__main__":
    sys.stdout.write(checksum_list())
