"""Each table is written by one feature only, connections are left as they were found, and JSON stays on one line.

Who owns a table is said by the migration that creates it: 0002.accounts.sql creates what sql/queries/accounts.sql may
write. What a statement writes is asked of PostgreSQL itself.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from k2k.infra.migrations import MIGRATIONS
from k2k.infra.sql import QUERIES, Queries
from tests.support import ROOT


def without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*", "", sql)


def feature(path: Path) -> str:
    """Whose migration it is: the word after the number."""
    return path.name.split(".")[1].split("_")[0]


def migrations() -> Iterator[tuple[str, str]]:
    """Each migration's feature and text."""
    for path in sorted(MIGRATIONS.glob("*.sql")):
        if not path.stem.endswith(".rollback"):
            yield feature(path), without_comments(path.read_text())


CREATED = re.compile(r"\bcreate\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?(\w+)", re.IGNORECASE)
OWNERS = {table: owner for owner, text in migrations() for table in CREATED.findall(text)}
STATEMENTS = {
    f"{path.stem}.{name}": Queries(path.stem).rows(name, type(None)).text
    for path in sorted(QUERIES.glob("*.sql"))
    for name in Queries(path.stem).names
}


@pytest.fixture(scope="module")
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def written(plan: Mapping[str, Any]) -> Iterator[str]:
    """The tables that a plan inserts into, updates, deletes from or merges."""
    if plan["Node Type"] == "ModifyTable":
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from written(part)


def writes(connection: psycopg.Connection[Any], statement: str) -> set[str]:
    row = connection.execute(f"explain (generic_plan, format json) {statement}".encode()).fetchone()
    assert row is not None
    return set(written(row[0][0]["Plan"]))


@pytest.mark.parametrize("place", STATEMENTS)
def test_a_statement_writes_its_own_features_tables_only(connection: psycopg.Connection[Any], place: str) -> None:
    owner = place.split(".")[0]
    foreign = {table for table in writes(connection, STATEMENTS[place]) if OWNERS.get(table) != owner}
    assert not foreign, (
        f"sql/queries/{owner}.sql writes {sorted(foreign)}: give their own feature a statement and call its service"
    )


def test_what_is_written_is_found_however_it_is_hidden(connection: psycopg.Connection[Any]) -> None:
    for statement, tables in {
        "select 1": set(),
        "insert into users (id) values ($1)": {"users"},
        "with gone as (delete from sign_ins returning id) update users set role = $1 from gone": {"sign_ins", "users"},
        "merge into users using sign_ins on false when not matched then insert (id) values ($1)": {"users"},
    }.items():
        assert writes(connection, statement) == tables


FUNCTION = re.compile(r"\bcreate\s+(?:or\s+replace\s+)?(?:function|procedure)\b", re.IGNORECASE)
WRITTEN = re.compile(
    r"\binsert\s+into\s+(\w+)|\bupdate\s+(?:only\s+)?(\w+)\s+(?:as\s+\w+\s+|(?!set\b)\w+\s+)?set\b"
    r"|\bdelete\s+from\s+(?:only\s+)?(\w+)|\bmerge\s+into\s+(\w+)|\btruncate\s+(?:table\s+)?(\w+)",
    re.IGNORECASE,
)


def named_targets(sql: str) -> set[str]:
    return {next(filter(None, groups)) for groups in WRITTEN.findall(sql)}


def test_a_function_in_the_database_writes_its_own_features_tables_only(connection: psycopg.Connection[Any]) -> None:
    """No plan tells what a function writes; its own words do."""
    bodies = connection.execute(
        "select proname, coalesce(pg_get_function_sqlbody(oid), prosrc) from pg_proc "
        "where pronamespace = 'public'::regnamespace and prokind in ('f', 'p') "
        "and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')"
    ).fetchall()
    owners = {
        name: owner
        for owner, text in migrations()
        for name in re.findall(FUNCTION.pattern + r"\s+(\w+)", text, re.IGNORECASE)
    }
    targets = {name: named_targets(without_comments(body)) for name, body in bodies}
    assert targets["emit"] == {"streams", "events"}
    foreign = {
        (name, table) for name, tables in targets.items() for table in tables if OWNERS.get(table) != owners.get(name)
    }
    assert not foreign, f"functions that write another feature's table: {sorted(foreign)}"


# SQL in Python


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The literals of a module that are not its docstrings, with their lines."""
    tree = ast.parse(path.read_text())
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.lineno, node.value


PYTHON = [
    (f"{path.relative_to(ROOT)}:{line}", text)
    for path in sorted([*ROOT.glob("k2k/**/*.py"), ROOT / "run.py"])
    # It works on a connection of its own, which it closes.
    if path != ROOT / "k2k" / "infra" / "migrations.py"
    for line, text in texts(path)
]


def test_python_writes_through_named_statements_only() -> None:
    found = [place for place, text in PYTHON if named_targets(text)]
    assert not found, f"move these statements to sql/queries/: {found}"


LASTING = {
    "set without local": r"(?:^|;|\bbegin\b|\bthen\b)\s*set\s+(?!local\b|transaction\b|constraints\b)"
    r"(?:(?:session\s+)?[\w.]+\s*(?:=|\bto\b)|role\b|session\b|time\s+zone\b)",
    "set_config without local": r"\bset_config\s*\((?:[^()]|\([^()]*\))*,\s*(?:false|'f\w*'|'off'|0)\s*\)",
    "a session's advisory lock": r"\bpg_(?:try_)?advisory_(?:un)?lock(?:_shared|_all)?\s*\(",
    "a session's table": r"\bcreate\s+temp",
    "a session's cursor": r"\bwith\s+hold\b",
    "reset or discard": r"(?:^|;)\s*(?:reset|discard)\s+\w",
}


def lasting(sql: str) -> list[str]:
    """What of a text would outlive its transaction on the connection."""
    return [name for name, pattern in LASTING.items() if re.search(pattern, sql, re.IGNORECASE)]


@pytest.mark.parametrize(
    ("sql", "faults"),
    [
        ("set work_mem = '1GB'", ["set without local"]),
        ("begin; set session lock_timeout to 5", ["set without local"]),
        ("set role postgres", ["set without local"]),
        ("set local work_mem = '1GB'", []),
        ("update users set role = 'x'", []),
        ("update users\nset role = 'x'", []),
        ("select set_config('a.b', $1, false)", ["set_config without local"]),
        ("select set_config('a.b', coalesce($1, ''), true)", []),
        ("select pg_advisory_lock(1)", ["a session's advisory lock"]),
        ("select pg_try_advisory_lock_shared(1)", ["a session's advisory lock"]),
        ("select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)", []),
        ("create temporary table x (y int)", ["a session's table"]),
    ],
)
def test_what_lasts_is_recognised(sql: str, faults: list[str]) -> None:
    assert lasting(sql) == faults


def test_nothing_changes_a_connection_beyond_its_transaction() -> None:
    """Connections go from one borrower to the next as they are (`infra/db`)."""
    sql = {str(path.relative_to(ROOT)): without_comments(path.read_text()) for path in ROOT.glob("sql/**/*.sql")}
    found = {place: faults for place, text in [*sql.items(), *STATEMENTS.items(), *PYTHON] if (faults := lasting(text))}
    assert not found, f"use `set local` and pg_advisory_xact_lock: {json.dumps(found, indent=2)}"
