"""What somebody offers, before it is known who and when."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from k2k.core.ids import ListingId
from k2k.features.listings.bulk import PropertyRow, VehicleRow

UNBORN = ListingId(UUID(int=0))
"""The id of details until their listing has one."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A home or a vehicle, where it is and what is asked for it."""

    listing_type: str
    price: int
    price_period: str | None
    title: str
    description: str
    latitude: float
    longitude: float
    amenities: list[str]
    features: list[str]
    unit_hash: bytes | None
    detail: PropertyRow | VehicleRow
