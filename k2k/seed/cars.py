"""Vehicles that drive in Ethiopia, and what is asked for them by year, kilometres and what was paid at the border."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from hashlib import sha256
from itertools import accumulate
from math import exp
from typing import Final

from k2k.features.listings.bulk import VehicleRow
from k2k.features.listings.kinds import Body, Drive, Fuel, ImportStatus, Transmission, VehicleCondition
from k2k.features.listings.models import Language, ListingType, PricePeriod
from k2k.seed.chance import Dice
from k2k.seed.offered import UNBORN, Offered
from k2k.seed.town import Spot
from k2k.seed.words import car_text, car_title


@dataclass(frozen=True, slots=True)
class Car:
    """A model: how often it is offered, since when it was made, and what a new one costs in thousands of ETB."""

    brand: str
    model: str
    body: Body
    share: int
    since: int
    price: int
    fuel: Fuel
    engine_cc: int | None = None
    battery_kwh: float | None = None
    range_km: int | None = None


_PETROL, _DIESEL, _ELECTRIC = Fuel.petrol, Fuel.diesel, Fuel.electric
CARS: Final = (
    Car("Toyota", "Corolla", Body.sedan, 90, 1990, 5200, _PETROL, 1598),
    Car("Toyota", "Yaris", Body.hatchback, 50, 2000, 3600, _PETROL, 1298),
    Car("Toyota", "Vitz", Body.hatchback, 80, 1999, 3000, _PETROL, 998),
    Car("Toyota", "RAV4", Body.suv, 45, 1996, 7800, _PETROL, 1998),
    Car("Toyota", "Land Cruiser", Body.suv, 20, 1992, 24000, _DIESEL, 4461),
    Car("Toyota", "Land Cruiser Prado", Body.suv, 22, 1996, 16000, _DIESEL, 2982),
    Car("Toyota", "Fortuner", Body.suv, 14, 2005, 12000, _DIESEL, 2755),
    Car("Toyota", "Rush", Body.suv, 12, 2008, 5600, _PETROL, 1495),
    Car("Toyota", "Hilux", Body.pickup, 40, 1990, 9000, _DIESEL, 2494),
    Car("Toyota", "HiAce", Body.minibus, 30, 1990, 7400, _DIESEL, 2982),
    Car("Toyota", "Coaster", Body.minibus, 8, 1993, 9800, _DIESEL, 4164),
    Car("Toyota", "Starlet", Body.hatchback, 10, 1988, 1900, _PETROL, 1296),
    Car("Toyota", "bZ4X", Body.suv, 12, 2022, 6800, _ELECTRIC, None, 71.4, 460),
    Car("Suzuki", "Dzire", Body.sedan, 60, 2009, 3300, _PETROL, 1197),
    Car("Suzuki", "Swift", Body.hatchback, 30, 2006, 3100, _PETROL, 1197),
    Car("Suzuki", "Alto", Body.hatchback, 22, 2000, 2000, _PETROL, 796),
    Car("Suzuki", "Vitara", Body.suv, 14, 1995, 5000, _PETROL, 1586),
    Car("Suzuki", "S-Presso", Body.hatchback, 12, 2020, 2400, _PETROL, 998),
    Car("Hyundai", "Accent", Body.sedan, 14, 1998, 3500, _PETROL, 1396),
    Car("Hyundai", "Tucson", Body.suv, 22, 2005, 6200, _PETROL, 1999),
    Car("Hyundai", "Atos", Body.hatchback, 10, 1999, 1800, _PETROL, 999),
    Car("Hyundai", "i10", Body.hatchback, 12, 2008, 2700, _PETROL, 1086),
    Car("Hyundai", "Creta", Body.suv, 12, 2016, 4800, _PETROL, 1591),
    Car("Hyundai", "Ioniq 5", Body.suv, 6, 2022, 7200, _ELECTRIC, None, 72.6, 480),
    Car("Kia", "Picanto", Body.hatchback, 12, 2005, 2500, _PETROL, 998),
    Car("Kia", "Sportage", Body.suv, 14, 2000, 6000, _PETROL, 1999),
    Car("Nissan", "Sunny", Body.sedan, 10, 1990, 3000, _PETROL, 1498),
    Car("Nissan", "Patrol", Body.suv, 10, 1992, 14000, _DIESEL, 4169),
    Car("Nissan", "Qashqai", Body.suv, 8, 2008, 5400, _PETROL, 1598),
    Car("Nissan", "Navara", Body.pickup, 8, 2000, 7200, _DIESEL, 2488),
    Car("Nissan", "Leaf", Body.hatchback, 6, 2015, 3600, _ELECTRIC, None, 40.0, 240),
    Car("Isuzu", "NPR", Body.truck, 22, 1990, 6800, _DIESEL, 5193),
    Car("Isuzu", "FSR", Body.truck, 14, 1995, 9500, _DIESEL, 7790),
    Car("Isuzu", "D-Max", Body.pickup, 18, 2003, 7600, _DIESEL, 2999),
    Car("Mitsubishi", "Pajero", Body.suv, 10, 1992, 10500, _DIESEL, 3200),
    Car("Mitsubishi", "L200", Body.pickup, 12, 1992, 6900, _DIESEL, 2477),
    Car("Mitsubishi", "Lancer", Body.sedan, 8, 1994, 3000, _PETROL, 1584),
    Car("Volkswagen", "ID.4", Body.suv, 36, 2021, 5600, _ELECTRIC, None, 77.0, 500),
    Car("Volkswagen", "ID.6", Body.suv, 20, 2021, 6800, _ELECTRIC, None, 84.8, 560),
    Car("Volkswagen", "ID.3", Body.hatchback, 10, 2021, 4300, _ELECTRIC, None, 58.0, 420),
    Car("Volkswagen", "Golf", Body.hatchback, 8, 1990, 3400, _PETROL, 1395),
    Car("BYD", "Seagull", Body.hatchback, 40, 2023, 2700, _ELECTRIC, None, 38.9, 380),
    Car("BYD", "Dolphin", Body.hatchback, 22, 2022, 3400, _ELECTRIC, None, 44.9, 420),
    Car("BYD", "Yuan Plus", Body.suv, 26, 2022, 4400, _ELECTRIC, None, 60.5, 480),
    Car("BYD", "Song Plus", Body.suv, 18, 2022, 5200, _ELECTRIC, None, 71.8, 520),
    Car("BYD", "Tang", Body.suv, 6, 2022, 7800, _ELECTRIC, None, 108.8, 635),
    Car("BYD", "Qin Plus", Body.sedan, 12, 2022, 3700, _ELECTRIC, None, 57.6, 510),
    Car("Changan", "Benni E-Star", Body.hatchback, 8, 2021, 2000, _ELECTRIC, None, 32.2, 300),
    Car("Changan", "Deepal S07", Body.suv, 10, 2023, 5000, _ELECTRIC, None, 79.9, 620),
    Car("Changan", "CS35", Body.suv, 6, 2015, 3600, _PETROL, 1598),
    Car("Jetour", "X70", Body.suv, 10, 2019, 5200, _PETROL, 1499),
    Car("Jetour", "X70 Plus", Body.suv, 8, 2021, 5800, _PETROL, 1598),
    Car("Geely", "Emgrand", Body.sedan, 6, 2012, 3200, _PETROL, 1498),
    Car("Geely", "EX5", Body.suv, 8, 2024, 4900, _ELECTRIC, None, 60.2, 430),
    Car("Honda", "Civic", Body.sedan, 6, 1996, 4600, _PETROL, 1799),
    Car("Honda", "Fit", Body.hatchback, 6, 2003, 2900, _PETROL, 1339),
    Car("Honda", "e:NS1", Body.suv, 8, 2022, 4300, _ELECTRIC, None, 68.8, 510),
    Car("Mercedes-Benz", "C-Class", Body.sedan, 8, 1995, 8200, _PETROL, 1796),
    Car("Mercedes-Benz", "GLE", Body.suv, 4, 2015, 18000, _DIESEL, 2987),
    Car("Mercedes-Benz", "EQE", Body.sedan, 4, 2022, 11000, _ELECTRIC, None, 90.6, 590),
    Car("BMW", "3 Series", Body.sedan, 5, 1998, 8000, _PETROL, 1995),
    Car("BMW", "X5", Body.suv, 4, 2003, 17000, _DIESEL, 2993),
    Car("Peugeot", "208", Body.hatchback, 4, 2013, 3300, _PETROL, 1199),
    Car("Lifan", "520", Body.sedan, 8, 2008, 1900, _PETROL, 1587),
    Car("Neta", "Neta V", Body.hatchback, 6, 2022, 2500, _ELECTRIC, None, 38.5, 380),
    Car("Sinotruk", "Howo 371", Body.truck, 20, 2008, 9800, _DIESEL, 9726),
    Car("Sinotruk", "Howo A7", Body.truck, 8, 2012, 11500, _DIESEL, 9726),
    Car("Yutong", "ZK6122", Body.bus, 4, 2012, 16000, _DIESEL, 8900),
    Car("Bajaj", "RE", Body.three_wheeler, 40, 2010, 520, _PETROL, 198),
    Car("TVS", "King", Body.three_wheeler, 12, 2014, 500, _PETROL, 199),
    Car("Bajaj", "Boxer BM 150", Body.motorcycle, 20, 2012, 260, _PETROL, 144),
    Car("TVS", "Star HLX 125", Body.motorcycle, 12, 2013, 230, _PETROL, 124),
    Car("Yamaha", "YBR 125", Body.motorcycle, 8, 2005, 320, _PETROL, 124),
    Car("Dodai", "Gena", Body.motorcycle, 6, 2023, 210, _ELECTRIC, None, 3.6, 150),
    Car("Caterpillar", "320 Excavator", Body.machinery, 4, 2000, 26000, _DIESEL, 7010),
)
# Seats and doors.
_ROOM = {
    Body.minibus: (15, 4), Body.bus: (49, 2), Body.truck: (3, 2), Body.machinery: (1, 1), Body.motorcycle: (2, 0),
    Body.three_wheeler: (4, 0), Body.suv: (5, 5), Body.hatchback: (5, 5), Body.pickup: (5, 4),
}  # fmt: skip
_WORN_PER_YEAR = 0.055
_WORN_PER_KM = 1 / 600_000
_BORDER = {
    ImportStatus.duty_paid: 1.0,
    ImportStatus.duty_free: 0.7,
    ImportStatus.duty_unpaid: 0.6,
    ImportStatus.local: 0.95,
}
_COLORS = ("White", "White", "Silver", "Silver", "Black", "Grey", "Blue", "Red", "Green", "Beige", "Brown")
_FEATURES = (
    "Air conditioning", "Rear camera", "Sunroof", "Leather seats", "Alloy wheels", "Touch screen", "Cruise control",
    "Roof rack", "Fog lights", "Keyless entry", "Tow bar", "Parking sensors",
)  # fmt: skip
_IMPORTED = tuple(ImportStatus)


def car(dice: Dice, spot: Spot, language: Language, today: date) -> Offered:
    """A vehicle that stands at about that spot."""
    one = dice.weighed(*_made_by(today.year))
    detail = _details(dice, one, today)
    worth = one.price * 1000 * dice.lognormvariate(0, 0.07) * _left_of_it(detail, today)
    to_let = dice.percent(7)
    return Offered(
        listing_type=ListingType.rent if to_let else ListingType.sale,
        price=_rounded(worth * 0.0009 if to_let else worth),
        price_period=PricePeriod.day if to_let else None,
        title=car_title(dice, language, f"{one.brand} {one.model}", detail.year, to_let=to_let),
        description=car_text(dice, language, detail.range_km),
        latitude=round(dice.gauss(spot.latitude, spot.spread), 5),
        longitude=round(dice.gauss(spot.longitude, spot.spread), 5),
        amenities=[],
        features=dice.several(_FEATURES, dice.below(5)),
        unit_hash=_unit(dice),
        detail=detail,
    )


@cache
def _made_by(year: int) -> tuple[tuple[Car, ...], list[int]]:
    """The models that there are in a year, and the sums of how often they are offered."""
    cars = tuple(one for one in CARS if one.since <= year)
    return cars, list(accumulate(one.share for one in cars))


def _left_of_it(detail: VehicleRow, today: date) -> float:
    """What part of its price is left after years, kilometres and what was or was not paid at the border."""
    age = today.year - detail.year
    worn = exp(-_WORN_PER_YEAR * age - _WORN_PER_KM * detail.mileage_km)
    return worn * _BORDER[ImportStatus(detail.import_status)] * (0.6 if detail.condition == "damaged" else 1.0)


def _details(dice: Dice, one: Car, today: date) -> VehicleRow:
    age = min(int(dice.expovariate(1 / 9)), today.year - one.since)
    electric = one.fuel is Fuel.electric
    seats, doors = _ROOM.get(one.body, (5, 4))
    return VehicleRow(
        id=UNBORN,
        brand=one.brand,
        model=one.model,
        year=today.year - age,
        body=one.body,
        mileage_km=int(age * dice.uniform(7_000, 19_000)) if age else dice.below(100),
        fuel=one.fuel,
        transmission=_gears(dice, one),
        drive=_driven(dice, one.body),
        engine_cc=one.engine_cc,
        battery_kwh=Decimal(str(one.battery_kwh)) if one.battery_kwh else None,
        range_km=round(one.range_km * (1 - 0.015 * age)) if one.range_km else None,
        seats=seats,
        doors=doors,
        color=dice.pick(_COLORS),
        condition=_condition(dice, age),
        owners=min(6, int(dice.expovariate(0.2) * age / 8) + (age > 0)),
        first_registration=date(today.year - age, dice.randint(1, 12), dice.randint(1, 28)) if age else None,
        import_status=dice.weighed(_IMPORTED, (4, 92, 98, 100) if electric else (6, 86, 95, 100)),
    )


def _condition(dice: Dice, age: int) -> VehicleCondition:
    if age == 0:
        return VehicleCondition.new
    return VehicleCondition.damaged if dice.below(100) == 0 else VehicleCondition.used


def _gears(dice: Dice, one: Car) -> Transmission:
    if one.fuel is Fuel.electric:
        return Transmission.automatic
    automatic = {Body.suv: 65, Body.sedan: 55, Body.hatchback: 50}.get(one.body, 5)
    return Transmission.automatic if dice.percent(automatic) else Transmission.manual


def _driven(dice: Dice, body: Body) -> Drive:
    match body:
        case Body.suv | Body.pickup:
            return Drive.four_wheel if dice.below(10) < 7 else Drive.rear
        case Body.sedan | Body.hatchback | Body.wagon:
            return Drive.front
        case _:
            return Drive.rear


def _unit(dice: Dice) -> bytes | None:
    """Of half of them the identification number is known."""
    if dice.below(2):
        return None
    return sha256(f"vin {dice.getrandbits(68):017X}".encode()).digest()


def _rounded(amount: float) -> int:
    """As people ask: a hundredth more or less does not matter."""
    step: int = 10 ** max(1, len(str(int(amount))) - 3)
    return max(step, round(amount / step) * step)
