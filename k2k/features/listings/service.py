"""Offering property and vehicles: publishing, changing and taking away, and who may see what."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, assert_never

from k2k.core.errors import Denied, DomainError, NotFound
from k2k.core.ids import ListingId, UserId, listing_channel, user_channel
from k2k.core.money import Currency
from k2k.core.settings import ListingSettings
from k2k.features.agents import service as agents
from k2k.features.listings import store
from k2k.features.listings.errors import (
    ListingNotFound,
    NoRenewalLeft,
    PostedJustNow,
    PropertyNotFound,
    StatusNotPossible,
    UnitOnOffer,
    VehicleNotFound,
)
from k2k.features.listings.events import (
    ListingApproved,
    ListingExpired,
    ListingExpiring,
    ListingPriceChanged,
    ListingRejected,
    ListingStatusChanged,
)
from k2k.features.listings.inspection import InspectListing
from k2k.features.listings.kinds import AnyChange, AnyDraft, PropertyChange, PropertyDraft, VehicleChange, VehicleDraft
from k2k.features.listings.lifecycle import Mover, first, may_come_from
from k2k.features.listings.models import Collection, ListingKind, ListingStatus, Look, Offer, Reading, Verdict
from k2k.features.listings.store import Added, Changed, Review, TextRow
from k2k.infra.db import Db
from k2k.infra.transaction import Reader, Tx, one
from k2k.live.access import AccessLost
from k2k.ops.versions import VersionMismatch

HANDFUL = 100
"""Listings ended in one transaction: each end locks a stream of its owner."""


def not_found(collection: Collection) -> NotFound:
    """What that door says of a listing that is not there for somebody."""
    match collection:
        case Collection.properties:
            return PropertyNotFound()
        case Collection.vehicles:
            return VehicleNotFound()
        case Collection.listings:
            return ListingNotFound()
        case _:
            assert_never(collection)


async def get_listing(db: Reader, collection: Collection, listing: ListingId, reading: Reading) -> TextRow:
    """The listing, if it may be seen. Raises PropertyNotFound, VehicleNotFound or ListingNotFound."""
    found = await store.find_listing(db, collection, listing, reading)
    if found is None:
        raise not_found(collection)
    return found


async def get_own(db: Reader, listing: ListingId, user: UserId) -> None:
    """Return if this person owns it or works for the agency it belongs to. Raises ListingNotFound or Denied."""
    found = await store.find_offer(db, listing)
    if found is None:
        raise ListingNotFound
    if found.owner_id != user and (found.agency_id is None or await agents.agency_of(db, user) != found.agency_id):
        await get_listing(db, Collection.listings, listing, Reading(user, ""))
        raise Denied


async def view_count(db: Reader, collection: Collection, listing: ListingId) -> int:
    """How often it was looked at. Raises what `get_listing` raises."""
    count = await store.view_count(db, collection, listing)
    if count is None:
        raise not_found(collection)
    return count


async def similar_listings(
    db: Reader, collection: Collection, listing: ListingId, limit: int, reading: Reading
) -> bytes:
    """Others like it, as JSON. Raises what `get_listing` raises."""
    found = await store.similar_listings(db, collection, listing, limit, reading)
    if found is None:
        raise not_found(collection)
    return found


async def publish(tx: Tx, owner: UserId, draft: AnyDraft, settings: ListingSettings, now: datetime) -> ListingId:
    """Offer something; it belongs to its owner's agency, if any. Raises PostedJustNow or UnitOnOffer."""
    if settings.posting_seconds:
        await store.hold_posting(tx, owner)
        if await store.posted_since(tx, owner, now - timedelta(seconds=settings.posting_seconds)):
            refusal = PostedJustNow()
            refusal.retry_after = settings.posting_seconds
            raise refusal
    return one(await publish_many(tx, owner, [draft], settings, now))


async def publish_many(
    tx: Tx, owner: UserId, drafts: Sequence[AnyDraft], settings: ListingSettings, now: datetime
) -> list[ListingId | UnitOnOffer]:
    """Offer many things, as fast as they come; the outcome of each in the same order."""
    agency = await agents.agency_of(tx, owner)
    wishes = [_added(draft, settings, now) for draft in drafts]
    added = await store.add_listings(tx, owner, agency, now, wishes)
    for listing, wish in zip(added, wishes, strict=True):
        if listing is not None and wish.status is not ListingStatus.draft:
            inspect(tx, listing)
    return [UnitOnOffer() if listing is None else listing for listing in added]


def _added(draft: AnyDraft, settings: ListingSettings, now: datetime) -> Added:
    status = first(ListingStatus(draft.status), review=settings.review)
    return Added(
        kind=ListingKind.property if isinstance(draft, PropertyDraft) else ListingKind.vehicle,
        draft=draft,
        status=status,
        expires_at=_end(settings, now) if status is ListingStatus.active else None,
        unit_hash=_unit_hash(draft),
    )


async def change(
    tx: Tx,
    collection: Collection,
    listing: ListingId,
    user: UserId,
    change: AnyChange,
    version: int | None,
    settings: ListingSettings,
    now: datetime,
) -> None:
    """Change what was sent of one's own listing, if it is still at `version` (None: whichever).

    Raises what `get_listing` raises, Denied if it is another's, VersionMismatch, StatusNotPossible or UnitOnOffer.
    """
    may_come: list[str] = []
    if change.status is not None:
        may_come = sorted(may_come_from(Mover.owner, ListingStatus(change.status), review=settings.review))
    changed = await store.change_listing(
        tx,
        collection,
        listing,
        change,
        Changed(
            user=user,
            now=now,
            version=version,
            may_come_from=may_come,
            expires_at=_end(settings, now),
            unit_hash=_unit_hash(change),
            review=settings.review,
        ),
    )
    if changed is None:
        await _refuse(tx, collection, listing, user, version)
        raise StatusNotPossible
    _tell_changes(tx, listing, changed)
    inspect(tx, listing)


async def delete(
    tx: Tx, collection: Collection, listing: ListingId, user: UserId, version: int | None, now: datetime
) -> None:
    """Take away one's own listing for good. Raises what `change` raises."""
    if not await store.delete_listing(tx, collection, listing, user, version, now):
        await _refuse(tx, collection, listing, user, version)
        raise ListingNotFound  # deleted by somebody else between the two statements
    _tell_status(tx, listing, "deleted")
    inspect(tx, listing)


def inspect(tx: Tx, listing: ListingId) -> None:
    """Have the listing looked at: whoever writes what it shows or where it stands calls this, images too."""
    tx.enqueue(InspectListing(listing_id=listing))


async def review(
    tx: Tx, listings: Sequence[ListingId], verdict: Verdict, settings: ListingSettings
) -> list[DomainError | None]:
    """Publish these listings, or take them off the market: for each why that could not be, or None, in the same order.

    Whoever asks has made sure that the reviewer may. One that is there already stays as it is. Raises UnitOnOffer if
    one of them was offered anew in the very same moment.
    """
    decided = Review(
        status=verdict.status,
        may_come_from=sorted(may_come_from(Mover.reviewer, verdict.status, review=settings.review)),
        reason=verdict.reason,
        reviewer=verdict.reviewer,
        now=verdict.now,
        expires_at=_end(settings, verdict.now),
    )
    found = {row.id: row for row in await store.review_listings(tx, listings, decided)}
    for row in found.values():
        if row.outcome == "moved":
            _tell_verdict(tx, row, verdict.status)
            inspect(tx, row.id)
    return [_why_not(found.get(listing)) for listing in listings]


def _why_not(row: store.ReviewedRow | None) -> DomainError | None:
    if row is None:
        return ListingNotFound()
    match row.outcome:
        case "moved" | "there":
            return None
        case "impossible":
            return StatusNotPossible()
        case "on-offer":
            return UnitOnOffer()
        case _:
            assert_never(row.outcome)


async def link(tx: Tx, listings: Sequence[ListingId], canonical: ListingId | None, by: UserId, now: datetime) -> None:
    """Make one of these, and of all they are linked with, the one that the others repeat (None: the oldest)."""
    await store.link_listings(tx, listings, canonical, by, now)


async def mend_links(tx: Tx, listing: ListingId, now: datetime) -> None:
    """Where the listing is deleted, have those that repeat it repeat the oldest among them instead."""
    if await store.is_deleted(tx, listing):
        await store.link_listings(tx, [listing], None, None, now)


async def renew(
    tx: Tx,
    collection: Collection,
    listing: ListingId,
    user: UserId,
    settings: ListingSettings,
    now: datetime,
) -> None:
    """Have one's own listing public for its time again, from now. Raises what `change` raises, and NoRenewalLeft."""
    until = _end(settings, now)
    renewed = await store.renew_listing(tx, collection, listing, user, now, until, settings.renewals)
    if renewed is None:
        state = await _refuse(tx, collection, listing, user, None)
        if state.status in (ListingStatus.active, ListingStatus.expired):
            raise NoRenewalLeft
        raise StatusNotPossible
    _tell_changes(tx, listing, renewed)
    inspect(tx, listing)


async def end_listings(db: Db, settings: ListingSettings) -> None:
    """Warn whose listing ends soon, and end those whose time it is, in small transactions until none is left."""
    while await _warn_some(db, settings) == HANDFUL:
        pass
    while await _expire_some(db) == HANDFUL:
        pass


async def _warn_some(db: Db, settings: ListingSettings) -> int:
    async with db.transaction() as tx:
        now = db.clock.now()
        ending = await store.warn_owners(tx, now, now + timedelta(days=settings.warn_days), HANDFUL)
        for one in ending:
            event = ListingExpiring(listing_id=one.id, expires_at=one.expires_at)
            tx.emit(event, to=[user_channel(one.owner_id)])
    return len(ending)


async def _expire_some(db: Db) -> int:
    async with db.transaction() as tx:
        ended = await store.expire_listings(tx, db.clock.now(), HANDFUL)
        for one in ended:
            tx.emit(ListingExpired(listing_id=one.id), to=[user_channel(one.owner_id)])
            _tell_status(tx, one.id, ListingStatus.expired)
            inspect(tx, one.id)
    return len(ended)


async def count_views(tx: Tx, looks: Sequence[Look]) -> list[int | DomainError]:
    """Count each look; for each how often the listing was looked at now, or PropertyNotFound and the like."""
    counts = await store.count_views(tx, looks)
    return [not_found(look.collection) if count is None else count for count, look in zip(counts, looks, strict=True)]


async def count_save(tx: Tx, listing: ListingId, change: int, now: datetime) -> int:
    """Note that one more (1) or one less (-1) has saved it; how many have now."""
    return await store.count_save(tx, listing, change, now)


async def _refuse(
    tx: Tx, collection: Collection, listing: ListingId, user: UserId, version: int | None
) -> store.StateRow:
    """Say why a change of this listing by this person was none; where it stands if that must be the reason."""
    return await require_own(tx, collection, listing, user, version, await store.find_state(tx, collection, listing))


async def hold_own(tx: Tx, collection: Collection, listing: ListingId, user: UserId, version: int | None) -> None:
    """Keep everybody else from changing one's own listing until the transaction ends. Raises what `change` raises."""
    await require_own(tx, collection, listing, user, version, await store.hold_listing(tx, collection, listing))


async def require_own(
    db: Reader,
    collection: Collection,
    listing: ListingId,
    user: UserId,
    version: int | None,
    state: store.StateRow | None,
) -> store.StateRow:
    """Where the listing stands that this person may change, at this version; raises why not, if that is so."""
    if state is None:
        raise not_found(collection)
    if state.owner_id != user:
        # Whether there is something that is not public is nobody else's business.
        await get_listing(db, collection, listing, Reading(user, ""))
        raise Denied
    if version is not None and state.version != version:
        raise VersionMismatch(f"It is at version {state.version} now, your change was meant for {version}")
    return state


def _end(settings: ListingSettings, now: datetime) -> datetime:
    return now + timedelta(days=settings.active_days)


def _unit_hash(wish: AnyDraft | AnyChange) -> bytes | None:
    """The hash by which the same unit is known again; None where nothing names it."""
    match wish:
        case PropertyDraft(unit=str(unit)) | PropertyChange(unit=str(unit)):
            kind, name = "unit", re.sub(r"[\W_]+", " ", unit).strip().casefold()
        case VehicleDraft(vin=str(vin)) | VehicleChange(vin=str(vin)):
            kind, name = "vin", vin.upper()
        case _:
            return None
    return hashlib.sha256(f"{kind} {name}".encode()).digest() if name else None


def _tell_changes(tx: Tx, listing: ListingId, changed: store.ChangedRow) -> None:
    """Tell whoever looks at the listing what is different now."""
    if changed.previous_status == ListingStatus.active and (changed.price, changed.currency) != (
        changed.previous_price,
        changed.previous_currency,
    ):
        event = ListingPriceChanged(
            listing_id=listing,
            price=changed.price,
            currency=Currency(changed.currency),
            previous_price=changed.previous_price,
            previous_currency=Currency(changed.previous_currency),
        )
        tx.emit(event, to=[listing_channel(listing)])
    if changed.status != changed.previous_status:
        _tell_status(tx, listing, ListingStatus(changed.status))


def _tell_status(tx: Tx, listing: ListingId, status: ListingStatus | Literal["deleted"]) -> None:
    """Tell where the listing stands; what is not public is followed by nobody from then on.

    Others than its owner learn that it is no longer there, but of no verdict.
    """
    channel = listing_channel(listing)
    told = ListingStatus.withdrawn if status is ListingStatus.rejected else status
    tx.emit(ListingStatusChanged(listing_id=listing, status=told), to=[channel])
    if status is not ListingStatus.active:
        tx.emit(AccessLost(channel=channel, user_id=None), to=[channel])


def _tell_verdict(tx: Tx, row: store.ReviewedRow, status: ListingStatus) -> None:
    """Tell the owner, and whoever looks at the listing."""
    event = ListingApproved if status is ListingStatus.active else ListingRejected
    tx.emit(event(listing_id=row.id), to=[user_channel(row.owner_id)])
    _tell_status(tx, row.id, status)


async def get_offer(db: Reader, listing: ListingId) -> Offer:
    """A listing of any kind and status that is not deleted. Raises ListingNotFound."""
    row = await store.find_offer(db, listing)
    if row is None:
        raise ListingNotFound
    return Offer(
        id=row.id,
        owner_id=row.owner_id,
        agency_id=row.agency_id,
        kind=ListingKind(row.kind),
        status=ListingStatus(row.status),
        price=row.price,
        currency=Currency(row.currency),
        city=row.city,
    )
