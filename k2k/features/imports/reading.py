"""A file as rows, from a window of its bytes: nothing here ever sees all of it.

A line break is one byte in UTF-8 and part of no other letter, so lines are cut before they are decoded. What a row of
CSV is decides the csv module. A row that cannot be read costs itself and nothing else: the next one is looked for on
the next line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from k2k.core.errors import Problem
from k2k.features.imports import columns
from k2k.features.imports.errors import UnknownFormat, UnusableFile
from k2k.features.imports.models import Format
from k2k.ops.files import File
from k2k.ops.validation import MalformedJson, parse_json, pointer

LONGEST_ROW = 64 * 1024
"""Bytes: ten times what all fields of a listing may hold together, were they written in Ethiopic."""
WINDOW = 256 * 1024
"""Bytes that are looked at together, at least one row among them."""
TORN_MOST = 100
"""Quotes never closed in one file. To find each of them out takes reading as much as the longest row, so that a file of
nothing else would keep us busy for hours."""
# Of empty lines there may be as many as fit into a window: all that follow each other are one step, and no row.
_BLANK = {
    Format.csv: re.compile(rb"(?:\r{0,%d}+\n)*+" % (LONGEST_ROW - 1)),
    Format.jsonl: re.compile(rb"(?:[ \t\r]{0,%d}+\n)*+" % (LONGEST_ROW - 1)),
}
_NAMED = 20
"""Columns that a refusal names."""

_BY_TYPE = {
    "text/csv": Format.csv,
    "application/csv": Format.csv,
    "application/x-ndjson": Format.jsonl,
    "application/ndjson": Format.jsonl,
    "application/jsonl": Format.jsonl,
    "application/x-jsonlines": Format.jsonl,
    "application/json-lines": Format.jsonl,
}
_BY_NAME = {".csv": Format.csv, ".jsonl": Format.jsonl, ".ndjson": Format.jsonl}
_NO_TEXT = {
    b"PK\x03\x04": "It is an archive or a spreadsheet's own format: save it as CSV",
    codecs.BOM_UTF16_LE: "It is UTF-16: save it as UTF-8",
    codecs.BOM_UTF16_BE: "It is UTF-16: save it as UTF-8",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading goes on: a byte of the file, and the line it is on. `in_long_row`: what comes first is no row."""

    byte: int
    line: int
    in_long_row: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why there are no fields; `torn` where a quote is never closed."""

    code: str
    detail: str
    torn: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What one row says, as JSON values, or why that cannot be told; and where the next one begins."""

    line: int
    said: dict[str, object] | Unreadable
    end: Place


@dataclass(frozen=True, slots=True)
class Opening:
    """What the beginning of a file tells: its columns, if it has any, and where its rows begin."""

    columns: tuple[str, ...]
    rows: Place


def format_of(file: File) -> Format:
    """By its type, or else by its name. Raises UnknownFormat."""
    found = _BY_TYPE.get(file.media_type)
    for ending, format_ in _BY_NAME.items():
        if found is None and file.name.lower().endswith(ending):
            found = format_
    if found is None:
        raise UnknownFormat
    return found


def opened(format_: Format, window: bytes, *, last: bool) -> Opening:
    """Look at the beginning of a file; `last` if it is all of it. Raises UnusableFile."""
    for sign, words in _NO_TEXT.items():
        if window.startswith(sign):
            raise UnusableFile(words)
    if b"\x00" in window:
        raise UnusableFile("It is no text: there are NUL bytes in it")
    start = len(codecs.BOM_UTF8) if window.startswith(codecs.BOM_UTF8) else 0
    if not window[start:].strip():
        raise UnusableFile("The file is empty")
    if format_ is Format.jsonl:
        if not window[start:].lstrip().startswith(b"{"):
            raise UnusableFile("JSON lines are one object a line, without a list around them")
        return Opening((), Place(start, 1))
    names, end = _header(window[start:], Place(start, 1), last=last)
    faults = list(columns.faults_of(names))
    if faults:
        raise UnusableFile(
            "The header is not one of ours" + _hint(names),
            problems=[Problem(pointer((name[:100],)), "body", "column", words) for name, words in faults[:_NAMED]],
        )
    return Opening(names, end)


def _hint(names: Sequence[str]) -> str:
    only = names[0] if len(names) == 1 else ""
    return ": cells are separated by commas" if ";" in only or "\t" in only else ""


def _header(window: bytes, at: Place, *, last: bool) -> tuple[tuple[str, ...], Place]:
    lines = _Lines(window, at, last=last)
    lines.begin()
    try:
        names = next(csv.reader(lines, strict=True))
    except (csv.Error, UnicodeDecodeError, _TooLong, _Cut):
        raise UnusableFile("The header cannot be read: it is one row of CSV in UTF-8, below 64 KiB") from None
    return tuple(name.strip() for name in names), lines.place


def read(
    format_: Format, names: Sequence[str], window: bytes, at: Place, *, last: bool, most: int
) -> tuple[list[Row], Place]:
    """At most so many rows of the window, which begins at a place, and where to go on. `last` if the file ends with it.

    A window of `WINDOW` bytes or more always brings it further.
    """
    lines = _Lines(window, at, last=last)
    if at.in_long_row:
        lines.skip()
    take: Callable[[], dict[str, object] | Unreadable | None] = (
        (lambda: _object(lines)) if format_ is Format.jsonl else (lambda: _record(lines, names))
    )
    rows: list[Row] = []
    while len(rows) < most and not lines.place.in_long_row:
        lines.pass_over(_BLANK[format_])
        lines.begin()
        try:
            said = take()
        except (_Cut, StopIteration):
            lines.back()
            break
        except _TooLong:
            said = lines.torn()
        if said is not None:
            rows.append(Row(lines.row_line, said, lines.place))
    return rows, lines.place


def _record(lines: _Lines, names: Sequence[str]) -> dict[str, object] | Unreadable | None:
    """What the next row of CSV says; None if there is nothing but the end of the file."""
    try:
        cells = next(csv.reader(lines, strict=True))
    except UnicodeDecodeError:
        return _NOT_UTF8
    except csv.Error as error:
        return lines.torn() if lines.several else Unreadable("malformed-row", f"The row is not CSV: {error}")
    if not cells:
        return None
    if len(cells) != len(names):
        return Unreadable("cells", f"The row has {len(cells)} cells, the header {len(names)}")
    return columns.fields_of(names, cells)


def _object(lines: _Lines) -> dict[str, object] | Unreadable | None:
    """What the next line of JSON says; None if there is nothing but the end of the file."""
    try:
        text = next(lines)
        if not text.strip(" \t\r"):
            return None
        value = parse_json(text)
    except UnicodeDecodeError:
        return _NOT_UTF8
    except MalformedJson as error:
        return Unreadable(error.code, error.detail[:300])
    return value if isinstance(value, dict) else Unreadable("no-object", "The line is no JSON object")


_NOT_UTF8 = Unreadable("encoding", "The row is not UTF-8")


class _Cut(Exception):
    """The window ends before the row does."""


class _TooLong(Exception):
    """The row goes on beyond the longest that is read."""


class _Lines(Iterator[str]):
    """The lines of a window. A row may take several of them: `begin` marks where one begins."""

    def __init__(self, window: bytes, at: Place, *, last: bool) -> None:
        self.row_line = at.line
        self._window = window
        self._last = last
        self._first = at.byte
        self._byte, self._line, self._in_long_row, self._ended = 0, at.line, False, False
        self._begun = self._second = (0, at.line)

    @property
    def place(self) -> Place:
        """In the file, where the next line begins."""
        return Place(self._first + self._byte, self._line, self._in_long_row)

    @property
    def several(self) -> bool:
        """Whether the row has taken more than its first line, or would have."""
        return self._ended or (self._byte, self._line) != self._second

    def pass_over(self, blank: re.Pattern[bytes]) -> None:
        """Beyond the lines that match from here on, which are no rows."""
        found = blank.match(self._window, self._byte)
        end = found.end() if found else self._byte
        self._line += self._window.count(b"\n", self._byte, end)
        self._byte = end

    def begin(self) -> None:
        """What comes next is a row."""
        self._ended = False
        self.row_line = self._line
        self._begun = self._second = (self._byte, self._line)

    def back(self) -> None:
        """To where the row begins."""
        self._byte, self._line = self._begun

    def __next__(self) -> str:
        begun, _ = self._begun
        end = self._window.find(b"\n", self._byte, begun + LONGEST_ROW) + 1
        if not end:
            if len(self._window) - begun >= LONGEST_ROW:
                raise _TooLong
            if not self._last:
                raise _Cut
            end = len(self._window)
        if end == self._byte:
            self._ended = True
            raise StopIteration
        line = self._window[self._byte : end]
        self._byte, self._line = end, self._line + 1
        if self._second == self._begun:
            self._second = (self._byte, self._line)
        return line.decode()

    def torn(self) -> Unreadable:
        """Leave a row that has no end: behind its first line, as far as that goes."""
        if self._second != self._begun:
            self._byte, self._line = self._second
            return Unreadable("unclosed-quote", "A quote is not closed, or not where a cell ends", torn=True)
        self.skip()
        return Unreadable("row-too-long", "The row is longer than 64 KiB")

    def skip(self) -> None:
        """To the next line, which may be beyond the window."""
        end = self._window.find(b"\n", self._byte) + 1
        self._in_long_row = not end and not self._last
        self._byte = end or len(self._window)
        self._line += 1 if end else 0
