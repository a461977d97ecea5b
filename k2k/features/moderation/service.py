"""Looking after the market: reports, the queue of what waits for a moderator, and what is decided.

What there is to decide about a listing follows from its rows (`moderation_wanted` in the database); items are opened
and closed by comparing with that, so whatever happens to a listing ends in one of the two functions below.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from k2k.core.errors import DomainError, Invalid, Problem
from k2k.core.ids import STAFF, ItemId, ListingId, UserId
from k2k.core.settings import ListingSettings
from k2k.features.listings import service as listings
from k2k.features.listings.errors import ListingNotFound
from k2k.features.listings.inspection import InspectListing
from k2k.features.listings.models import ListingStatus, Verdict
from k2k.features.moderation import store
from k2k.features.moderation.errors import DuplicateConfirmed, DuplicateNotFound, ItemNotFound, ItemTaken
from k2k.features.moderation.events import ItemAdded, ItemClaimed, ItemDone
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
from k2k.features.moderation.store import Decision, PairRow
from k2k.infra.db import Db
from k2k.infra.jobs.job import Attempt, Handler
from k2k.infra.transaction import Reader, Tx, one
from k2k.ops.registry import Json

CLAIMED = timedelta(minutes=15)
"""How long a moderator has an item before others may have it."""
DECIDED_BY: dict[ListingStatus, list[ItemKind]] = {
    ListingStatus.active: [ItemKind.review],
    ListingStatus.rejected: list(ItemKind),
}
"""What a verdict settles."""


async def report(tx: Tx, listing: ListingId, reporter: UserId, wish: ReportWish) -> Json[Report]:
    """Report a public listing; as long as that is open, whatever the same person says of it later is the first report.

    Raises ListingNotFound.
    """
    added = await store.add_report(tx, listing, reporter, wish)
    if added is None:
        first = await store.find_report(tx, listing, reporter)
        if first is None:
            raise ListingNotFound
        return first
    await _open(tx, listing)
    return added


async def get_item(db: Reader, item: ItemId) -> Json[Item]:
    """Something that waits. Raises ItemNotFound."""
    found = await store.find_item(db, item)
    if found is None:
        raise ItemNotFound
    return found


async def claim(tx: Tx, item: ItemId, by: UserId, now: datetime) -> Json[Item]:
    """Keep others away from it for a quarter of an hour, or for another one. Raises ItemTaken or ItemNotFound."""
    claimed = await store.claim_item(tx, item, by, now, now + CLAIMED)
    if claimed is None:
        await get_item(tx, item)
        raise ItemTaken
    event = ItemClaimed(item_id=item, listing_id=claimed.listing_id, claimed_by=by, claimed_until=now + CLAIMED)
    tx.emit(event, to=[STAFF])
    return Json(claimed.body)


async def review_many(
    tx: Tx, asked: Sequence[ListingId], verdict: Verdict, settings: ListingSettings
) -> list[DomainError | None]:
    """Publish listings or reject them: for each why not, or None, in the same order. What else waited there is settled.

    Why not: ListingNotFound, StatusNotPossible, UnitOnOffer, or ItemTaken where another moderator is at it.
    """
    await store.hold_listings(tx, asked)
    taken = await _taken(tx, asked, DECIDED_BY[verdict.status], verdict.reviewer, verdict.now)
    free = [listing for listing in asked if listing not in taken]
    outcomes = dict(zip(free, await listings.review(tx, free, verdict, settings), strict=True))
    done = [listing for listing in free if outcomes[listing] is None]
    decision = Decision(verdict.reviewer, verdict.now)
    if verdict.status is ListingStatus.rejected:
        await store.settle_reports(tx, done, ReportState.upheld, decision)
    outcome = Outcome.approved if verdict.status is ListingStatus.active else Outcome.rejected
    await _close(tx, done, outcome, decision)
    return [ItemTaken() if listing in taken else outcomes[listing] for listing in asked]


async def review(tx: Tx, listing: ListingId, verdict: Verdict, settings: ListingSettings) -> None:
    """Publish a listing or reject it. Raises what `review_many` answers."""
    one(await review_many(tx, [listing], verdict, settings))


async def dismiss_reports(tx: Tx, listing: ListingId, by: UserId, now: datetime) -> None:
    """Nothing is wrong with it: its open reports are settled. Raises ListingNotFound or ItemTaken."""
    if not await store.hold_listings(tx, [listing]):
        raise ListingNotFound
    if await _taken(tx, [listing], [ItemKind.reports], by, now):
        raise ItemTaken
    decision = Decision(by, now)
    await store.settle_reports(tx, [listing], ReportState.dismissed, decision)
    await _close(tx, [listing], Outcome.dismissed, decision)


async def confirm_duplicate(
    tx: Tx, listing: ListingId, other: ListingId, canonical: ListingId | None, by: UserId, now: datetime
) -> None:
    """The two are the same: one of them (None: the older) is what the other repeats.

    Raises DuplicateNotFound, ListingNotFound, ItemTaken, or Invalid if `canonical` is neither of them.
    """
    if canonical not in (None, listing, other):
        fault = Problem("/canonical_id", "body", "neither", "It must be one of the two")
        raise Invalid(problems=[fault])
    await _pair(tx, listing, other)
    for each in (listing, other):
        await listings.get_offer(tx, each)
    await listings.link(tx, [listing, other], canonical, by, now)  # holds the two, and all that is linked with them
    await _settle_pair(tx, listing, other, PairState.confirmed, by, now)


async def dismiss_duplicate(tx: Tx, listing: ListingId, other: ListingId, by: UserId, now: datetime) -> None:
    """The two are not the same, until there are more reasons to think so.

    Raises DuplicateNotFound, ItemTaken, or DuplicateConfirmed if they are linked already, be it by way of a third.
    """
    await store.hold_listings(tx, [listing, other])
    if (await _pair(tx, listing, other)).linked:
        raise DuplicateConfirmed
    await _settle_pair(tx, listing, other, PairState.dismissed, by, now)


async def get_moderated(db: Reader, listing: ListingId, host: str) -> Json[ModeratedListing]:
    """A listing of whatever status with all that was said of it. Raises ListingNotFound."""
    found = await store.find_moderated(db, listing, host)
    if found is None:
        raise ListingNotFound
    return found


async def list_duplicates(db: Reader, listing: ListingId, host: str) -> Json[list[Duplicate]]:
    """What may be the same as this listing, whatever was decided, the likeliest first. Raises ListingNotFound."""
    await listings.get_offer(db, listing)
    return await store.list_duplicates(db, listing, host)


def inspecting(db: Db) -> Handler[InspectListing]:
    """The handler of InspectListing."""

    async def look(job: InspectListing, _attempt: Attempt) -> None:
        async with db.transaction() as tx:
            await inspect(tx, job.listing_id, db.clock.now())

    return look


async def inspect(tx: Tx, listing: ListingId, now: datetime) -> None:
    """Have waiting what is to be decided about the listing as it is now, and nothing else. Twice is as good as once."""
    await listings.mend_links(tx, listing, now)
    found = await store.find_duplicates(tx, listing)
    await store.hold_pairs(tx, listing, found)
    if found:
        await store.keep_duplicates(tx, listing, found)
    await _close(tx, [listing], Outcome.gone, Decision(None, now))
    await _open(tx, listing)


async def _taken(
    tx: Tx, asked: Sequence[ListingId], kinds: Sequence[ItemKind], by: UserId, now: datetime
) -> set[ListingId | None]:
    """The listings about which somebody else is deciding just now; they are held, and from here on nobody claims."""
    items = [item for item in await store.hold_items(tx, asked, by, now) if item.taken and item.kind in kinds]
    return {each for item in items for each in (item.listing_id, item.other_id)}


async def _pair(db: Reader, listing: ListingId, other: ListingId) -> PairRow:
    """Two that were found to be alike. Raises DuplicateNotFound."""
    pair = await store.find_pair(db, listing, other)
    if pair is None:
        raise DuplicateNotFound
    return pair


async def _settle_pair(
    tx: Tx, listing: ListingId, other: ListingId, state: PairState, by: UserId, now: datetime
) -> None:
    """Decide about two, which are held. Raises ItemTaken; then nothing of it stays."""
    decision = Decision(by, now)
    await store.settle_pair(tx, listing, other, state, decision)
    for item in await store.hold_items(tx, [listing, other], by, now):
        if item.taken and {item.listing_id, item.other_id} == {listing, other}:
            raise ItemTaken
    outcome = Outcome.confirmed if state is PairState.confirmed else Outcome.dismissed
    await _close(tx, [listing, other], outcome, decision)


async def _open(tx: Tx, listing: ListingId) -> None:
    for item in await store.open_items(tx, listing):
        tx.emit(ItemAdded(item_id=item.id, kind=item.kind, listing_id=item.listing_id), to=[STAFF])


async def _close(tx: Tx, asked: Sequence[ListingId], outcome: Outcome, decision: Decision) -> None:
    for item in await store.close_items(tx, asked, outcome, decision):
        event = ItemDone(
            item_id=item.id, kind=item.kind, listing_id=item.listing_id, outcome=outcome, done_by=decision.by
        )
        tx.emit(event, to=[STAFF])
