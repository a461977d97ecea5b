"""What goes in and out of listings, and what other features get to know of one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from k2k.core.ids import AgencyId, ListingId, UserId
from k2k.core.money import Currency, Price, from_number
from k2k.ops.validation import Answer, Country, Input, Moment, Name, Text, untouched


class ListingKind(StrEnum):
    property = "property"
    vehicle = "vehicle"


class ListingType(StrEnum):
    sale = "sale"
    rent = "rent"


class ListingStatus(StrEnum):
    """Where a listing stands. Only an active one is public."""

    draft = "draft"
    pending_review = "pending_review"
    coming_soon = "coming_soon"
    active = "active"
    under_offer = "under_offer"
    reserved = "reserved"
    paused = "paused"
    withdrawn = "withdrawn"
    cancelled = "cancelled"
    expired = "expired"
    sold = "sold"
    rented = "rented"
    leased = "leased"
    rejected = "rejected"


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


class Language(StrEnum):
    """The language a seller wrote in (ISO 639-1)."""

    am = "am"
    en = "en"
    om = "om"
    so = "so"
    sw = "sw"
    ti = "ti"


# Review and expiry are decided by others than the owner.
OwnersStatus = Literal[
    "draft", "coming_soon", "active", "under_offer", "reserved", "paused", "withdrawn", "cancelled", "sold", "rented",
    "leased",
]  # fmt: skip


SquareMeters = Annotated[
    Decimal,
    Field(gt=0, max_digits=10, decimal_places=2, allow_inf_nan=False),
    BeforeValidator(from_number),
    PlainSerializer(float, return_type=float, when_used="json"),
    WithJsonSchema(
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**8, "description": "At most two decimals"}
    ),
]
Rooms = Annotated[int, Field(ge=0, le=100)]
YearBuilt = Annotated[int, Field(ge=1800, le=2100)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class PropertyPath(Input):
    property_id: ListingId


class ListingPath(Input):
    listing_id: ListingId


# Tiles of one size only: about 10 km at the equator, web mercator. Another size would be another stream of the same.
MAP_ZOOM = 12
Tile = Annotated[int, Field(ge=0, lt=2**MAP_ZOOM)]


class MapPath(Input):
    zoom: Annotated[int, Field(ge=MAP_ZOOM, le=MAP_ZOOM)]
    x: Tile
    y: Tile


class _Placed(Input):
    """A place on the map (WGS 84) has two coordinates or is not given."""

    latitude: Latitude | None = None
    longitude: Longitude | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        sent = {"latitude", "longitude"} & self.model_fields_set
        if len(sent) == 1 or (self.latitude is None) != (self.longitude is None):
            raise PydanticCustomError("half_position", "Give latitude and longitude together, or neither")
        return self


class PropertyDraft(_Placed):
    title: Name
    description: Text | None = None
    property_type: PropertyType
    listing_type: ListingType
    price: Price
    currency: Currency = Currency.ETB
    bedrooms: Rooms | None = None
    bathrooms: Rooms | None = None
    square_meters: SquareMeters | None = None
    year_built: YearBuilt | None = None
    address: Name | None = None
    neighborhood: Name | None = None
    city: Name
    language: Language = Language.en
    country: Country = "ET"


class PropertyChange(_Placed):
    """Only what is sent changes; null clears what may be empty."""

    title: Name = untouched()
    description: Text | None = untouched()
    property_type: PropertyType = untouched()
    listing_type: ListingType = untouched()
    price: Price = untouched()
    currency: Currency = untouched()
    status: OwnersStatus = untouched()
    bedrooms: Rooms | None = untouched()
    bathrooms: Rooms | None = untouched()
    square_meters: SquareMeters | None = untouched()
    year_built: YearBuilt | None = untouched()
    address: Name | None = untouched()
    neighborhood: Name | None = untouched()
    city: Name = untouched()
    latitude: Latitude | None = untouched()
    longitude: Longitude | None = untouched()
    language: Language = untouched()
    country: Country = untouched()


class Property(Answer):
    id: ListingId
    user_id: UserId = Field(description="Whose listing it is")
    agency_id: AgencyId | None
    title: str
    description: str | None
    property_type: PropertyType
    listing_type: ListingType
    price: Price
    currency: Currency
    status: ListingStatus
    bedrooms: int | None
    bathrooms: int | None
    square_meters: float | None
    year_built: int | None
    address: str | None
    neighborhood: str | None
    city: str
    latitude: float | None
    longitude: float | None
    view_count: int
    is_featured: bool
    language: Language
    country: str
    created_at: Moment
    updated_at: Moment


@dataclass(frozen=True, slots=True)
class Offer:
    """A listing as other features see it."""

    id: ListingId
    owner_id: UserId
    agency_id: AgencyId | None
    kind: ListingKind
    status: ListingStatus
    price: Decimal
    currency: Currency
    city: str
