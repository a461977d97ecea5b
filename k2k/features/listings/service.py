"""Offering property and vehicles: publishing, changing and taking away, and who may see what."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from k2k.core.errors import Denied, NotFound
from k2k.core.ids import ListingId, UserId, listing_channel
from k2k.core.money import Currency
from k2k.core.settings import ListingSettings
from k2k.features.agents import service as agents
from k2k.features.listings import store
from k2k.features.listings.errors import (
    ListingNotFound,
    PostedJustNow,
    PropertyNotFound,
    StatusNotPossible,
    UnitOnOffer,
    VehicleNotFound,
)
from k2k.features.listings.events import ListingPriceChanged, ListingStatusChanged
from k2k.features.listings.kinds import AnyChange, AnyDraft, PropertyChange, PropertyDraft, VehicleChange, VehicleDraft
from k2k.features.listings.lifecycle import Mover, first, may_come_from
from k2k.features.listings.models import Collection, ListingKind, ListingStatus, Offer
from k2k.features.listings.store import Added, Changed, Reading, TextRow
from k2k.infra.transaction import Reader, Tx, one
from k2k.live.access import AccessLost
from k2k.ops.versions import VersionMismatch

_NOT_FOUND: dict[Collection, type[NotFound]] = {
    Collection.properties: PropertyNotFound,
    Collection.vehicles: VehicleNotFound,
    Collection.listings: ListingNotFound,
}


async def get_listing(db: Reader, collection: Collection, listing: ListingId, reading: Reading) -> TextRow:
    """The listing, if it may be seen. Raises PropertyNotFound, VehicleNotFound or ListingNotFound."""
    found = await store.find_listing(db, collection, listing, reading)
    if found is None:
        raise _NOT_FOUND[collection]
    return found


async def similar_listings(
    db: Reader, collection: Collection, listing: ListingId, limit: int, reading: Reading
) -> bytes:
    """Others like it, as JSON. Raises what `get_listing` raises."""
    found = await store.similar_listings(db, collection, listing, limit, reading)
    if found is None:
        raise _NOT_FOUND[collection]
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
    added = await store.add_listings(tx, owner, agency, now, [_added(draft, settings, now) for draft in drafts])
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
        ),
    )
    if changed is None:
        await _refuse(tx, collection, listing, user, version)
        raise StatusNotPossible
    _tell_changes(tx, listing, changed)


async def delete(
    tx: Tx, collection: Collection, listing: ListingId, user: UserId, version: int | None, now: datetime
) -> None:
    """Take away one's own listing for good. Raises what `change` raises."""
    if not await store.delete_listing(tx, collection, listing, user, version, now):
        await _refuse(tx, collection, listing, user, version)
        raise ListingNotFound  # deleted by somebody else between the two statements
    _tell_status(tx, listing, "deleted")


async def _refuse(tx: Tx, collection: Collection, listing: ListingId, user: UserId, version: int | None) -> None:
    """Say why a change of this listing by this person was none; returns if neither it nor its version is the reason."""
    state = await store.find_state(tx, collection, listing)
    if state is None:
        raise _NOT_FOUND[collection]
    if state.owner_id != user:
        # Whether there is something that is not public is nobody else's business.
        await get_listing(tx, collection, listing, Reading(user, ""))
        raise Denied
    if version is not None and state.version != version:
        raise VersionMismatch(f"It is at version {state.version} now, your change was meant for {version}")


def _end(settings: ListingSettings, now: datetime) -> datetime:
    return now + timedelta(days=settings.active_days)


def _unit_hash(wish: AnyDraft | AnyChange) -> bytes | None:
    """The hash by which the same unit is known again; None where nothing names it."""
    match wish:
        case PropertyDraft(unit=str(unit)) | PropertyChange(unit=str(unit)):
            named = "unit " + re.sub(r"[\W_]+", " ", unit).strip().casefold()
        case VehicleDraft(vin=str(vin)) | VehicleChange(vin=str(vin)):
            named = "vin " + vin.upper()
        case _:
            return None
    return hashlib.sha256(named.encode()).digest()


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
    """Tell where the listing stands; what is not public is followed by nobody from then on."""
    channel = listing_channel(listing)
    tx.emit(ListingStatusChanged(listing_id=listing, status=status), to=[channel])
    if status is not ListingStatus.active:
        tx.emit(AccessLost(channel=channel, user_id=None), to=[channel])


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
