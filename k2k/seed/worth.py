"""What homes are worth where they stand: the monocentric city. Figures are of the order of today's, no more."""

from __future__ import annotations

from math import exp, hypot

from k2k.features.listings.kinds import PropertyType
from k2k.features.listings.models import ListingType

MESKEL_SQUARE = (9.0102, 38.7613)

# ETB a square metre at Meskel Square; both fall by an eighth with every 1.6 km away from it.
FALL_PER_KM = 0.085
_AT_THE_CENTRE = {ListingType.sale: 145_000, ListingType.rent: 480}
_WORTH = {
    PropertyType.apartment: 1.0,
    PropertyType.commercial: 1.4,
    PropertyType.condo: 0.75,
    PropertyType.house: 0.9,
    PropertyType.land: 0.6,
    PropertyType.office: 1.1,
    PropertyType.room: 0.8,
    PropertyType.townhouse: 1.0,
    PropertyType.villa: 1.15,
}
# What people round to when they ask for a price.
_STEP = {ListingType.sale: 50_000, ListingType.rent: 500}


def kilometres(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How far apart two places (latitude, longitude) around Addis Ababa are."""
    # A degree there is 110.6 km northwards and 109.9 km eastwards.
    return hypot((one[0] - other[0]) * 110.6, (one[1] - other[1]) * 109.9)


def square_meter(kind: PropertyType, listing_type: ListingType, from_centre: float) -> float:
    """ETB for a square metre of this kind, so many km from the centre; of a rent a month's."""
    return _AT_THE_CENTRE[listing_type] * _WORTH[kind] * exp(-FALL_PER_KM * from_centre)


def asked(amount: float, listing_type: ListingType) -> int:
    """ETB, rounded as people ask."""
    step = _STEP[listing_type]
    return max(step, round(amount / step) * step)
