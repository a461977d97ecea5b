"""Rows of listings and properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from k2k.core.ids import AgencyId, ListingId, UserId
from k2k.features.listings.models import Property, PropertyChange, PropertyDraft
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.paging import Page
from k2k.ops.registry import Json


@dataclass(frozen=True, slots=True)
class PropertiesRow:
    total: int
    body: bytes


@dataclass(frozen=True, slots=True)
class AddedRow:
    id: ListingId
    body: bytes


@dataclass(frozen=True, slots=True)
class ListingRow:
    id: ListingId


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A listing as it is now, and what of it others watch, before and after."""

    body: bytes
    status: str
    price: Decimal
    currency: str
    previous_status: str
    previous_price: Decimal
    previous_currency: str


@dataclass(frozen=True, slots=True)
class OfferRow:
    id: ListingId
    owner_id: UserId
    agency_id: AgencyId | None
    kind: str
    status: str
    price: Decimal
    currency: str
    city: str


_queries = Queries("listings")
LIST_PROPERTIES = _queries.rows("list_properties", PropertiesRow)
GET_PROPERTY = _queries.json("get_property")
ADD_PROPERTY = _queries.rows("add_property", AddedRow)
CHANGE_PROPERTY = _queries.rows("change_property", ChangedRow)
DELETE_PROPERTY = _queries.rows("delete_property", ListingRow)
PUBLIC_LISTINGS = _queries.rows("public_listings", ListingRow)
FIND_OFFER = _queries.rows("find_offer", OfferRow)


async def list_properties(db: Reader, page: Page) -> PropertiesRow:
    """A part of the active properties, newest first, and their number (counted no further than the page asks)."""
    (row,) = await db.rows(LIST_PROPERTIES, page.skip, page.limit, page.count_to)
    return row


async def find_property(db: Reader, listing: ListingId, viewer: UserId | None) -> Json[Property] | None:
    """The property, if `viewer` may see it."""
    body = await db.find(GET_PROPERTY, listing, viewer)
    return Json(body) if body is not None else None


async def add_property(tx: Tx, owner: UserId, agency: AgencyId | None, draft: PropertyDraft, now: datetime) -> AddedRow:
    (row,) = await tx.rows(ADD_PROPERTY, owner, agency, draft.model_dump_json().encode(), now)
    return row


async def change_property(
    tx: Tx, listing: ListingId, owner: UserId, change: PropertyChange, now: datetime
) -> ChangedRow | None:
    """The property before and after; None if this person owns no such one."""
    sent = change.model_dump_json(exclude_unset=True).encode()
    return await tx.find(CHANGE_PROPERTY, listing, owner, sent, now)


async def delete_property(tx: Tx, listing: ListingId, owner: UserId, now: datetime) -> bool:
    """Whether it is deleted now; false if this person owns no such one."""
    return await tx.find(DELETE_PROPERTY, listing, owner, now) is not None


async def are_public(db: Reader, listings: Sequence[ListingId]) -> list[bool]:
    """For each whether everybody may see it."""
    found = {row.id for row in await db.rows(PUBLIC_LISTINGS, listings)}
    return [listing in found for listing in listings]


async def find_offer(db: Reader, listing: ListingId) -> OfferRow | None:
    return await db.find(FIND_OFFER, listing)
