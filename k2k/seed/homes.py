"""Homes, shops and land as the market of Addis Ababa has them, and what is asked for them where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from itertools import accumulate

from k2k.features.listings.bulk import PropertyRow
from k2k.features.listings.kinds import Furnishing, PropertyCondition, PropertyType
from k2k.features.listings.models import Language, ListingType, PricePeriod
from k2k.seed.chance import Dice
from k2k.seed.offered import UNBORN, Offered
from k2k.seed.town import Spot
from k2k.seed.words import home_text, home_title
from k2k.seed.worth import asked, kilometres, square_meter


@dataclass(frozen=True, slots=True)
class _Type:
    """A type of property: of a hundred so many are it, and so many of a hundred of it are to let."""

    kind: PropertyType
    share: int
    to_let: int
    bedrooms: tuple[int, ...]
    """Each as often as it stands here; empty where nobody counts them."""
    area: int
    """Square metres without bedrooms, and for each of them."""
    area_each: int


_TYPES = (
    _Type(PropertyType.apartment, 32, 45, (1, 2, 2, 3, 3, 4), 35, 32),
    _Type(PropertyType.condo, 20, 50, (0, 1, 1, 2, 2, 3), 26, 19),
    _Type(PropertyType.house, 15, 30, (2, 3, 3, 4, 5), 50, 35),
    _Type(PropertyType.villa, 10, 25, (3, 4, 4, 5, 6), 110, 55),
    _Type(PropertyType.land, 8, 0, (), 280, 0),
    _Type(PropertyType.commercial, 5, 70, (), 60, 0),
    _Type(PropertyType.townhouse, 4, 25, (2, 3, 3, 4), 60, 35),
    _Type(PropertyType.office, 4, 80, (), 110, 0),
    _Type(PropertyType.room, 2, 100, (1,), 8, 10),
)
_SHARES = list(accumulate(one.share for one in _TYPES))
_FURNISHINGS, _CONDITIONS = tuple(Furnishing), tuple(PropertyCondition)
_STACKED = frozenset({PropertyType.apartment, PropertyType.condo, PropertyType.office, PropertyType.commercial})
_WALLED = frozenset({PropertyType.house, PropertyType.villa, PropertyType.townhouse})

_AMENITIES = (
    "Parking", "Elevator", "Backup generator", "Water tank", "Borehole", "Garden", "Balcony", "Security guard", "CCTV",
    "Gym", "Swimming pool", "Fibre internet", "Solar water heater", "Playground", "Servants' quarters",
)  # fmt: skip
_FEATURES = (
    "Title deed ready", "Bank loan possible", "Corner unit", "Mountain view", "Open kitchen", "Fitted wardrobes",
    "Tiled floor", "Parquet floor", "Newly painted", "Near the light rail", "Near a school", "Pets welcome",
)  # fmt: skip


def home(dice: Dice, spot: Spot, where: str, language: Language, today: date) -> Offered:
    """A home at about that spot, which is called `where`."""
    one = dice.weighed(_TYPES, _SHARES)
    to_let = dice.percent(one.to_let)
    listing_type = ListingType.rent if to_let else ListingType.sale
    bedrooms = dice.pick(one.bedrooms) if one.bedrooms else None
    area = max(8, round((one.area + one.area_each * (bedrooms or 0)) * dice.lognormvariate(0, 0.15)))
    latitude = round(dice.gauss(spot.latitude, spot.spread), 5)
    longitude = round(dice.gauss(spot.longitude, spot.spread), 5)
    worth = square_meter(one.kind, listing_type, kilometres((latitude, longitude), spot.centre)) * spot.level
    return Offered(
        listing_type=listing_type,
        price=asked(worth * area * dice.lognormvariate(0, 0.15), listing_type),
        price_period=PricePeriod.month if to_let else None,
        title=home_title(dice, language, one.kind, bedrooms, where, to_let=to_let),
        description=home_text(dice, language),
        latitude=latitude,
        longitude=longitude,
        amenities=[] if one.kind is PropertyType.land else dice.several(_AMENITIES, dice.below(6)),
        features=dice.several(_FEATURES, dice.below(4)),
        unit_hash=_unit(dice, spot),
        detail=_details(dice, one.kind, bedrooms, area, today, to_let=to_let),
    )


def _details(
    dice: Dice, kind: PropertyType, bedrooms: int | None, area: int, today: date, *, to_let: bool
) -> PropertyRow:
    built = kind is not PropertyType.land
    floors = dice.randint(4, 16) if kind in _STACKED else dice.randint(1, 3) if built else None
    return PropertyRow(
        id=UNBORN,
        property_type=kind,
        bedrooms=bedrooms,
        bathrooms=max(1, bedrooms - dice.below(2)) if bedrooms is not None else None,
        square_meters=area,
        lot_square_meters=round(area * dice.uniform(0.8, 2)) if kind in _WALLED else None,
        floor=dice.randint(0, floors) if floors and kind in _STACKED else None,
        floors=floors,
        furnishing=dice.pick(_FURNISHINGS) if built and to_let else None,
        condition=dice.weighed(_CONDITIONS, (20, 85, 95, 100)) if built else None,
        parking=dice.pick((0, 0, 1, 1, 2, 4)) if built else None,
        year_built=today.year - min(60, int(dice.expovariate(1 / 9))) if built else None,
    )


def _unit(dice: Dice, spot: Spot) -> bytes | None:
    """Of a third the very unit is known, as from a title deed."""
    if dice.below(3):
        return None
    return sha256(f"unit {spot.place_id} {dice.getrandbits(48)}".encode()).digest()
