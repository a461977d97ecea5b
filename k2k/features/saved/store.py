"""Rows of what people keep."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from k2k.core.ids import ListingId, UserId
from k2k.features.listings.models import Collection
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.paging import Page


@dataclass(frozen=True, slots=True)
class SavedRow:
    listing_id: ListingId


@dataclass(frozen=True, slots=True)
class CountRow:
    saved: bool
    save_count: int


@dataclass(frozen=True, slots=True)
class PageRow:
    total: int
    body: bytes


_queries = Queries("saved")
SAVE_LISTING = _queries.rows("save_listing", SavedRow)
UNSAVE_LISTING = _queries.rows("unsave_listing", SavedRow)
COUNT_SAVED = _queries.rows("count_saved", CountRow)
LIST_SAVED = _queries.rows("list_saved", PageRow)


async def save_listing(tx: Tx, user: UserId, collection: Collection, listing: ListingId, now: datetime) -> bool:
    """Whether it is saved now and was not before; false also for what this person may not see."""
    return await tx.find(SAVE_LISTING, user, listing, now, collection.kinds) is not None


async def unsave_listing(tx: Tx, user: UserId, collection: Collection, listing: ListingId) -> bool:
    """Whether it was saved and is no longer."""
    return await tx.find(UNSAVE_LISTING, user, listing, collection.kinds) is not None


async def count_saved(db: Reader, user: UserId, collection: Collection, listing: ListingId) -> CountRow | None:
    """Whether this person has saved it, and how many have; None for what is not there."""
    return await db.find(COUNT_SAVED, user, listing, collection.kinds)


async def list_saved(db: Reader, user: UserId, page: Page, host: str) -> PageRow:
    """A part of what this person keeps, newest first, and how many there are."""
    (row,) = await db.rows(LIST_SAVED, user, page.skip, page.limit, page.count_to, host)
    return row
