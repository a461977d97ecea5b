"""What people keep, by the thousand, as rows: for markets made up in development."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from k2k.core.ids import ListingId, UserId
from k2k.infra.bulk import Bulk


class SavedRow(NamedTuple):
    """A row of saved_listings."""

    user_id: UserId
    listing_id: ListingId
    saved_at: datetime


async def load_saved(bulk: Bulk, rows: Sequence[SavedRow]) -> None:
    """Add what people have saved; the counters of the listings are loaded with the listings."""
    await bulk.copy("saved_listings", SavedRow._fields, rows)
