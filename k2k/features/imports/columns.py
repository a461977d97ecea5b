"""The columns of CSV: they are the fields of drafts, and a cell says in text what JSON says by its types.

A spreadsheet takes a cell that begins with = + - @ or a tab for a formula and runs it. So in front of texts that begin
so we write an apostrophe, and in front of those that begin with an apostrophe themselves; reading takes it away.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum, auto
from typing import Any

from pydantic import BaseModel

from k2k.features.listings.kinds import PropertyChange, PropertyDraft, VehicleChange, VehicleDraft
from k2k.features.listings.models import ListingDraft, ListingKind

DRAFTS: Mapping[ListingKind, type[PropertyDraft | VehicleDraft]] = {
    ListingKind.property: PropertyDraft,
    ListingKind.vehicle: VehicleDraft,
}
CHANGES: Mapping[ListingKind, type[PropertyChange | VehicleChange]] = {
    ListingKind.property: PropertyChange,
    ListingKind.vehicle: VehicleChange,
}
BOM = "\ufeff"
"""Without it the usual spreadsheet takes UTF-8 for something else, and Amharic for noise."""

_ACTIVE = ("=", "+", "-", "@", "\t", "\r")
_GUARD = "'"
# More digits than any field has; a text that is no number is left as it is, and its field says what is wrong with it.
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,18}\.[0-9]{1,30}")
_FLAGS = {"true": True, "false": False}


class Shape(Enum):
    """What a cell's text stands for."""

    text = auto()
    number = auto()
    flag = auto()
    words = auto()
    """Several texts, separated by semicolons; one with a semicolon in it stands in quotes."""


def _shape(schema: Mapping[str, Any]) -> Shape:
    """The shape of a field with this JSON schema. Every type a draft may have is told apart, or it is a TypeError."""
    types = {one.get("type", "string") for one in schema.get("anyOf", [schema])} - {"null"}
    match sorted(types):
        case ["string"]:
            return Shape.text
        case ["integer"] | ["number"]:
            return Shape.number
        case ["boolean"]:
            return Shape.flag
        case ["array"]:
            return Shape.words
    raise TypeError(f"no cell of CSV can hold {schema}")


def _shapes(model: type[BaseModel]) -> dict[str, Shape]:
    """The shapes of a model's fields, those first that must be there."""
    shapes = {name: _shape(schema) for name, schema in model.model_json_schema()["properties"].items()}
    return dict(sorted(shapes.items(), key=lambda field: not model.model_fields[field[0]].is_required()))


OF_KIND: Mapping[ListingKind, Mapping[str, Shape]] = {
    kind: {"kind": Shape.text, "reference": Shape.text, **_shapes(draft)} for kind, draft in DRAFTS.items()
}
"""The columns of a file with nothing but one kind, in order."""
COLUMNS: Mapping[str, Shape] = {name: shape for shapes in OF_KIND.values() for name, shape in shapes.items()}
"""All columns there are."""
ALWAYS = ("kind",)
OF_NEW = tuple(name for name, field in ListingDraft.model_fields.items() if field.is_required())
"""What every new listing must say, of whatever kind."""
_KEPT_SECRET = frozenset({"unit", "vin"})

_EXAMPLE: Mapping[str, object] = {
    "reference": "K-1042",
    "title": "Two bedrooms near Edna Mall",
    "description": "Quiet street, generator and lift",
    "price": 8500000,
    "price_type": "negotiable",
    "currency": "ETB",
    "status": "active",
    "neighborhood": "Bole",
    "city": "Addis Ababa",
    "language": "en",
    "country": "ET",
    "listing_type": "sale",
}
_EXAMPLES: Mapping[ListingKind, Mapping[str, object]] = {
    ListingKind.property: {
        "property_type": "apartment",
        "bedrooms": 2,
        "bathrooms": 1,
        "square_meters": 118.5,
        "floor": 4,
        "latitude": 8.9978,
        "longitude": 38.7895,
        "amenities": ["Lift", "Generator"],
        "year_built": 2019,
    },
    ListingKind.vehicle: {
        "title": "Corolla from the first owner",
        "description": "Serviced every year",
        "price": 1850000,
        "brand": "Toyota",
        "model": "Corolla",
        "year": 2014,
        "mileage_km": 98000,
        "fuel": "petrol",
        "transmission": "automatic",
        "features": ["Air conditioning", "Alarm"],
    },
}


def example(kind: ListingKind) -> dict[str, object]:
    """A row that would be taken."""
    return {"kind": kind.value, **_EXAMPLE, **_EXAMPLES[kind]}


def exported(kind: ListingKind | None) -> dict[str, Shape]:
    """The columns of an export: all but what is never shown."""
    columns = COLUMNS if kind is None else OF_KIND[kind]
    return {name: shape for name, shape in columns.items() if name not in _KEPT_SECRET}


def fields_of(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    """What a row says, as JSON would; an empty cell says nothing."""
    said = zip(columns, cells, strict=True)
    return {name: _value(_unguarded(cell), COLUMNS[name]) for name, cell in said if cell and not cell.isspace()}


def _value(cell: str, shape: Shape) -> object:
    match shape:
        case Shape.text:
            return cell
        case Shape.number:
            return _number(cell.strip())
        case Shape.flag:
            return _FLAGS.get(cell.strip().lower(), cell)
        case Shape.words:
            return _words(cell)


def _number(text: str) -> object:
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _words(cell: str) -> list[str]:
    (words,) = csv.reader([cell.replace("\n", " ").replace("\r", " ")], delimiter=";", skipinitialspace=True)
    return [word for word in words if word and not word.isspace()]


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith(_GUARD) and cell[1:2] in (*_ACTIVE, _GUARD) else cell


def lines(columns: Mapping[str, Shape], rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as lines of CSV."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(row.get(name), shape) for name, shape in columns.items()] for row in rows)
    return text.getvalue()


def header(columns: Mapping[str, Shape]) -> str:
    """The first line of a file."""
    return BOM + ",".join(columns) + "\r\n"


def _cell(value: object, shape: Shape) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else f"{Decimal(repr(value)):f}"
        case list() | tuple():
            return _guarded(_joined(value))
        case _:
            return _guarded(str(value))


def _joined(words: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=";", lineterminator="").writerow(words)
    return text.getvalue()


def _guarded(text: str) -> str:
    """A text as no spreadsheet takes it for a formula; numbers are no texts, and may be negative."""
    return _GUARD + text if text.startswith((*_ACTIVE, _GUARD)) else text


def faults_of(columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with a header: the name of a column, and words."""
    seen: set[str] = set()
    for name in columns:
        if name not in COLUMNS:
            yield name, "There is no such column"
        elif name in seen:
            yield name, "The column stands there twice"
        seen.add(name)
    # With references rows may be about listings that are there, and need say only what is new.
    for name in (*ALWAYS, *(OF_NEW if "reference" not in seen else ())):
        if name not in seen:
            yield name, "The column is missing"
