"""Properties and vehicles as clients send and get them: what all listings have, and what only they do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, assert_never

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from k2k.core.money import Currency, from_number
from k2k.features.listings.models import (
    Listing,
    ListingChange,
    ListingDraft,
    ListingKind,
    ListingStatus,
    ListingType,
    Unit,
    Vin,
)
from k2k.ops.paging import CursorPage, NextCursor, Page
from k2k.ops.validation import Answer, Input, Name, untouched, validate

Area = Annotated[
    Decimal,
    Field(gt=0, max_digits=10, decimal_places=2, allow_inf_nan=False),
    BeforeValidator(from_number),
    PlainSerializer(float, return_type=float, when_used="json"),
    WithJsonSchema(
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**8, "description": "At most two decimals"}
    ),
]
"""Square metres."""
Battery = Annotated[
    Decimal,
    Field(gt=0, max_digits=5, decimal_places=1, allow_inf_nan=False),
    BeforeValidator(from_number),
    PlainSerializer(float, return_type=float, when_used="json"),
    WithJsonSchema(
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**4, "description": "At most one decimal"}
    ),
]
"""Kilowatt hours."""
Rooms = Annotated[int, Field(ge=0, le=100)]


def _until(years_ahead: int) -> AfterValidator:
    """No later than so many years from now."""

    def check(year: int) -> int:
        latest = datetime.now(UTC).year + years_ahead
        if year > latest:
            raise PydanticCustomError("year", "The year should be {latest} at most", {"latest": latest})
        return year

    return AfterValidator(check)


def _past(day: date) -> date:
    if day > datetime.now(UTC).date() + timedelta(days=1):  # it may be tomorrow already where somebody lives
        raise PydanticCustomError("date_past", "The day should not be in the future")
    return day


# Houses are sold from the plan, cars a year ahead.
YearBuilt = Annotated[int, Field(ge=1800, le=2100), _until(10)]
ModelYear = Annotated[int, Field(ge=1900, le=2100), _until(1)]
PastDay = Annotated[date, AfterValidator(_past)]
Floor = Annotated[int, Field(ge=-10, le=200)]
Floors = Annotated[int, Field(ge=1, le=200)]
Parking = Annotated[int, Field(ge=0, le=1000)]
Mileage = Annotated[int, Field(ge=0, le=5_000_000)]
Engine = Annotated[int, Field(ge=20, le=30_000)]
Range = Annotated[int, Field(ge=1, le=5000)]
Seats = Annotated[int, Field(ge=1, le=100)]
Doors = Annotated[int, Field(ge=0, le=10)]
Owners = Annotated[int, Field(ge=0, le=100)]
Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Color = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50)]


class PropertyType(StrEnum):
    house = "house"
    apartment = "apartment"
    townhouse = "townhouse"
    land = "land"
    commercial = "commercial"
    office = "office"
    condo = "condo"
    villa = "villa"
    room = "room"


class Furnishing(StrEnum):
    unfurnished = "unfurnished"
    semi_furnished = "semi_furnished"
    furnished = "furnished"


class PropertyCondition(StrEnum):
    new = "new"
    good = "good"
    needs_renovation = "needs_renovation"
    under_construction = "under_construction"


class Body(StrEnum):
    sedan = "sedan"
    hatchback = "hatchback"
    suv = "suv"
    pickup = "pickup"
    van = "van"
    minibus = "minibus"
    bus = "bus"
    truck = "truck"
    coupe = "coupe"
    convertible = "convertible"
    wagon = "wagon"
    motorcycle = "motorcycle"
    three_wheeler = "three_wheeler"
    machinery = "machinery"


class Fuel(StrEnum):
    petrol = "petrol"
    diesel = "diesel"
    electric = "electric"
    hybrid = "hybrid"
    plug_in_hybrid = "plug_in_hybrid"
    gas = "gas"


class Transmission(StrEnum):
    manual = "manual"
    automatic = "automatic"


class Drive(StrEnum):
    front = "front"
    rear = "rear"
    four_wheel = "four_wheel"


class VehicleCondition(StrEnum):
    new = "new"
    used = "used"
    damaged = "damaged"


class ImportStatus(StrEnum):
    """Whether it was made in the country or brought in, and what was paid for that."""

    local = "local"
    duty_paid = "duty_paid"
    duty_free = "duty_free"
    duty_unpaid = "duty_unpaid"


_UNIT = "What names this very unit, a title deed or house number: never shown, one open listing of it an agency"
_VIN = "The vehicle identification number: never shown, one open listing of it an agency"


class _PropertyDetails(Input):
    bedrooms: Rooms | None = None
    bathrooms: Rooms | None = None
    square_meters: Area | None = None
    lot_square_meters: Area | None = None
    floor: Floor | None = None
    floors: Floors | None = None
    furnishing: Furnishing | None = None
    parking: Parking | None = Field(default=None, description="Places for cars")
    available_from: date | None = None
    year_built: YearBuilt | None = None
    unit: Unit | None = Field(default=None, description=_UNIT)


class PropertyDraft(ListingDraft, _PropertyDetails):
    property_type: PropertyType
    condition: PropertyCondition | None = None


class PropertyChange(ListingChange):
    property_type: PropertyType = untouched()
    bedrooms: Rooms | None = untouched()
    bathrooms: Rooms | None = untouched()
    square_meters: Area | None = untouched()
    lot_square_meters: Area | None = untouched()
    floor: Floor | None = untouched()
    floors: Floors | None = untouched()
    furnishing: Furnishing | None = untouched()
    condition: PropertyCondition | None = untouched()
    parking: Parking | None = untouched()
    available_from: date | None = untouched()
    year_built: YearBuilt | None = untouched()
    unit: Unit | None = untouched()


class Property(Listing):
    property_type: PropertyType
    bedrooms: int | None
    bathrooms: int | None
    square_meters: float | None
    lot_square_meters: float | None
    floor: int | None
    floors: int | None
    furnishing: Furnishing | None
    condition: PropertyCondition | None
    parking: int | None
    available_from: date | None
    year_built: int | None


class _VehicleDetails(Input):
    body: Body | None = None
    mileage_km: Mileage | None = None
    fuel: Fuel | None = None
    transmission: Transmission | None = None
    drive: Drive | None = None
    engine_cc: Engine | None = None
    battery_kwh: Battery | None = None
    range_km: Range | None = Field(default=None, description="Of an electric one, with a full battery")
    seats: Seats | None = None
    doors: Doors | None = None
    color: Color | None = None
    owners: Owners | None = Field(default=None, description="How many there were before")
    first_registration: PastDay | None = None
    import_status: ImportStatus | None = None
    vin: Vin | None = Field(default=None, description=_VIN)


class VehicleDraft(ListingDraft, _VehicleDetails):
    brand: Word
    model: Word
    year: ModelYear
    condition: VehicleCondition | None = None


class VehicleChange(ListingChange):
    brand: Word = untouched()
    model: Word = untouched()
    year: ModelYear = untouched()
    body: Body | None = untouched()
    mileage_km: Mileage | None = untouched()
    fuel: Fuel | None = untouched()
    transmission: Transmission | None = untouched()
    drive: Drive | None = untouched()
    engine_cc: Engine | None = untouched()
    battery_kwh: Battery | None = untouched()
    range_km: Range | None = untouched()
    seats: Seats | None = untouched()
    doors: Doors | None = untouched()
    color: Color | None = untouched()
    condition: VehicleCondition | None = untouched()
    owners: Owners | None = untouched()
    first_registration: PastDay | None = untouched()
    import_status: ImportStatus | None = untouched()
    vin: Vin | None = untouched()


class Vehicle(Listing):
    brand: str
    model: str
    year: int
    body: Body | None
    mileage_km: int | None
    fuel: Fuel | None
    transmission: Transmission | None
    drive: Drive | None
    engine_cc: int | None
    battery_kwh: float | None
    range_km: int | None
    seats: int | None
    doors: int | None
    color: str | None
    condition: VehicleCondition | None
    owners: int | None
    first_registration: date | None
    import_status: ImportStatus | None


class OfferDraft(ListingDraft, _PropertyDetails, _VehicleDetails):
    """A property or a vehicle, with what that kind has and must have."""

    kind: ListingKind
    property_type: PropertyType | None = None
    brand: Word | None = None
    model: Word | None = None
    year: ModelYear | None = None
    condition: PropertyCondition | VehicleCondition | None = None

    def draft(self) -> AnyDraft:
        """As a draft of its kind. Raises Invalid, which names what that kind lacks or does not have."""
        sent = self.model_dump(mode="json", exclude_unset=True, exclude={"kind"})
        match self.kind:
            case ListingKind.property:
                return validate(PropertyDraft, sent, "body")
            case ListingKind.vehicle:
                return validate(VehicleDraft, sent, "body")
            case _:
                assert_never(self.kind)


class OwnProperty(Property):
    """A property as its owner gets it."""

    review_reason: str | None = Field(description="Why it was rejected")


class OwnVehicle(Vehicle):
    """A vehicle as its owner gets it."""

    review_reason: str | None = Field(description="Why it was rejected")


class OwnListings(Answer):
    """A page of one's own listings."""

    items: list[OwnProperty | OwnVehicle]
    next: NextCursor


AnyListing = Property | Vehicle
AnyDraft = PropertyDraft | VehicleDraft
AnyChange = PropertyChange | VehicleChange | ListingChange


Bound = Annotated[
    Decimal,
    Field(ge=0, le=10**12, max_digits=14, decimal_places=2, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 10**12}),
]


class ListingPage(Page):
    """Which listings, and which part of them."""

    listing_type: ListingType | None = None
    price_min: Bound | None = None
    price_max: Bound | None = None
    currency: Currency | None = Field(default=None, description="Prices are compared within one: ETB if none is named")
    city: Name | None = Field(default=None, description="A city, sub-city or neighbourhood, by any of its names")
    search: Name | None = Field(default=None, description="Words in the title, the description or the neighbourhood")


class PropertyPage(ListingPage):
    property_type: list[PropertyType] = Field(default=[], max_length=20)
    bedrooms: list[Rooms] = Field(default=[], max_length=20)


class VehiclePage(ListingPage):
    brand: Word | None = None
    model: Word | None = None
    fuel: list[Fuel] = Field(default=[], max_length=10)
    transmission: Transmission | None = None
    year_min: ModelYear | None = None
    year_max: ModelYear | None = None
    mileage_max: Mileage | None = None


class OwnPage(CursorPage):
    """Which of one's own listings."""

    status: ListingStatus | None = None
