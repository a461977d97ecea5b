"""Files as rows: however they are cut into windows, and whatever is wrong with them."""

from __future__ import annotations

import io
import time
import tracemalloc
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2k.features.imports.errors import UnknownFormat, UnusableFile
from k2k.features.imports.models import Format
from k2k.features.imports.reading import LONGEST_ROW, WINDOW, Place, Row, Unreadable, format_of, opened, read
from k2k.ops.files import File
from tests.features.imports.sheets import a_row, rows, sheet

NAMES = ("kind", "title")


def all_rows(content: bytes, *, names: tuple[str, ...] = NAMES, window: int = WINDOW, format_: Format = Format.csv) -> Iterator[Row]:  # fmt: skip  # noqa: E501
    """The rows of a file without a header, window after window."""
    place = Place(0, 1)
    while place.byte < len(content):
        shown = content[place.byte : place.byte + window]
        last = place.byte + len(shown) == len(content)
        found, goes_on = read(format_, names, shown, place, last=last, most=100)
        assert goes_on.byte > place.byte, "it must come further"
        yield from found
        place = goes_on


def told(content: bytes, **more: object) -> list[tuple[int, object]]:
    """The line of each row, and its title or the code of what is wrong with it."""
    return [
        (row.line, row.said.code if isinstance(row.said, Unreadable) else row.said.get("title"))
        for row in all_rows(content, **more)  # type: ignore[arg-type]
    ]


def test_a_row_may_take_several_lines_and_errors_name_the_first() -> None:
    content = b'property,"Two\r\nlines"\r\nproperty,One\r\n\r\nproperty,"a ""b"", c"\r\nproperty'
    assert told(content) == [(1, "Two\r\nlines"), (3, "One"), (5, 'a "b", c'), (6, "cells")]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_window_that_ends_anywhere_changes_nothing(ending: str) -> None:
    wide = "ሰ" * 5000
    content = "".join(f'property,"{number}{ending}{wide}"{ending}' for number in range(60)).encode()
    whole = told(content)
    assert len(whole) == 60
    for window in (LONGEST_ROW + 1, LONGEST_ROW + 7919, WINDOW - 1):
        assert told(content, window=window) == whole


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=20))
def test_what_is_written_as_csv_is_read_as_it_was(texts: list[str]) -> None:
    lines = sheet({"kind": "property", "title": "x" + text + "x"} for text in texts).split(b"\n", 1)[1]
    assert [title for _, title in told(lines)] == ["x" + text + "x" for text in texts]


def test_a_wrong_row_in_the_middle_of_a_hundred_thousand_costs_itself() -> None:
    good = b"property,Flat\n" * 50_000
    for wrong in (b'property,"Flat\n', b'property,"Fl"at\n', b"property,\xff\n", b"property\n", b"a,b,c,d\n"):
        found = list(all_rows(good + wrong + good))
        assert len(found) == 100_001
        assert [row.line for row in found if isinstance(row.said, Unreadable)] == [50_001]


@pytest.mark.parametrize("format_", Format)
@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\r\r\n"])
def test_a_window_of_empty_lines_is_one_step(format_: Format, blank: bytes) -> None:
    count = 2 * WINDOW // len(blank)
    began = time.process_time()
    found, place = read(format_, NAMES, blank * count, Place(0, 1), last=False, most=1)
    assert time.process_time() - began < 0.25
    assert (found, place) == ([], Place(count * len(blank), count + 1))


def test_behind_a_million_empty_lines_the_lines_are_numbered_right() -> None:
    blanks = b"\n" * 500_000 + b"\r\n" * 500_000
    assert told(b"property,A\n" + blanks + b"property,B\n\n\n") == [(1, "A"), (1_000_002, "B")]
    lines = b'{"title": "A"}\n' + blanks + b' \t\r\n {"title": "B"}\n  '
    assert told(lines, format_=Format.jsonl) == [(1, "A"), (1_000_003, "B")]
    long = b" " * LONGEST_ROW + b'\n{"title": "B"}\n'
    for window in (WINDOW, LONGEST_ROW + 1):
        assert told(long, format_=Format.jsonl, window=window) == [(1, "row-too-long"), (2, "B")]


def test_a_quote_never_closed_is_found_out_also_where_another_follows() -> None:
    assert told(b'property,"Open\nproperty,Flat\nproperty,"Quiet, near"\nproperty,Flat\n') == [
        (1, "unclosed-quote"),
        (2, "Flat"),
        (3, "Quiet, near"),
        (4, "Flat"),
    ]
    assert told(b'property,Flat\nproperty,"Open') == [(1, "Flat"), (2, "unclosed-quote")]


def test_a_row_without_an_end_is_passed_over_without_being_held() -> None:
    content = b"property," + b"x" * (20 * WINDOW) + b"\nproperty,Flat\n"
    tracemalloc.start()
    assert told(content) == [(1, "row-too-long"), (2, "Flat")]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * WINDOW
    assert told(b"property," + b"x" * (2 * WINDOW)) == [(1, "row-too-long")]


@pytest.mark.parametrize("size", [LONGEST_ROW - 1, LONGEST_ROW, LONGEST_ROW + 1])
def test_the_longest_row_is_64_kib_with_its_end(size: int) -> None:
    row = b"property,".ljust(size - 1, b"x") + b"\n"
    (first, second) = told(row + b"property,Flat\n")
    assert (first[1] == "row-too-long") == (size > LONGEST_ROW)
    assert second == (2, "Flat")


def test_lines_of_json_are_objects() -> None:
    content = '{"title": "ቤት"}\n\n[1]\n{"title": \n{"title": "\\ud800"}\n{"a": 1, "a": 2}\n{"title": "Last"}'.encode()
    content += b'\n{"title": "\xff"}'
    assert told(content, format_=Format.jsonl) == [
        (1, "ቤት"),
        (3, "no-object"),
        (4, "malformed-json"),
        (5, "malformed-json"),
        (6, "malformed-json"),
        (7, "Last"),
        (8, "encoding"),
    ]


# Beginnings


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_header_may_have_a_byte_order_mark(mark: bytes) -> None:
    content = mark + sheet(rows(2))
    opening = opened(Format.csv, content, last=True)
    assert opening.columns == tuple(a_row())
    assert content[opening.rows.byte :].startswith(b"property,Flat 0,")
    assert opening.rows.line == 2


def a_zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>" * 100)
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \r\n", "empty"),
        (a_zip(), "save it as CSV"),
        ("kind,title".encode("utf-16"), "UTF-16"),
        ("kind,title\n".encode("utf-16-le"), "NUL"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "NUL"),
        (b"kind,\xff\xfe\n", "cannot be read"),
        (b'kind,"title\n' * 9000, "cannot be read"),
        (b"kind," * 20_000, "cannot be read"),
        (b"kind,title\rproperty,Flat\r", "cannot be read"),
        (b"kind;title;price\n", "separated by commas"),
        (b"title,price\n", "not one of ours"),
    ],
)
def test_what_is_no_csv_is_refused_by_its_beginning(content: bytes, words: str) -> None:
    with pytest.raises(UnusableFile, match=words):
        opened(Format.csv, content, last=True)


def test_a_header_tells_each_column_that_is_wrong() -> None:
    with pytest.raises(UnusableFile) as refused:
        opened(Format.csv, b"kind,title,title,owner_id,Price,view_count,status\n", last=True)
    assert [(one.pointer, one.code, one.detail) for one in refused.value.problems] == [
        ("/title", "column", "The column stands there twice"),
        ("/owner_id", "column", "There is no such column"),
        ("/Price", "column", "There is no such column"),
        ("/view_count", "column", "There is no such column"),
        ("/listing_type", "column", "The column is missing"),
        ("/price", "column", "The column is missing"),
        ("/city", "column", "The column is missing"),
    ]
    opened(Format.csv, b"kind,reference,price\n", last=True)  # rows about what is there


def test_of_a_thousand_columns_some_are_named() -> None:
    names = ",".join(f"column{number}" for number in range(1000))
    with pytest.raises(UnusableFile) as refused:
        opened(Format.csv, names.encode() + b"\n", last=True)
    assert len(refused.value.problems) == 20


@pytest.mark.parametrize("content", [b'[{"kind": "property"}]', b"kind,title\n", b"\x00", b" "])
def test_json_lines_begin_with_an_object(content: bytes) -> None:
    with pytest.raises(UnusableFile):
        opened(Format.jsonl, content, last=True)
    assert opened(Format.jsonl, b'\xef\xbb\xbf{"kind": 1}', last=True).rows == Place(3, 1)


async def nothing() -> Iterator[bytes]:  # type: ignore[misc]
    yield b""


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("stock.csv", "", Format.csv),
        ("STOCK.CSV", "application/octet-stream", Format.csv),
        ("stock.csv", "application/vnd.ms-excel", Format.csv),  # what a browser says where Excel is installed
        ("stock", "text/csv", Format.csv),
        ("stock.csv", "application/x-ndjson", Format.jsonl),
        ("stock.jsonl", "text/plain", Format.jsonl),
        ("stock.ndjson", "", Format.jsonl),
        ("stock.xlsx", "", None),
        ("stock.csv.zip", "application/zip", None),
        ("csv", "", None),
    ],
)
def test_a_format_is_told_by_type_or_name(name: str, kind: str, found: Format | None) -> None:
    file = File(name, kind, nothing())  # type: ignore[arg-type]
    if found is None:
        with pytest.raises(UnknownFormat):
            format_of(file)
    else:
        assert format_of(file) is found
