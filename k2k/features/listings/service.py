"""Offering property: publishing, changing and taking away, and who may see what."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from k2k.core.errors import Denied
from k2k.core.ids import ListingId, UserId, listing_channel
from k2k.core.money import Currency
from k2k.features.agents import service as agents
from k2k.features.listings import store
from k2k.features.listings.errors import ListingNotFound, PropertyNotFound
from k2k.features.listings.events import ListingPriceChanged, ListingStatusChanged
from k2k.features.listings.models import ListingKind, ListingStatus, Offer, Property, PropertyChange, PropertyDraft
from k2k.infra.transaction import Reader, Tx
from k2k.live.access import AccessLost
from k2k.ops.registry import Json


async def get_property(db: Reader, listing: ListingId, viewer: UserId | None) -> Json[Property]:
    """The property as `viewer` (None: nobody signed in) may see it. Raises PropertyNotFound."""
    found = await store.find_property(db, listing, viewer)
    if found is None:
        raise PropertyNotFound
    return found


async def publish_property(
    tx: Tx, owner: UserId, draft: PropertyDraft, now: datetime
) -> tuple[ListingId, Json[Property]]:
    """Offer a property; it is active at once and belongs to its owner's agency, if any."""
    agency = await agents.agency_of(tx, owner)
    added = await store.add_property(tx, owner, agency, draft, now)
    return added.id, Json(added.body)


async def change_property(
    tx: Tx, listing: ListingId, user: UserId, change: PropertyChange, now: datetime
) -> Json[Property]:
    """Change what was sent of one's own property. Raises PropertyNotFound, or Denied if it is another's."""
    changed = await store.change_property(tx, listing, user, change, now)
    if changed is None:
        await get_property(tx, listing, user)
        raise Denied
    _tell_changes(tx, listing, changed)
    return Json(changed.body)


async def delete_property(tx: Tx, listing: ListingId, user: UserId, now: datetime) -> None:
    """Take away one's own property for good. Raises PropertyNotFound, or Denied if it is another's."""
    if not await store.delete_property(tx, listing, user, now):
        await get_property(tx, listing, user)
        raise Denied
    _tell_status(tx, listing, "deleted")


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
