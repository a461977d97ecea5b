"""Rows of reports, of what waits for moderators, and of pairs that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from k2k.core.ids import ItemId, ListingId, UserId
from k2k.features.moderation.models import (
    Duplicate,
    Item,
    ItemKind,
    ModeratedListing,
    Outcome,
    PairState,
    Report,
    ReportState,
    ReportWish,
)
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.paging import Birth, BirthRow
from k2k.ops.registry import Json

MOST_FOUND = 20
"""Candidates that one look brings: whoever offers all the flats of a new house shall not fill the queue."""
MOST_SHARING = 20
"""A picture that more listings on the market show is a brochure's, and no evidence."""
MOST_COMPARED = 200
"""Offers at one place, at about one price, whose words are compared with a listing's."""
MOST_SHOWN = 100
"""Reports or candidates shown of one listing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided, and when. Nobody did where something ended by itself."""

    by: UserId | None
    at: datetime


@dataclass(frozen=True, slots=True)
class ItemRow:
    id: ItemId
    kind: ItemKind
    listing_id: ListingId


@dataclass(frozen=True, slots=True)
class ClaimRow:
    listing_id: ListingId
    body: bytes


@dataclass(frozen=True, slots=True)
class ListingRow:
    id: ListingId


@dataclass(frozen=True, slots=True)
class HeldItemRow:
    """Something that waits."""

    kind: ItemKind
    listing_id: ListingId
    other_id: ListingId | None
    taken: bool
    """Whether somebody else is deciding about it just now."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """What may be the same as a listing, and why: words between blanks."""

    id: ListingId
    reasons: str
    score: float


@dataclass(frozen=True, slots=True)
class PairRow:
    linked: bool


_queries = Queries("moderation")
ADD_REPORT = _queries.json("add_report")
FIND_REPORT = _queries.json("find_report")
OPEN_ITEMS = _queries.rows("open_items", ItemRow)
CLOSE_ITEMS = _queries.rows("close_items", ItemRow)
LIST_QUEUE = _queries.filtered("list_queue", BirthRow)
GET_ITEM = _queries.json("get_item")
CLAIM_ITEM = _queries.rows("claim_item", ClaimRow)
HOLD_ITEMS = _queries.rows("hold_items", HeldItemRow)
HOLD_LISTINGS = _queries.rows("hold_listings", ListingRow)
SETTLE_REPORTS = _queries.command("settle_reports")
GET_MODERATED = _queries.json("get_moderated")
FIND_DUPLICATES = _queries.rows("find_duplicates", FoundRow)
HOLD_PAIRS = _queries.rows("hold_pairs", ListingRow)
KEEP_DUPLICATES = _queries.command("keep_duplicates")
FIND_DUPLICATE = _queries.rows("find_duplicate", PairRow)
SETTLE_DUPLICATE = _queries.command("settle_duplicate")
LIST_DUPLICATES = _queries.json("list_duplicates")


async def add_report(tx: Tx, listing: ListingId, reporter: UserId, wish: ReportWish) -> Json[Report] | None:
    """The report; None if the listing is not public, or if this person's last one is open."""
    body = await tx.find(ADD_REPORT, listing, reporter, wish.reason, wish.text)
    return Json(body) if body is not None else None


async def find_report(db: Reader, listing: ListingId, reporter: UserId) -> Json[Report] | None:
    """The open report of this person."""
    body = await db.find(FIND_REPORT, listing, reporter)
    return Json(body) if body is not None else None


async def settle_reports(tx: Tx, listings: Sequence[ListingId], state: ReportState, decision: Decision) -> None:
    await tx.run(SETTLE_REPORTS, listings, state, decision.by, decision.at)


async def open_items(tx: Tx, listing: ListingId) -> list[ItemRow]:
    """The items that are new because something about the listing is to be decided."""
    return await tx.rows(OPEN_ITEMS, listing)


async def close_items(tx: Tx, listings: Sequence[ListingId], outcome: Outcome, decision: Decision) -> list[ItemRow]:
    """The items of these listings that are done now, because nothing is to be decided there any more."""
    return await tx.rows(CLOSE_ITEMS, listings, decision.at, decision.by, outcome)


async def list_queue(db: Reader, kind: ItemKind | None, limit: int, after: Birth | None) -> BirthRow:
    """A part of what waits, the oldest first."""
    statement, values = LIST_QUEUE.of({"kind": kind} if kind is not None else {})
    place = (after.created_at, after.id) if after is not None else (None, None)
    (row,) = await db.rows(statement, limit, *place, *values)
    return row


async def find_item(db: Reader, item: ItemId) -> Json[Item] | None:
    body = await db.find(GET_ITEM, item)
    return Json(body) if body is not None else None


async def claim_item(tx: Tx, item: ItemId, by: UserId, now: datetime, until: datetime) -> ClaimRow | None:
    """The item as it is now; None if somebody else has it, or it does not wait."""
    return await tx.find(CLAIM_ITEM, item, by, now, until)


async def hold_items(tx: Tx, listings: Sequence[ListingId], by: UserId, now: datetime) -> list[HeldItemRow]:
    """What waits about these listings, which are held; nobody claims any of it until this transaction ends."""
    return await tx.rows(HOLD_ITEMS, listings, by, now)


async def hold_listings(tx: Tx, listings: Sequence[ListingId]) -> set[ListingId]:
    """Those of them that are there; nobody reports or links them until this transaction ends."""
    return {row.id for row in await tx.rows(HOLD_LISTINGS, listings)}


async def find_moderated(db: Reader, listing: ListingId, host: str) -> Json[ModeratedListing] | None:
    body = await db.find(GET_MODERATED, listing, host, MOST_SHOWN)
    return Json(body) if body is not None else None


async def find_duplicates(db: Reader, listing: ListingId) -> list[FoundRow]:
    """What may be the same as this listing, the likeliest first."""
    return await db.rows(FIND_DUPLICATES, listing, MOST_FOUND, MOST_SHARING, MOST_COMPARED)


async def hold_pairs(tx: Tx, listing: ListingId, found: Sequence[FoundRow]) -> None:
    """Neither this listing nor what is, or ever was, found to be like it changes until the transaction ends."""
    await tx.rows(HOLD_PAIRS, listing, [row.id for row in found])


async def keep_duplicates(tx: Tx, listing: ListingId, found: Sequence[FoundRow]) -> None:
    """Note down what may be the same as this listing; all of them are held."""
    columns = [row.id for row in found], [row.reasons for row in found], [row.score for row in found]
    await tx.run(KEEP_DUPLICATES, listing, *columns)


async def find_pair(db: Reader, listing: ListingId, other: ListingId) -> PairRow | None:
    """How these two, in whichever order, are to each other; None if they were never found to be alike."""
    return await db.find(FIND_DUPLICATE, listing, other)


async def settle_pair(tx: Tx, listing: ListingId, other: ListingId, state: PairState, decision: Decision) -> None:
    await tx.run(SETTLE_DUPLICATE, listing, other, state, decision.by, decision.at)


async def list_duplicates(db: Reader, listing: ListingId, host: str) -> Json[list[Duplicate]]:
    """What may be the same, the likeliest first."""
    (body,) = await db.rows(LIST_DUPLICATES, listing, host, MOST_SHOWN)
    return Json(body)
