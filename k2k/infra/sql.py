"""Named statements out of `sql/queries/<feature>.sql`.

A file is a list of statements, each under two kinds of comment:

    -- name: claim_lead
    -- Exactly one agent wins; everybody else learns who was first.
    with ... select ...

The sentence under the name says why the statement exists; one without is refused. A store binds a statement to the
type of its rows once, at import: `CLAIM = queries.rows("claim_lead", ClaimRow)`. That every statement can be
prepared on the migrated database, and that its columns are the fields of its row type, is a test.

A statement may have filters: parts that stand in it only where they are asked for, because a plan for one list with
all its filters would serve none of them. It says `/* filters */` where they go; each follows it under a line
`-- filter: city` and a sentence, and has one argument, which it calls `$value`.

A statement that *announces* writes rows and says which events that makes, in one round trip. It ends with
`select * from outcome`, where outcome has the columns `position` (int, unique) and `events` (a jsonb array of
`{"type", "to", "data", "joined"?}`), and has two forms: `text` hands the events to the caller, who emits them at the
end of a longer transaction; `announcing` also numbers and stores them, so that the statement is a whole
transaction by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Generic, TypeVar

Row = TypeVar("Row")

QUERIES = Path(__file__).parents[2] / "sql" / "queries"

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_FILTER = re.compile(r"^-- filter: (\w+)\n", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\$(\d+)")
FILTERS = "/* filters */"
_OUTCOME = "select * from outcome"
_ANNOUNCE = """
, announced as materialized (
    select emitted.* from emit((
        select coalesce(jsonb_agg(event || jsonb_build_object('ref', outcome.position)
                                  order by outcome.position, place), '[]')
        from outcome, jsonb_array_elements(outcome.events) with ordinality as listed (event, place))) as emitted
)
select outcome.*, channels, epochs, offsets, types, bodies
from outcome
left join (
    select ref, array_agg(channel order by n) as channels, array_agg(epoch order by n) as epochs,
           array_agg("offset" order by n) as offsets, array_agg(type order by n) as types,
           array_agg(body order by n) as bodies
    from announced group by ref) as numbered on numbered.ref = outcome.position
order by outcome.position"""


@dataclass(frozen=True)
class Statement(Generic[Row]):
    """One named statement and the type its rows become.

    `row` is a frozen dataclass whose fields are the columns in order, `bytes` for one JSON column handed on
    undecoded, or `type(None)` for a statement without rows.
    """

    name: str
    text: str
    row: type[Row]

    @property
    def columns(self) -> list[str] | None:
        """The column names the row type asks for, in order; None where one JSON column is handed on."""
        if self.row is bytes:
            return None
        # What else a row can be is a dataclass, which mypy cannot say of a type variable.
        return [] if self.row is type(None) else [field.name for field in fields(self.row)]  # type: ignore[arg-type]

    @property
    def announces(self) -> bool:
        """Whether the statement tells of events and so may be a whole transaction."""
        return self.text.endswith(_OUTCOME)

    @property
    def announcing(self) -> str:
        """The text that also numbers and stores the events, with five further columns, arrays over them."""
        if not self.announces:
            raise ValueError(f"{self.name} does not end with '{_OUTCOME}': it announces nothing")
        return self.text.removesuffix(_OUTCOME).rstrip() + _ANNOUNCE


class Filtered(Generic[Row]):
    """A statement with filters, of which each call takes those it needs."""

    def __init__(self, name: str, text: str, row: type[Row]) -> None:
        whole, *parts = _FILTER.split(text)
        if FILTERS not in whole or not parts:
            raise ValueError(f"{name} has no filters, or does not say where they go")
        self.whole = Statement(name, _bare(whole), row)
        self.parts = dict(zip(parts[::2], map(_bare, parts[1::2]), strict=True))
        self._first = 1 + max(int(number) for number in _PLACEHOLDER.findall(self.whole.text))
        self._shapes: dict[tuple[str, ...], Statement[Row]] = {}

    def of(self, wanted: Mapping[str, object]) -> tuple[Statement[Row], list[object]]:
        """The statement with these filters, and their values in the order it takes them, after all other arguments.

        KeyError if there is no filter of a name.
        """
        unknown = wanted.keys() - self.parts.keys()
        if unknown:
            raise KeyError(f"{self.whole.name} has no filter {', '.join(sorted(unknown))}")
        names = tuple(name for name in self.parts if name in wanted)
        if names not in self._shapes:
            self._shapes[names] = self._composed(names)
        return self._shapes[names], [wanted[name] for name in names]

    def _composed(self, names: tuple[str, ...]) -> Statement[Row]:
        parts = [self.parts[name].replace("$value", f"${number}") for number, name in enumerate(names, self._first)]
        return Statement(self.whole.name, self.whole.text.replace(FILTERS, " ".join(parts)), self.whole.row)


def _bare(text: str) -> str:
    """A statement, or a part of one, without what is said about it."""
    kept = (line for line in text.splitlines() if not line.startswith("-- "))
    return "\n".join(kept).strip().removesuffix(";")


class Queries:
    """The statements of one file. Raises at import what is wrong with the file or a name."""

    def __init__(self, feature: str) -> None:
        self.path = QUERIES / f"{feature}.sql"
        head, *parts = _NAME.split(self.path.read_text())
        self._texts = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
        for name, text in self._texts.items():
            if not text.startswith("-- "):
                raise ValueError(f"{self.path.name}: {name} has no sentence that says why it exists")
        if len(self._texts) != len(parts) // 2 or not head.startswith("-- "):
            raise ValueError(f"{self.path.name}: a name twice, or no first line that says what the file is for")

    def rows(self, name: str, row: type[Row]) -> Statement[Row]:
        """The statement `name`, whose rows become `row` (a frozen dataclass). KeyError if there is none."""
        return Statement(name, _bare(_FILTER.split(self._texts[name])[0]), row)

    def filtered(self, name: str, row: type[Row]) -> Filtered[Row]:
        """The statement `name`, which has filters. KeyError if there is none, ValueError if it has no filters."""
        return Filtered(name, self._texts[name], row)

    def json(self, name: str) -> Statement[bytes]:
        """The statement `name`, whose only column is JSON that is handed on as it is."""
        return self.rows(name, bytes)

    def command(self, name: str) -> Statement[None]:
        """The statement `name`, which answers no rows."""
        return self.rows(name, type(None))

    @property
    def names(self) -> list[str]:
        """All names in the file, so that a test finds those nobody binds."""
        return list(self._texts)
