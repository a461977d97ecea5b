"""What goes in and out of listings, and what other features get to know of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self, assert_never
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from k2k.core.ids import AgencyId, AgentId, ImageId, ListingId, UserId
from k2k.core.money import Currency, Price
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
    "active", "draft", "pending_review", "coming_soon", "under_offer", "reserved", "paused", "withdrawn", "cancelled",
    "sold", "rented", "leased",
]  # fmt: skip
FirstStatus = Literal["draft", "coming_soon", "active"]


class PriceType(StrEnum):
    fixed = "fixed"
    negotiable = "negotiable"


class PricePeriod(StrEnum):
    """What a rent is for."""

    day = "day"
    week = "week"
    month = "month"
    year = "year"


class Collection(StrEnum):
    """The three doors to listings. The last one leads to both kinds."""

    properties = "properties"
    vehicles = "vehicles"
    listings = "listings"

    @property
    def kind(self) -> ListingKind | None:
        """The one kind behind this door; None where both are."""
        match self:
            case Collection.properties:
                return ListingKind.property
            case Collection.vehicles:
                return ListingKind.vehicle
            case Collection.listings:
                return None
            case _:
                assert_never(self)

    @property
    def kinds(self) -> list[str]:
        """Every kind behind this door."""
        return [self.kind.value] if self.kind is not None else [kind.value for kind in ListingKind]


Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
"""The name of an amenity or a feature."""


def _each_once(labels: list[str]) -> list[str]:
    """As they came, without repeats that differ in case only."""
    first: dict[str, str] = {}
    for label in labels:
        first.setdefault(label.casefold(), label)
    return list(first.values())


Labels = Annotated[list[Label], Field(max_length=50), AfterValidator(_each_once)]
Unit = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=100)]
Vin = Annotated[
    str, StringConstraints(to_upper=True, strip_whitespace=True, pattern=r"^[A-HJ-NPR-Za-hj-npr-z0-9]{11,17}$")
]


class ListingPath(Input):
    listing_id: ListingId


class CollectionPath(Input):
    """A listing behind one of its doors."""

    collection: Collection = Collection.listings
    listing_id: ListingId


class ImagePath(CollectionPath):
    image_id: ImageId


MOST_IMAGES = 50


class ImageOrder(Input):
    """The pictures of a listing, all of them, in their order."""

    images: Annotated[list[UUID], Field(max_length=MOST_IMAGES)] = Field(
        description="Ids of its images and of uploads of yours that are ready; what is not named is taken away"
    )


class CollectionsPath(Input):
    collection: Collection = Collection.listings


class Few(Input):
    """The first of a list that has no further pages."""

    limit: int = Field(default=10, ge=1, le=50)


# Tiles of one size only: about 10 km at the equator, web mercator. Another size would be another stream of the same.
MAP_ZOOM = 12
Tile = Annotated[int, Field(ge=0, lt=2**MAP_ZOOM)]


class MapPath(Input):
    zoom: Annotated[int, Field(ge=MAP_ZOOM, le=MAP_ZOOM)]
    x: Tile
    y: Tile


class Placed(Input):
    """A place on the map (WGS 84) has two coordinates or is not given."""

    latitude: Latitude | None = None
    longitude: Longitude | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        sent = {"latitude", "longitude"} & self.model_fields_set
        if len(sent) == 1 or (self.latitude is None) != (self.longitude is None):
            raise PydanticCustomError("half_position", "Give latitude and longitude together, or neither")
        return self


class ListingDraft(Placed):
    """What every new listing says of itself."""

    title: Name
    description: Text | None = None
    listing_type: ListingType
    price: Price
    price_type: PriceType = PriceType.fixed
    price_period: PricePeriod | None = Field(default=None, description="Of a rent; a month unless it says otherwise")
    currency: Currency = Currency.ETB
    status: FirstStatus = "active"
    address: Name | None = None
    neighborhood: Name | None = None
    city: Name
    region: Name | None = None
    amenities: Labels = Field(default=[])
    features: Labels = Field(default=[])
    language: Language = Language.en
    country: Country = "ET"

    @model_validator(mode="after")
    def _period_is_of_a_rent(self) -> Self:
        if self.price_period is not None and self.listing_type is not ListingType.rent:
            raise PydanticCustomError("price_period", "Only a rent is for a period of time")
        return self


class ListingChange(Placed):
    """What of every listing may change. Only what is sent changes; null clears what may be empty."""

    title: Name = untouched()
    description: Text | None = untouched()
    listing_type: ListingType = untouched()
    price: Price = untouched()
    price_type: PriceType = untouched()
    price_period: PricePeriod = untouched()
    currency: Currency = untouched()
    status: OwnersStatus = untouched()
    address: Name | None = untouched()
    neighborhood: Name | None = untouched()
    city: Name = untouched()
    region: Name | None = untouched()
    latitude: Latitude | None = untouched()
    longitude: Longitude | None = untouched()
    amenities: Labels = untouched()
    features: Labels = untouched()
    language: Language = untouched()
    country: Country = untouched()


class Image(Answer):
    """A picture of a listing in three sizes, and what to show until it is there."""

    id: ImageId
    url: str = Field(description="At most 1920 pixels wide or high")
    medium_url: str = Field(description="At most 960 pixels wide or high")
    small_url: str = Field(description="At most 320 pixels wide or high")
    is_primary: bool
    display_order: int
    width: int = Field(description="Of the largest size, in pixels")
    height: int
    color: str = Field(description="The colour that stands out, as #rrggbb")
    blurhash: str = Field(description="A blurred image in some thirty letters (blurha.sh)")
    created_at: Moment


class AgentCard(Answer):
    """Who offers it, where that is an agent."""

    id: AgentId
    display_name: str
    company_name: str | None
    rating: float
    review_count: int


class Listing(Answer):
    """What all listings answer."""

    id: ListingId
    kind: ListingKind
    user_id: UserId = Field(description="Whose listing it is")
    agency_id: AgencyId | None
    title: str
    description: str | None
    listing_type: ListingType
    price: Price
    price_type: PriceType
    price_period: PricePeriod | None
    currency: Currency
    status: ListingStatus
    standard_status: str | None = Field(description="The status by its name in the RESO Data Dictionary")
    address: str | None
    neighborhood: str | None
    city: str
    region: str | None
    latitude: float | None
    longitude: float | None
    amenities: list[str]
    features: list[str]
    images: list[Image]
    is_featured: bool
    language: Language
    country: str
    version: int = Field(description="Of what the listing itself says; send it back with a change")
    canonical_id: ListingId | None = Field(description="The listing that this one repeats")
    published_at: Moment | None
    expires_at: Moment | None
    closed_at: Moment | None
    created_at: Moment
    updated_at: Moment
    view_count: int
    save_count: int
    saved: bool = Field(description="Whether you have saved it")
    agent: AgentCard | None


class Viewed(Answer):
    view_count: int


class HistoryEntry(Answer):
    """One field that changed."""

    version: int = Field(description="The version that the change made")
    at: Moment
    changed_by: UserId | None = Field(description="Empty where time or a moderator did it")
    field: str
    before: JsonValue
    after: JsonValue


class AskedPrice(Answer):
    """What was asked for it from then on."""

    at: Moment
    price: Price
    currency: Currency


@dataclass(frozen=True, slots=True)
class Reading:
    """For whom texts are finished (None: nobody signed in), and the address of the media in them."""

    viewer: UserId | None
    host: str


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody looked at a listing, behind that door, then."""

    listing: ListingId
    collection: Collection
    at: datetime


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer says of listings: that they are to be public, or rejected for a reason."""

    status: Literal[ListingStatus.active, ListingStatus.rejected]
    reason: str | None
    reviewer: UserId
    now: datetime
