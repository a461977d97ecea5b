"""Files as sellers send them, and what becomes of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from k2k.core.ids import ImportId, UserId
from k2k.features.accounts import service as accounts
from k2k.features.accounts.models import Registration
from k2k.features.imports import service
from k2k.infra.db import Db
from k2k.ops.files import File
from k2k.ops.permissions import Role
from tests.support import PREFIX, Api, Person, Response, a_property, eventually

CSV = "text/csv"
LINES = "application/x-ndjson"
Row = Mapping[str, Any]


def a_row(**changes: Any) -> dict[str, Any]:
    return {"kind": "property", **a_property(**changes)}


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    """So many flats that can be told apart by their titles."""
    return [a_row(title=f"Flat {number}", **more) for number in range(count)]


def sheet(said: Iterable[Row]) -> bytes:
    """Rows as CSV with all columns that any of them has."""
    said = list(said)
    names = list(dict.fromkeys(name for row in said for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(said)
    return text.getvalue().encode()


def json_lines(said: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said).encode()


def form(*files: tuple[bytes, str, str]) -> aiohttp.FormData:
    """A request with these files: what is in each, its name and its type."""
    made = aiohttp.FormData()
    for content, name, kind in files:
        made.add_field("files", content, filename=name, content_type=kind)
    return made


async def send(api: Api, token: str, content: bytes, name: str = "stock.csv", kind: str = CSV) -> Response:
    return await api.post("/imports", data=form((content, name, kind)), token=token)


async def ended(api: Api, token: str, import_id: str) -> dict[str, Any]:
    """What became of an import."""

    async def over() -> bool:
        return bool((await api.get(f"/imports/{import_id}", token=token)).json["state"] != "running")

    await eventually(over, seconds=60)
    found: dict[str, Any] = (await api.get(f"/imports/{import_id}", token=token)).json
    return found


async def imported(
    api: Api, person: Person, content: bytes, name: str = "stock.csv", kind: str = CSV
) -> dict[str, Any]:
    """Send a file, and what became of it."""
    answer = await send(api, person.token, content, name, kind)
    assert answer.status == 202, answer.json
    assert answer.headers["Location"] == f"{PREFIX}/imports/{answer.json['id']}"
    return await ended(api, person.token, answer.json["id"])


async def errors_of(api: Api, person: Person, import_id: str) -> list[tuple[int, str, str]]:
    """Line, pointer and code of each error."""
    answer = await api.get(f"/imports/{import_id}/errors", token=person.token)
    assert answer.status == 200, answer.json
    return [(one["line"], one["pointer"], one["code"]) for one in answer.json]


def counts(import_: Mapping[str, Any]) -> tuple[str, int, int, int, int]:
    """How it ended, and what was created, changed, deleted and failed."""
    created, changed, deleted, failed = (import_[name] for name in ("created", "changed", "deleted", "failed"))
    assert import_["rows"] == created + changed + deleted + failed
    return import_["state"], created, changed, deleted, failed


def cells(content: bytes) -> list[dict[str, str]]:
    """The rows of an exported sheet."""
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


# Without a serving process


async def a_seller(db: Db) -> UserId:
    wish = Registration(full_name="Selam Tesfaye", email=f"{uuid4().hex}@people.example", password="correct horse")
    async with db.transaction() as tx:
        user = await accounts.open_account(tx, wish, "no hash", Role.seller)
    assert user is not None
    return user


async def brought(db: Db, owner: UserId, content: bytes, name: str = "stock.csv") -> ImportId:
    """A file that is there and waits for its first chunk."""

    async def chunks() -> Any:
        for start in range(0, len(content), 64 * 1024):
            yield content[start : start + 64 * 1024]

    async def files() -> Any:
        yield File(name, "", chunks())

    return await service.receive(db, owner, files())


async def stands(db: Db, import_id: UUID) -> dict[str, Any]:
    """The import's row."""
    (row,) = await db.records("select * from imports where id = $1", [import_id])
    return dict(row)


async def titles(db: Db, owner: UUID) -> list[str]:
    """Those of a person's living listings."""
    text = "select title from listings where owner_id = $1 and deleted_at is null order by title"
    return [row["title"] for row in await db.records(text, [owner])]


async def settled(db: Db, import_id: UUID) -> dict[str, Any]:
    """The import's row when it has ended."""

    async def over() -> bool:
        return bool((await stands(db, import_id))["ended_at"])

    await eventually(over, seconds=60)
    return await stands(db, import_id)
