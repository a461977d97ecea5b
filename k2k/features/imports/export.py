"""Listings as a file, as an import takes them: page by page, so that no file is too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from k2k.core.ids import AgencyId, UserId
from k2k.features.agents import service as agents
from k2k.features.imports import columns, store
from k2k.features.imports.columns import Shape
from k2k.features.imports.models import ExportQuery, Format
from k2k.features.imports.store import ExportRow
from k2k.features.listings.models import ListingKind
from k2k.infra.transaction import Reader

PAGE = 200
"""Listings read and rendered at a time."""
_NEWEST = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))


async def exported(db: Reader, user: UserId, query: ExportQuery) -> AsyncIterator[bytes]:
    """The listings of a person, and of the agency if they run one, newest first, as a file in parts."""
    wanted = columns.exported(query.kind)
    agency = await _agency(db, user)
    kinds = [query.kind.value] if query.kind is not None else [kind.value for kind in ListingKind]
    text, after = columns.header(wanted) if query.format is Format.csv else "", _NEWEST
    while page := await store.export_listings(db, user, agency, kinds, after, PAGE):
        text += await asyncio.to_thread(_rendered, query.format, wanted, page)
        yield text.encode()
        text, after = "", (page[-1].created_at, page[-1].id)
    if text:
        yield text.encode()


async def _agency(db: Reader, user: UserId) -> AgencyId | None:
    """The agency that this person runs, if any."""
    agency = await agents.agency_of(db, user)
    return agency if agency is not None and await agents.manages(db, user, agency) else None


def _rendered(format_: Format, wanted: Mapping[str, Shape], page: Sequence[ExportRow]) -> str:
    rows = [_row(wanted, found) for found in page]
    if format_ is Format.csv:
        return columns.lines(wanted, rows)
    said = ({name: value for name, value in row.items() if value is not None} for row in rows)
    return "".join(to_json(row).decode() + "\n" for row in said)


def _row(wanted: Mapping[str, Shape], found: ExportRow) -> dict[str, Any]:
    fields = from_json(found.document) | {"reference": found.reference}
    return {name: fields.get(name) for name in wanted}


def template(kind: ListingKind) -> bytes:
    """A file with one example."""
    wanted = columns.OF_KIND[kind]
    return (columns.header(wanted) + columns.lines(wanted, [columns.example(kind)])).encode()
