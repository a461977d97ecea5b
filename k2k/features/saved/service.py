"""Keeping listings for later, with a count that is right however many do it at once."""

from __future__ import annotations

from datetime import datetime

from k2k.core.ids import ListingId, UserId
from k2k.features.listings import service as listings
from k2k.features.listings.models import Collection, Reading
from k2k.features.saved import store
from k2k.features.saved.models import Saved
from k2k.infra.transaction import Tx


async def save(tx: Tx, user: UserId, collection: Collection, listing: ListingId, now: datetime) -> Saved:
    """Keep it; twice is as good as once. Raises PropertyNotFound, VehicleNotFound or ListingNotFound."""
    if await store.save_listing(tx, user, collection, listing, now):
        return Saved(message="Saved", saved=True, save_count=await listings.count_save(tx, listing, 1, now))
    found = await store.count_saved(tx, user, collection, listing)
    if found is None or not found.saved:
        raise listings.not_found(collection)
    return Saved(message="Saved", saved=True, save_count=found.save_count)


async def unsave(tx: Tx, user: UserId, collection: Collection, listing: ListingId, now: datetime) -> Saved:
    """Keep it no longer; what was not kept is left as it is. Raises what `save` raises."""
    if await store.unsave_listing(tx, user, collection, listing):
        return Saved(message="No longer saved", saved=False, save_count=await listings.count_save(tx, listing, -1, now))
    await listings.get_listing(tx, collection, listing, Reading(user, ""))
    found = await store.count_saved(tx, user, collection, listing)
    return Saved(message="No longer saved", saved=False, save_count=found.save_count if found is not None else 0)
