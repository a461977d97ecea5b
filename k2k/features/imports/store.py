"""Rows of imports: their files in parts, how far they have come, their errors, and what sellers call their listings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from k2k.core.ids import AgencyId, ImportId, ListingId, UserId
from k2k.features.imports.models import Failure, Format, Import, ImportState
from k2k.features.imports.reading import Opening, Place
from k2k.features.imports.wishes import Fault, Known, as_id
from k2k.features.listings.models import ListingKind
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.paging import Page
from k2k.ops.registry import Json

PART = 256 * 1024
"""Bytes of a file that are one row."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    held: bool


@dataclass(frozen=True, slots=True)
class ImportRow:
    id: ImportId


@dataclass(frozen=True, slots=True)
class TakenRow:
    """An import under way."""

    owner_id: UserId
    format: str
    columns: list[str]
    bytes: int
    next_byte: int
    next_line: int
    in_long_row: bool
    torn: int
    errors: int

    @property
    def place(self) -> Place:
        return Place(self.next_byte, self.next_line, self.in_long_row)


@dataclass(frozen=True, slots=True)
class PartRow:
    part: bytes


@dataclass(frozen=True, slots=True)
class KnownRow:
    reference: str
    listing_id: ListingId
    kind: str
    status: str


@dataclass(frozen=True, slots=True)
class ListingRow:
    id: ListingId


@dataclass(frozen=True, slots=True)
class StandRow:
    """How far an import has come."""

    state: str
    rows: int
    failed: int
    next_byte: int
    bytes: int

    @property
    def percent(self) -> int:
        return self.next_byte * 100 // max(self.bytes, 1)


@dataclass(frozen=True, slots=True)
class PageRow:
    total: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ExportRow:
    id: ListingId
    created_at: datetime
    reference: str
    document: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What came of some rows."""

    created: int
    changed: int
    deleted: int
    failed: int
    torn: int


_queries = Queries("imports")
HOLD_IMPORTS = _queries.rows("hold_imports", HeldRow)
BEGIN_IMPORT = _queries.rows("begin_import", ImportRow)
ADD_PART = _queries.command("add_part")
FIND_SAME_FILE = _queries.rows("find_same_file", ImportRow)
RUN_IMPORT = _queries.rows("run_import", ImportRow)
HOLD_FORGETTABLE = _queries.rows("hold_forgettable", ImportRow)
FORGET_IMPORTS = _queries.command("forget_imports")
OLD_IMPORTS = _queries.rows("old_imports", ImportRow)
TAKE_IMPORT = _queries.rows("take_import", TakenRow)
READ_PARTS = _queries.rows("read_parts", PartRow)
KNOWN_REFERENCES = _queries.rows("known_references", KnownRow)
HOLD_KNOWN = _queries.rows("hold_known", ListingRow)
KEEP_REFERENCES = _queries.command("keep_references")
KEEP_ERRORS = _queries.command("keep_errors")
ADVANCE_IMPORT = _queries.rows("advance_import", StandRow)
END_IMPORT = _queries.rows("end_import", StandRow)
LIST_IMPORTS = _queries.rows("list_imports", PageRow)
GET_IMPORT = _queries.json("get_import")
LIST_ERRORS = _queries.rows("list_errors", PageRow)
EXPORT_LISTINGS = _queries.rows("export_listings", ExportRow)


async def hold_imports(tx: Tx, owner: UserId) -> None:
    """Wait until no other transaction imports anything of this person's."""
    await tx.rows(HOLD_IMPORTS, owner)


async def begin_import(
    tx: Tx, owner: UserId, name: str, format_: Format, opening: Opening, most: int, coming_since: datetime
) -> ImportId | None:
    """A new import; None if the person has `most` under way, those that come in since that moment among them."""
    start = opening.rows
    row = await tx.find(
        BEGIN_IMPORT, owner, name, format_, list(opening.columns), start.byte, start.line, most, coming_since
    )
    return row.id if row else None


async def add_part(tx: Tx, import_id: ImportId, n: int, part: bytes) -> None:
    await tx.run(ADD_PART, import_id, n, part)


async def find_same_file(db: Reader, owner: UserId, sha256: bytes, since: datetime) -> ImportId | None:
    row = await db.find(FIND_SAME_FILE, owner, sha256, since)
    return row.id if row else None


async def run_import(tx: Tx, import_id: ImportId, sha256: bytes, size: int) -> bool:
    """Whether it runs from now on; false if it is not there any more."""
    return await tx.find(RUN_IMPORT, import_id, sha256, size) is not None


async def forget_imports(tx: Tx, imports: Sequence[ImportId], ended_before: datetime | None = None) -> None:
    """Drop those of them that never came in whole, or ended before that moment (None: no others). The rest stays."""
    held = [row.id for row in await tx.rows(HOLD_FORGETTABLE, imports, ended_before)]
    if held:
        await tx.run(FORGET_IMPORTS, held)


async def old_imports(db: Reader, coming_since: datetime, ended_before: datetime, most: int) -> list[ImportId]:
    """What never came in whole, or ended long ago."""
    return [row.id for row in await db.rows(OLD_IMPORTS, coming_since, ended_before, most)]


async def take_import(tx: Tx, import_id: ImportId, at: int) -> TakenRow | None:
    """The import, held, if it runs and has come as far as this byte."""
    return await tx.find(TAKE_IMPORT, import_id, at)


async def read_window(db: Reader, import_id: ImportId, start: int, length: int) -> bytes:
    """So many bytes of the file, or a part's worth more, from one on; fewer at its end."""
    first = start // PART
    rows = await db.rows(READ_PARTS, import_id, first, (start + length) // PART)
    return b"".join(row.part for row in rows)[start - first * PART :]


async def known_references(db: Reader, owner: UserId, references: Sequence[str]) -> Mapping[str, Known]:
    """Those of the references that are of living listings of this person's."""
    rows = await db.rows(KNOWN_REFERENCES, owner, references, list(map(as_id, references)))
    return {row.reference: Known(row.listing_id, ListingKind(row.kind), row.status) for row in rows}


async def hold_known(tx: Tx, listings: Sequence[ListingId]) -> None:
    """Nobody else changes these until the transaction ends."""
    await tx.rows(HOLD_KNOWN, listings)


async def keep_references(tx: Tx, owner: UserId, given: Mapping[str, ListingId]) -> None:
    await tx.run(KEEP_REFERENCES, owner, list(given), list(given.values()))


async def keep_errors(tx: Tx, import_id: ImportId, faults: Sequence[Fault]) -> None:
    columns = [
        [fault.line for fault in faults],
        [_kept(fault.pointer) for fault in faults],
        [fault.code for fault in faults],
        [_kept(fault.detail) for fault in faults],
    ]
    await tx.run(KEEP_ERRORS, import_id, *columns)


def _kept(text: str) -> str:
    """A text that can be stored: names of fields in it are the sender's."""
    return text[:300].replace("\x00", "\N{REPLACEMENT CHARACTER}")


async def advance_import(tx: Tx, import_id: ImportId, to: Place, done: Done, errors: int) -> StandRow:
    """Note what is done, how many errors were kept, and where to go on."""
    (row,) = await tx.rows(
        ADVANCE_IMPORT,
        import_id,
        to.byte,
        to.line,
        to.in_long_row,
        done.created,
        done.changed,
        done.deleted,
        done.failed,
        done.torn,
        errors,
    )
    return row


async def end_import(
    tx: Tx, import_id: ImportId, owner: UserId, state: ImportState, reason: Failure | None = None
) -> StandRow | None:
    """How far it came; None if it had ended before, or is not this person's."""
    return await tx.find(END_IMPORT, import_id, owner, state, reason)


async def list_imports(db: Reader, owner: UserId, page: Page) -> PageRow:
    """A part of a person's imports, newest first, and their number (counted no further than the page asks)."""
    (row,) = await db.rows(LIST_IMPORTS, owner, page.skip, page.limit, page.count_to)
    return row


async def find_import(db: Reader, import_id: ImportId, owner: UserId) -> Json[Import] | None:
    body = await db.find(GET_IMPORT, import_id, owner)
    return Json(body) if body is not None else None


async def list_errors(db: Reader, import_id: ImportId, owner: UserId, page: Page) -> PageRow | None:
    """A part of what was wrong, in the order of the file, and how much of it is kept; None if there is no import."""
    return await db.find(LIST_ERRORS, import_id, owner, page.skip, page.limit)


async def export_listings(
    db: Reader,
    owner: UserId,
    agency: AgencyId | None,
    kinds: Sequence[str],
    after: tuple[datetime, UUID],
    most: int,
) -> list[ExportRow]:
    """The next listings of a person, and of an agency if one is named, newest first, after a place in that order."""
    return await db.rows(EXPORT_LISTINGS, owner, agency, kinds, *after, most)
