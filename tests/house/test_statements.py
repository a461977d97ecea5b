"""Every named statement can be prepared on the migrated database, and its columns are what its row type asks for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path

import asyncpg
import pytest

import k2k
from k2k.infra import sql
from k2k.infra.sql import QUERIES, Filtered, Queries, Statement


def bound_statements() -> Iterator[tuple[str, Statement[object]]]:
    """Every statement that some module of the house has bound, by `module.NAME`."""
    for found in pkgutil.walk_packages(k2k.__path__, "k2k."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if isinstance(value, Statement):
                yield f"{found.name}.{name}", value
            if isinstance(value, Filtered):
                yield f"{found.name}.{name}", value.of({})[0]
                yield f"{found.name}.{name} with all filters", value.of(value.parts)[0]
                for part in value.parts:
                    yield f"{found.name}.{name} by {part}", value.of({part: None})[0]


def fields_of(statement: Statement[object]) -> tuple[Field[object], ...]:
    return fields(statement.row) if is_dataclass(statement.row) else ()


STATEMENTS = dict(bound_statements())


@pytest.fixture(scope="module")
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("place", sorted(STATEMENTS))
async def test_a_statement_is_what_its_store_takes_it_for(
    connection: asyncpg.Connection[asyncpg.Record], place: str
) -> None:
    statement = STATEMENTS[place]
    attributes = (await connection.prepare(statement.text)).get_attributes()
    names = [attribute.name for attribute in attributes]
    for attribute in attributes:
        # json is kept as it was written, with newlines, and a newline ends a frame: only jsonb goes to a client.
        assert attribute.type.name != "json", f"{attribute.name}: build it with jsonb_… functions"
    if statement.columns is None:
        assert [attribute.type.name for attribute in attributes] in (["jsonb"], ["bytea"])
    else:
        assert names == statement.columns
        jsonb = {attribute.name for attribute in attributes if attribute.type.name == "jsonb"}
        assert {field.name for field in fields_of(statement) if "bytes" in str(field.type)} >= jsonb
    if statement.announces:
        announced = (await connection.prepare(statement.announcing)).get_attributes()
        assert [attribute.name for attribute in announced] == [
            *names,
            *("channels", "epochs", "offsets", "types", "bodies"),
        ]


def test_no_statement_is_written_for_nobody() -> None:
    bound = {statement.name for statement in STATEMENTS.values()}
    for path in QUERIES.glob("*.sql"):
        assert not set(Queries(path.stem).names) - bound, path.name


def test_a_statement_without_a_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "things.sql").write_text("-- Things.\n\n-- name: get_thing\nselect 1;\n")
    monkeypatch.setattr(sql, "QUERIES", tmp_path)
    with pytest.raises(ValueError, match="get_thing has no sentence"):
        Queries("things")
