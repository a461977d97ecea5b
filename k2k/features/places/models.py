"""What goes in and out of places."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from k2k.ops.validation import Answer, Country, Input, Name


class PlaceKind(StrEnum):
    city = "city"
    sub_city = "sub_city"
    neighborhood = "neighborhood"


class PlacesQuery(Input):
    search: Name | None = Field(default=None, description="How any of its names begins, in whatever script")
    kind: PlaceKind | None = None
    country: Country | None = None
    limit: int = Field(default=20, ge=1, le=100)


class PlaceName(Answer):
    id: int
    kind: PlaceKind
    name: str = Field(description="The usual one, in English")
    name_am: str | None = Field(description="The usual one in Amharic")


class Place(PlaceName):
    country: str
    latitude: float = Field(description="Roughly its middle (WGS 84)")
    longitude: float
    parent: PlaceName | None = Field(description="What it is a part of")


@dataclass(frozen=True, slots=True)
class Gazetted:
    """A place as the gazetteer has it."""

    id: int
    parent_id: int | None
    kind: str
    latitude: float
    longitude: float
    population: int | None
    """About, where it is known."""
    names: list[str]
    """All of them: the usual English one, the usual Amharic one, then the others."""
