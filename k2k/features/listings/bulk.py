"""Listings by the hundred thousand, as rows: for markets made up in development.

A trigger writes the texts at the end of the statement that adds the listings, so all that stands in a text, details and
images, comes first within the transaction. Their foreign keys may be deferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from k2k.core.ids import AgencyId, ImageId, ListingId, MediaId, UserId
from k2k.infra.bulk import Bulk
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader


class ListingRow(NamedTuple):
    """A row of listings."""

    id: ListingId
    kind: str
    owner_id: UserId
    agency_id: AgencyId | None
    changed_by: UserId
    title: str
    description: str
    listing_type: str
    price: int
    price_type: str
    price_period: str | None
    status: str
    address: str | None
    neighborhood: str | None
    city: str
    place_id: int
    latitude: float
    longitude: float
    amenities: list[str]
    features: list[str]
    is_featured: bool
    language: str
    unit_hash: bytes | None
    published_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    closed_price: int | None
    created_at: datetime
    updated_at: datetime


class PropertyRow(NamedTuple):
    """A row of properties."""

    id: ListingId
    property_type: str
    bedrooms: int | None
    bathrooms: int | None
    square_meters: int
    lot_square_meters: int | None
    floor: int | None
    floors: int | None
    furnishing: str | None
    condition: str | None
    parking: int | None
    year_built: int | None


class VehicleRow(NamedTuple):
    """A row of vehicles."""

    id: ListingId
    brand: str
    model: str
    year: int
    body: str
    mileage_km: int
    fuel: str
    transmission: str
    drive: str
    engine_cc: int | None
    battery_kwh: Decimal | None
    range_km: int | None
    seats: int
    doors: int
    color: str
    condition: str
    owners: int
    first_registration: date | None
    import_status: str


class ImageRow(NamedTuple):
    """A row of images."""

    id: ImageId
    listing_id: ListingId
    media_id: MediaId
    is_primary: bool
    display_order: int
    created_at: datetime


class StatsRow(NamedTuple):
    """A row of listing_stats, with the moment when its views and saves came."""

    id: ListingId
    view_count: int
    save_count: int
    at: datetime


@dataclass(frozen=True, slots=True)
class _FoundRow:
    found: bool


_queries = Queries("listings")
ANY_LISTING = _queries.rows("any_listing", _FoundRow)
LOAD_STATS = _queries.command("load_stats")


async def any_listing(db: Reader) -> bool:
    """Whether anything was ever offered."""
    (row,) = await db.rows(ANY_LISTING)
    return row.found


async def load_listings(
    bulk: Bulk,
    listings: Sequence[ListingRow],
    properties: Sequence[PropertyRow],
    vehicles: Sequence[VehicleRow],
    images: Sequence[ImageRow],
    stats: Sequence[StatsRow],
) -> None:
    """Add listings with their details and images, and thereby their texts, and the counters of what was looked at."""
    await bulk.copy("properties", PropertyRow._fields, properties)
    await bulk.copy("vehicles", VehicleRow._fields, vehicles)
    await bulk.copy("images", ImageRow._fields, images)
    await bulk.copy("listings", ListingRow._fields, listings)
    columns = list(map(list, zip(*stats, strict=True))) or [[], [], [], []]
    await bulk.run(LOAD_STATS, *columns)
