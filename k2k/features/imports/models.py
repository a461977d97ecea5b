"""What goes in and out of imports and exports."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from k2k.core.ids import ImportId
from k2k.features.listings.models import ListingKind
from k2k.ops.validation import Answer, Input, Moment

Reference = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
"""What a seller calls a listing."""


class Format(StrEnum):
    """CSV (RFC 4180) with a header, or one JSON object a line; UTF-8 both."""

    csv = "csv"
    jsonl = "jsonl"

    @property
    def media_type(self) -> str:
        return {"csv": "text/csv", "jsonl": "application/x-ndjson"}[self.value]


class ImportState(StrEnum):
    running = "running"
    finished = "finished"
    failed = "failed"
    cancelled = "cancelled"


class Failure(StrEnum):
    """Why an import failed as a whole."""

    denied = "denied"
    """Its owner may no longer offer anything."""
    unreadable = "unreadable"
    """Too many quotes are never closed: it is no CSV."""


class ImportPath(Input):
    import_id: ImportId


class TemplateQuery(Input):
    kind: ListingKind = Field(default=ListingKind.property, description="Whose columns")


class ExportQuery(Input):
    format: Format = Format.csv
    kind: ListingKind | None = Field(default=None, description="Only what is of that kind, with its columns only")


class RowHead(Input):
    """What a row says of itself before it says what is offered."""

    kind: ListingKind
    reference: Reference | None = None


class Import(Answer):
    """A file on its way into the listings. What it has written stays, whatever becomes of the rest."""

    id: ImportId
    name: str
    format: Format
    state: ImportState
    reason: Failure | None = Field(description="Why it failed: denied, or unreadable")
    bytes: int
    rows: int = Field(description="Read so far: created, changed, deleted and failed together")
    created: int
    changed: int
    deleted: int
    failed: int
    percent: int = Field(ge=0, le=100, description="Of the file's bytes")
    created_at: Moment
    updated_at: Moment
    ended_at: Moment | None


class RowError(Answer):
    """Why a row was not taken."""

    line: int = Field(description="Where the row begins, counted from 1; a header is a line too")
    pointer: str = Field(description="The field (JSON pointer); empty where it is the row as a whole")
    code: str
    detail: str
