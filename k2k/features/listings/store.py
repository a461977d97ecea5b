"""Rows of listings, properties and vehicles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

import asyncpg
from pydantic import BaseModel

from k2k.core.ids import AgencyId, ImageId, ListingId, MediaId, UserId
from k2k.core.money import Currency
from k2k.features.listings.errors import UnitOnOffer
from k2k.features.listings.kinds import AnyChange, AnyDraft, ListingPage, PropertyPage, VehiclePage
from k2k.features.listings.models import Collection, ListingKind, ListingStatus, Look, Reading
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.paging import Birth, BirthRow, Page


@dataclass(frozen=True, slots=True)
class Added:
    """A draft of a kind, and what the service adds to it."""

    kind: ListingKind
    draft: AnyDraft
    status: str
    expires_at: datetime | None
    unit_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Changed:
    """What the service adds to a change: who makes it, to which version, and what the wished status may follow.

    With `review` nobody but a reviewer publishes.
    """

    user: UserId
    now: datetime
    version: int | None
    may_come_from: Sequence[str]
    expires_at: datetime
    unit_hash: bytes | None
    review: bool


@dataclass(frozen=True, slots=True)
class PageRow:
    total: int
    body: bytes


@dataclass(frozen=True, slots=True)
class TextRow:
    body: bytes
    version: int


@dataclass(frozen=True, slots=True)
class StateRow:
    owner_id: UserId
    status: str
    version: int


@dataclass(frozen=True, slots=True)
class ImageRow:
    id: ImageId
    media_id: MediaId
    sha256: bytes
    is_primary: bool


@dataclass(frozen=True, slots=True)
class ListingRow:
    id: ListingId


@dataclass(frozen=True, slots=True)
class AddedRow:
    place: int
    id: ListingId


@dataclass(frozen=True, slots=True)
class HeldRow:
    held: bool


@dataclass(frozen=True, slots=True)
class PostedRow:
    posted: bool


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A listing as it is now, and what of it others watch, before and after."""

    status: str
    price: Decimal
    currency: str
    previous_status: str
    previous_price: Decimal
    previous_currency: str


@dataclass(frozen=True, slots=True)
class ViewsRow:
    id: ListingId
    view_count: int
    kind: str


@dataclass(frozen=True, slots=True)
class SavesRow:
    save_count: int


@dataclass(frozen=True, slots=True)
class OwnedRow:
    id: ListingId
    owner_id: UserId


@dataclass(frozen=True, slots=True)
class EndingRow:
    id: ListingId
    owner_id: UserId
    expires_at: datetime


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


@dataclass(frozen=True, slots=True)
class Review:
    """What a reviewer decides: the status, where it may be given to, and why. `expires_at` is for what gets public."""

    status: ListingStatus
    may_come_from: Sequence[str]
    reason: str | None
    reviewer: UserId
    now: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ReviewedRow:
    id: ListingId
    owner_id: UserId
    outcome: Literal["moved", "there", "impossible", "on-offer"]


@dataclass(frozen=True, slots=True)
class DeletedRow:
    deleted: bool


MOST_PRICES = 200
_queries = Queries("listings")
LIST_LISTINGS = _queries.filtered("list_listings", PageRow)
FEATURED_LISTINGS = _queries.json("featured_listings")
TRENDING_LISTINGS = _queries.json("trending_listings")
SIMILAR_LISTINGS = _queries.json("similar_listings")
GET_LISTING = _queries.rows("get_listing", TextRow)
OWN_LISTING = _queries.rows("own_listing", TextRow)
FIND_STATE = _queries.rows("find_state", StateRow)
HOLD_LISTING = _queries.rows("hold_listing", StateRow)
LISTING_IMAGES = _queries.rows("listing_images", ImageRow)
ARRANGE_IMAGES = _queries.command("arrange_images")
HOLD_POSTING = _queries.rows("hold_posting", HeldRow)
POSTED_SINCE = _queries.rows("posted_since", PostedRow)
ADD_LISTINGS = _queries.rows("add_listings", AddedRow)
CHANGE_LISTING = _queries.rows("change_listing", ChangedRow)
DELETE_LISTING = _queries.rows("delete_listing", ListingRow)
COUNT_VIEWS = _queries.rows("count_views", ViewsRow)
VIEW_COUNTS = _queries.rows("view_counts", ViewsRow)
COUNT_SAVE = _queries.rows("count_save", SavesRow)
RENEW_LISTING = _queries.rows("renew_listing", ChangedRow)
EXPIRE_LISTINGS = _queries.rows("expire_listings", OwnedRow)
WARN_OWNERS = _queries.rows("warn_owners", EndingRow)
LIST_HISTORY = _queries.json("list_history")
PRICE_HISTORY = _queries.json("price_history")
PUBLIC_LISTINGS = _queries.rows("public_listings", ListingRow)
FIND_OFFER = _queries.rows("find_offer", OfferRow)
MY_LISTINGS = _queries.filtered("my_listings", BirthRow)
REVIEW_LISTINGS = _queries.rows("review_listings", ReviewedRow)
HOLD_LINKS = _queries.rows("hold_links", HeldRow)
LINK_LISTINGS = _queries.command("link_listings")
IS_DELETED = _queries.rows("is_deleted", DeletedRow)


async def list_listings(
    db: Reader, collection: Collection, page: ListingPage, reading: Reading, owner: UserId | None = None
) -> PageRow:
    """A part of the active listings, newest first, and their number (counted no further than the page asks)."""
    also: dict[str, object] = {"kind": collection.kind, "owner": owner}
    wanted = _filters(page) | {name: value for name, value in also.items() if value is not None}
    statement, values = LIST_LISTINGS.of(wanted)
    (row,) = await db.rows(statement, page.skip, page.limit, page.count_to, reading.viewer, reading.host, *values)
    return row


def _filters(page: ListingPage) -> dict[str, object]:
    """The filters that this page asks for, with their values."""
    asked: dict[str, object] = {
        "listing_type": page.listing_type,
        "price_min": page.price_min,
        "price_max": page.price_max,
        "currency": page.currency,
        "city": page.city,
        "search": _anywhere(page.search) if page.search is not None else None,
    }
    if page.currency is None and (page.price_min is not None or page.price_max is not None):
        asked["currency"] = Currency.ETB
    match page:
        case PropertyPage():
            asked |= {"property_types": page.property_type or None, "bedrooms": page.bedrooms or None}
        case VehiclePage():
            same = ("brand", "model", "transmission", "year_min", "year_max", "mileage_max")
            asked |= {"fuels": page.fuel or None, **{name: getattr(page, name) for name in same}}
    return {name: value for name, value in asked.items() if value is not None}


def _anywhere(words: str) -> str:
    """A pattern for `ilike` that finds these very words."""
    escaped = words.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


async def featured_listings(db: Reader, collection: Collection, limit: int, reading: Reading) -> bytes:
    (body,) = await db.rows(FEATURED_LISTINGS, collection.kinds, limit, reading.viewer, reading.host)
    return body


async def trending_listings(db: Reader, collection: Collection, limit: int, reading: Reading) -> bytes:
    (body,) = await db.rows(TRENDING_LISTINGS, collection.kinds, limit, reading.viewer, reading.host)
    return body


async def similar_listings(
    db: Reader, collection: Collection, listing: ListingId, limit: int, reading: Reading
) -> bytes | None:
    """Others like it; None if it is not there for the viewer."""
    return await db.find(SIMILAR_LISTINGS, listing, limit, reading.viewer, reading.host, collection.kinds)


async def find_listing(db: Reader, collection: Collection, listing: ListingId, reading: Reading) -> TextRow | None:
    """The listing, if it may be seen."""
    return await db.find(GET_LISTING, listing, reading.viewer, reading.host, collection.kinds)


async def own_listing(db: Reader, listing: ListingId, host: str) -> TextRow:
    """The listing as its owner gets it."""
    (row,) = await db.rows(OWN_LISTING, listing, host)
    return row


async def find_state(db: Reader, collection: Collection, listing: ListingId) -> StateRow | None:
    return await db.find(FIND_STATE, listing, collection.kinds)


async def hold_listing(tx: Tx, collection: Collection, listing: ListingId) -> StateRow | None:
    """The listing as it stands, until the transaction ends."""
    return await tx.find(HOLD_LISTING, listing, collection.kinds)


async def listing_images(db: Reader, listing: ListingId) -> list[ImageRow]:
    """Its pictures in their order."""
    return await db.rows(LISTING_IMAGES, listing)


async def arrange_images(
    tx: Tx, listing: ListingId, media: Sequence[MediaId], primary: MediaId | None, user: UserId, now: datetime
) -> None:
    """Give the listing just these pictures, in this order."""
    await tx.run(ARRANGE_IMAGES, listing, media, primary, user, now)


async def hold_posting(tx: Tx, owner: UserId) -> None:
    """Wait until no other transaction offers something of this person's."""
    await tx.rows(HOLD_POSTING, owner)


async def posted_since(db: Reader, owner: UserId, moment: datetime) -> bool:
    (row,) = await db.rows(POSTED_SINCE, owner, moment)
    return row.posted


async def add_listings(
    tx: Tx, owner: UserId, agency: AgencyId | None, now: datetime, added: Sequence[Added]
) -> list[ListingId | None]:
    """Each listing, in the same order; None where the very unit is on offer already."""
    rows = await tx.rows(
        ADD_LISTINGS,
        owner,
        agency,
        now,
        [one.kind for one in added],
        [_sent(one.draft, exclude_unset=False) for one in added],
        [one.status for one in added],
        [one.expires_at for one in added],
        [one.unit_hash for one in added],
    )
    found = {row.place: row.id for row in rows}
    return [found.get(place) for place in range(len(added))]


async def change_listing(
    tx: Tx, collection: Collection, listing: ListingId, change: AnyChange, changed: Changed
) -> ChangedRow | None:
    """What others watch, before and after; None if this may not be: `find_state` tells why. Raises UnitOnOffer."""
    with _unit_offered_once():
        return await tx.find(
            CHANGE_LISTING,
            listing,
            changed.user,
            changed.now,
            _sent(change, exclude_unset=True),
            changed.version,
            changed.may_come_from,
            changed.expires_at,
            {"unit", "vin"} & change.model_fields_set != set(),
            changed.unit_hash,
            collection.kinds,
            changed.review,
        )


@contextmanager
def _unit_offered_once() -> Iterator[None]:
    """That a unit is on offer twice is only found out by writing it."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "listings_unit":
            raise
        raise UnitOnOffer from error


def _sent(wish: BaseModel, *, exclude_unset: bool) -> bytes:
    return wish.model_dump_json(exclude_unset=exclude_unset, exclude={"unit", "vin"}).encode()


async def delete_listing(
    tx: Tx, collection: Collection, listing: ListingId, owner: UserId, version: int | None, now: datetime
) -> bool:
    """Whether it is deleted now; false if this may not be: `find_state` tells why."""
    return await tx.find(DELETE_LISTING, listing, owner, now, collection.kinds, version) is not None


async def are_public(db: Reader, listings: Sequence[ListingId]) -> list[bool]:
    """For each whether everybody may see it."""
    found = {row.id for row in await db.rows(PUBLIC_LISTINGS, listings)}
    return [listing in found for listing in listings]


async def find_offer(db: Reader, listing: ListingId) -> OfferRow | None:
    return await db.find(FIND_OFFER, listing)


async def count_views(tx: Tx, looks: Sequence[Look]) -> list[int | None]:
    """Count each look; for each how often the listing was looked at now, None if it is not public behind that door."""
    rows = await tx.rows(
        COUNT_VIEWS,
        [look.listing for look in looks],
        [look.collection.kind or "" for look in looks],
        max(look.at for look in looks),
    )
    counts = {row.id: row for row in rows}
    found = [counts.get(look.listing) for look in looks]
    return [
        row.view_count if row is not None and look.collection.kind in (None, row.kind) else None
        for row, look in zip(found, looks, strict=True)
    ]


async def view_count(db: Reader, collection: Collection, listing: ListingId) -> int | None:
    """How often it was looked at; None if it is not public behind that door."""
    row = await db.find(VIEW_COUNTS, [listing])
    return row.view_count if row is not None and collection.kind in (None, row.kind) else None


async def count_save(tx: Tx, listing: ListingId, change: int, now: datetime) -> int:
    """How many have saved it, after one more (1) or one less (-1) does."""
    (row,) = await tx.rows(COUNT_SAVE, listing, change, now)
    return row.save_count


async def renew_listing(
    tx: Tx, collection: Collection, listing: ListingId, owner: UserId, now: datetime, until: datetime, most: int
) -> ChangedRow | None:
    """Public until then; None if this may not be: `find_state` tells why."""
    with _unit_offered_once():
        return await tx.find(RENEW_LISTING, listing, owner, now, until, most, collection.kinds)


async def expire_listings(tx: Tx, now: datetime, most: int) -> list[OwnedRow]:
    """End the time of those whose time it is, so many of them."""
    return await tx.rows(EXPIRE_LISTINGS, now, most)


async def warn_owners(tx: Tx, now: datetime, until: datetime, most: int) -> list[EndingRow]:
    """Note that the owners of those that end until then are warned, so many of them."""
    return await tx.rows(WARN_OWNERS, now, until, most)


async def list_history(db: Reader, listing: ListingId, viewer: UserId, page: Page) -> bytes:
    (body,) = await db.rows(LIST_HISTORY, listing, viewer, page.skip, page.limit)
    return body


async def price_history(db: Reader, listing: ListingId) -> bytes:
    """The last MOST_PRICES that were asked for it in public, the oldest first."""
    (body,) = await db.rows(PRICE_HISTORY, listing, MOST_PRICES)
    return body


async def my_listings(
    db: Reader, owner: UserId, status: ListingStatus | None, limit: int, after: Birth | None, host: str
) -> BirthRow:
    """A part of what somebody offers, the newest first, with what is for its owner alone."""
    statement, values = MY_LISTINGS.of({"status": status} if status is not None else {})
    place = (after.created_at, after.id) if after is not None else (None, None)
    (row,) = await db.rows(statement, owner, *place, limit, host, *values)
    return row


async def review_listings(tx: Tx, listings: Sequence[ListingId], review: Review) -> list[ReviewedRow]:
    """What became of those that are there, in any order. Raises UnitOnOffer."""
    with _unit_offered_once():
        return await tx.rows(
            REVIEW_LISTINGS,
            listings,
            review.status,
            review.may_come_from,
            review.reason,
            review.reviewer,
            review.now,
            review.expires_at,
        )


async def link_listings(
    tx: Tx, listings: Sequence[ListingId], canonical: ListingId | None, by: UserId | None, now: datetime
) -> None:
    await tx.rows(HOLD_LINKS)
    await tx.run(LINK_LISTINGS, listings, canonical, by, now)


async def is_deleted(db: Reader, listing: ListingId) -> bool:
    row = await db.find(IS_DELETED, listing)
    return row is not None and row.deleted
