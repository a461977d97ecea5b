"""Cells: what they stand for, and that no spreadsheet runs what sellers wrote."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2k.features.imports.columns import BOM, COLUMNS, OF_KIND, Shape, example, exported, fields_of, header, lines
from k2k.features.imports.reading import Place, Row
from k2k.features.imports.wishes import New, wish_of
from k2k.features.listings.kinds import PropertyDraft, VehicleDraft
from k2k.features.listings.models import ListingKind

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=60)
SAID = st.one_of(TEXTS, st.sampled_from("=+-@\t\r'").flatmap(lambda sign: TEXTS.map(lambda text: sign + text)))


def through(title: str, amenities: list[str], price: float, latitude: float) -> dict[str, object]:
    """A row written as CSV and read again."""
    row = {"title": title, "amenities": amenities, "price": price, "latitude": latitude}
    shapes = {name: COLUMNS[name] for name in row}
    (cells,) = csv.reader(io.StringIO(lines(shapes, [row]), newline=""), strict=True)
    return fields_of(tuple(row), cells)


def test_every_field_of_a_draft_is_a_column_and_nothing_else_is() -> None:
    assert set(COLUMNS) == {"kind", "reference", *PropertyDraft.model_fields, *VehicleDraft.model_fields}
    assert {name for name, shape in COLUMNS.items() if shape is Shape.words} == {"amenities", "features"}
    assert COLUMNS["price"] is COLUMNS["floor"] is COLUMNS["mileage_km"] is Shape.number
    for kind in ListingKind:
        assert list(OF_KIND[kind])[:2] == ["kind", "reference"]
    assert set(COLUMNS) - set(exported(None)) == {"unit", "vin"}, "which are never shown"


@given(
    SAID.filter(lambda text: not text.isspace()),
    st.lists(SAID.map(lambda text: " ".join(text.split())).filter(bool), max_size=4),
    st.decimals(1, 10**12 - 1, places=2).map(float),
    st.floats(-90, 90).map(lambda degrees: round(degrees, 12)),
)
def test_what_goes_out_comes_in_as_it_was(title: str, amenities: list[str], price: float, latitude: float) -> None:
    said = through(title, amenities, price, latitude)
    assert said["title"] == title
    assert said.get("amenities", []) == amenities
    assert said["price"] == price
    assert said["latitude"] == latitude


@pytest.mark.parametrize("text", ["=1+1", "+251911", "-5", "@SUM(A1)", "\tx", "\rx", "'=1", "'x", '=cmd|"/c calc"!A1'])
def test_no_cell_begins_as_a_formula_does(text: str) -> None:
    (cells,) = csv.reader(io.StringIO(lines({"title": Shape.text}, [{"title": text}]), newline=""))
    assert cells == ["'" + text]
    assert fields_of(("title",), cells) == {"title": text}


def test_an_apostrophe_that_somebody_wrote_stays() -> None:
    assert fields_of(("title", "city"), ("'t Hof", "'")) == {"title": "'t Hof", "city": "'"}


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("45000", 45000),
        (" 45000.50 ", 45000.5),
        ("-1", -1),
        ("1e3", "1e3"),
        ("10^30", "10^30"),
        ("9" * 19, "9" * 19),
        ("1,000", "1,000"),
        ("0x10", "0x10"),
        ("NaN", "NaN"),
        ("٣", "٣"),
        ("=1", "=1"),
    ],
)
def test_a_number_is_a_number_or_left_to_be_refused(cell: str, value: object) -> None:
    assert fields_of(("price",), (cell,)) == {"price": value}


def test_empty_cells_say_nothing_and_words_stand_between_semicolons() -> None:
    names = ("title", "amenities", "features", "city")
    assert fields_of(names, ("", "Lift; Generator;", '"a;b";c', "  ")) == {
        "amenities": ["Lift", "Generator"],
        "features": ["a;b", "c"],
    }


@pytest.mark.parametrize("kind", ListingKind)
def test_the_example_of_a_kind_would_be_taken(kind: ListingKind) -> None:
    assert header(OF_KIND[kind]).startswith(BOM + "kind,reference,")
    (cells,) = csv.reader(io.StringIO(lines(OF_KIND[kind], [example(kind)])))
    wish = wish_of(Row(2, fields_of(tuple(OF_KIND[kind]), cells), Place(0, 3)), {})
    assert isinstance(wish, New), wish
    assert wish.reference == "K-1042"
