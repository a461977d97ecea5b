"""Rows of listings and properties."""

from __future__ import annotations

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
class DeletedRow:
    id: ListingId


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
CHANGE_PROPERTY = _queries.json("change_property")
DELETE_PROPERTY = _queries.rows("delete_property", DeletedRow)
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
) -> Json[Property] | None:
    """The property as it is now; None if this person owns no such one."""
    sent = change.model_dump_json(exclude_unset=True).encode()
    body = await tx.find(CHANGE_PROPERTY, listing, owner, sent, now)
    return Json(body) if body is not None else None


async def delete_property(tx: Tx, listing: ListingId, owner: UserId, now: datetime) -> bool:
    """Whether it is deleted now; false if this person owns no such one."""
    return await tx.find(DELETE_PROPERTY, listing, owner, now) is not None


async def find_offer(db: Reader, listing: ListingId) -> OfferRow | None:
    return await db.find(FIND_OFFER, listing)
