"""Moderation: reporting what is wrong, and the desk of those who look after the market."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic_core import to_json

from k2k.core.errors import DomainError
from k2k.core.ids import STAFF, ListingId
from k2k.core.settings import ListingSettings, MediaSettings
from k2k.features.listings.errors import ListingNotFound, StatusNotPossible, UnitOnOffer
from k2k.features.listings.models import ListingPath, ListingStatus, Verdict
from k2k.features.moderation import service, store
from k2k.features.moderation.errors import DuplicateConfirmed, DuplicateNotFound, ItemNotFound, ItemTaken
from k2k.features.moderation.models import (
    Confirmation,
    Decided,
    Duplicate,
    Item,
    ItemPath,
    Listings,
    ModeratedListing,
    PairPath,
    Queue,
    QueuePage,
    RejectedListings,
    Rejection,
    Report,
    ReportWish,
)
from k2k.infra.limits import Rate
from k2k.infra.streams import Streams
from k2k.ops.call import Call
from k2k.ops.channels import StreamPosition
from k2k.ops.paging import Birth, Cursors
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Routes

routes = Routes("moderation")

# Nobody sees that much wrong in an honest hour.
REPORT_RATE = Rate(20, seconds=3600)
REVIEWING = (ListingNotFound, StatusNotPossible, UnitOnOffer, ItemTaken)


@routes.post(
    "/listings/{listing_id}/reports",
    may=Permission.own_account,
    status=201,
    rpc="listing.report",
    repeats=Repeats.freely,
    rate=REPORT_RATE,
    raises=(ListingNotFound,),
)
async def report_listing(call: Call, path: ListingPath, body: ReportWish) -> Json[Report]:
    """Tell what is wrong with a listing. Its owner is not told who said so. While one report of mine is open it is the
    answer to every further one."""
    async with call.transaction() as tx:
        return await service.report(tx, path.listing_id, call.user.id, body)


@routes.get("/moderation/queue", may=Permission.moderate, rpc="moderation.queue")
async def list_queue(call: Call, query: QueuePage) -> Json[Queue]:
    """What waits for a moderator, the oldest first, and where in the events of the channel `staff` that stands."""
    cursors, list_ = call.use(Cursors), f"moderation_queue {query.kind}"
    after = cursors.open(list_, query.cursor, Birth)
    async with call.snapshot() as reader:
        position = StreamPosition.of(await call.use(Streams).position(reader, STAFF))
        found = await store.list_queue(reader, query.kind, query.limit, after)
    following = to_json(cursors.seal(list_, found.last))
    told = position.model_dump_json().encode()
    return Json(b'{"position":%s,"items":%s,"next":%s}' % (told, found.items, following))


@routes.get("/moderation/queue/{item_id}", may=Permission.moderate, rpc="moderation.item", raises=(ItemNotFound,))
async def get_item(call: Call, path: ItemPath) -> Json[Item]:
    """Something that waits."""
    return await service.get_item(call.db, path.item_id)


@routes.post(
    "/moderation/queue/{item_id}/claim",
    may=Permission.moderate,
    rpc="moderation.claim",
    repeats=Repeats.freely,
    raises=(ItemNotFound, ItemTaken),
)
async def claim_item(call: Call, path: ItemPath) -> Json[Item]:
    """Have an item for fifteen minutes, in which no other moderator decides about it; again: fifteen more."""
    async with call.transaction() as tx:
        return await service.claim(tx, path.item_id, call.user.id, call.now)


@routes.get(
    "/moderation/listings/{listing_id}", may=Permission.moderate, rpc="moderation.listing", raises=(ListingNotFound,)
)
async def get_moderated_listing(call: Call, path: ListingPath) -> Json[ModeratedListing]:
    """A listing of whatever status, what waits about it, and what was reported."""
    return await _moderated(call, path.listing_id)


@routes.post("/moderation/listings/approve", may=Permission.moderate, rpc="moderation.approve_many")
async def approve_listings(call: Call, body: Listings) -> list[Decided]:
    """Publish up to a hundred listings. Each has an outcome of its own, in the order in which they were named."""
    return await _decide(call, body.listing_ids, ListingStatus.active, None)


@routes.post("/moderation/listings/reject", may=Permission.moderate, rpc="moderation.reject_many")
async def reject_listings(call: Call, body: RejectedListings) -> list[Decided]:
    """Reject up to a hundred listings for one reason. Each has an outcome of its own, in the order of the names."""
    return await _decide(call, body.listing_ids, ListingStatus.rejected, body.reason)


@routes.post(
    "/moderation/listings/{listing_id}/approve", may=Permission.moderate, rpc="moderation.approve", raises=REVIEWING
)
async def approve_listing(call: Call, path: ListingPath) -> Json[ModeratedListing]:
    """Publish what waits for review, or was rejected. Its owner hears `listing.approved`."""
    return await _reviewed(call, path.listing_id, ListingStatus.active, None)


@routes.post(
    "/moderation/listings/{listing_id}/reject", may=Permission.moderate, rpc="moderation.reject", raises=REVIEWING
)
async def reject_listing(call: Call, path: ListingPath, body: Rejection) -> Json[ModeratedListing]:
    """Take a listing off the market, and uphold its reports. Its owner hears `listing.rejected` and can read why."""
    return await _reviewed(call, path.listing_id, ListingStatus.rejected, body.reason)


@routes.post(
    "/moderation/listings/{listing_id}/reports/dismiss",
    may=Permission.moderate,
    rpc="moderation.dismiss_reports",
    repeats=Repeats.freely,
    raises=(ListingNotFound, ItemTaken),
)
async def dismiss_reports(call: Call, path: ListingPath) -> Json[ModeratedListing]:
    """Nothing is wrong with it: all its open reports are settled."""
    async with call.transaction() as tx:
        await service.dismiss_reports(tx, path.listing_id, call.user.id, call.now)
        return await service.get_moderated(tx, path.listing_id, call.use(MediaSettings).host)


@routes.get(
    "/moderation/listings/{listing_id}/duplicates",
    may=Permission.moderate,
    rpc="moderation.duplicates",
    raises=(ListingNotFound,),
)
async def list_duplicates(call: Call, path: ListingPath) -> Json[list[Duplicate]]:
    """What may be the same as this listing, whatever was decided about it, the likeliest first."""
    return await service.list_duplicates(call.db, path.listing_id, call.use(MediaSettings).host)


@routes.post(
    "/moderation/listings/{listing_id}/duplicates/{other_id}/confirm",
    may=Permission.moderate,
    rpc="moderation.confirm_duplicate",
    repeats=Repeats.freely,
    raises=(DuplicateNotFound, ListingNotFound, ItemTaken),
)
async def confirm_duplicate(call: Call, path: PairPath, body: Confirmation) -> Json[ModeratedListing]:
    """The two are the same: one of them is what the other, and all that repeats either, is linked with."""
    async with call.transaction() as tx:
        await service.confirm_duplicate(tx, path.listing_id, path.other_id, body.canonical_id, call.user.id, call.now)
        return await service.get_moderated(tx, path.listing_id, call.use(MediaSettings).host)


@routes.post(
    "/moderation/listings/{listing_id}/duplicates/{other_id}/dismiss",
    may=Permission.moderate,
    rpc="moderation.dismiss_duplicate",
    repeats=Repeats.freely,
    raises=(DuplicateNotFound, ListingNotFound, ItemTaken, DuplicateConfirmed),
)
async def dismiss_duplicate(call: Call, path: PairPath) -> Json[ModeratedListing]:
    """The two are not the same. They are candidates again only if there come to be more reasons."""
    async with call.transaction() as tx:
        await service.dismiss_duplicate(tx, path.listing_id, path.other_id, call.user.id, call.now)
        return await service.get_moderated(tx, path.listing_id, call.use(MediaSettings).host)


Goal = Literal[ListingStatus.active, ListingStatus.rejected]


async def _moderated(call: Call, listing: ListingId) -> Json[ModeratedListing]:
    return await service.get_moderated(call.db, listing, call.use(MediaSettings).host)


async def _reviewed(call: Call, listing: ListingId, goal: Goal, reason: str | None) -> Json[ModeratedListing]:
    verdict = Verdict(goal, reason, call.user.id, call.now)
    async with call.transaction() as tx:
        await service.review(tx, listing, verdict, call.use(ListingSettings))
        return await service.get_moderated(tx, listing, call.use(MediaSettings).host)


async def _decide(call: Call, listings: Sequence[ListingId], goal: Goal, reason: str | None) -> list[Decided]:
    verdict = Verdict(goal, reason, call.user.id, call.now)
    async with call.transaction() as tx:
        outcomes = await service.review_many(tx, listings, verdict, call.use(ListingSettings))
    return [_decided(listing, outcome) for listing, outcome in zip(listings, outcomes, strict=True)]


def _decided(listing: ListingId, error: DomainError | None) -> Decided:
    if error is None:
        return Decided(listing_id=listing, error=None, detail=None)
    return Decided(listing_id=listing, error=error.code, detail=error.detail)
