"""What a row asks for: a new listing, a change of one that is there, or its removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from k2k.core.errors import DomainError, Invalid, Problem
from k2k.core.ids import ListingId
from k2k.features.imports.columns import CHANGES, DRAFTS
from k2k.features.imports.models import Reference, RowHead
from k2k.features.imports.reading import Row, Unreadable
from k2k.features.listings.kinds import AnyChange, AnyDraft
from k2k.features.listings.models import ListingKind
from k2k.ops.validation import validate

DELETED = "deleted"
"""The status that a row gives to what is to go."""
FAULTS_MOST = 5
"""Of one row that are told."""
_HEAD = ("kind", "reference")


@dataclass(frozen=True, slots=True)
class Known:
    """The listing that a reference is of."""

    listing: ListingId
    kind: ListingKind
    status: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with the row on this line."""

    line: int
    pointer: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class New:
    line: int
    reference: Reference | None
    draft: AnyDraft


@dataclass(frozen=True, slots=True)
class Change:
    line: int
    known: Known
    change: AnyChange


@dataclass(frozen=True, slots=True)
class Removal:
    line: int
    known: Known


@dataclass(frozen=True, slots=True)
class Refused:
    line: int
    faults: tuple[Fault, ...]


Wish = New | Change | Removal | Refused


def reference_of(row: Row) -> str | None:
    """What the row calls its listing; None if it has no name for it, or none that a listing can have."""
    try:
        return None if isinstance(row.said, Unreadable) else validate(RowHead, _head(row.said), "body").reference
    except Invalid:
        return None


def as_id(reference: str) -> UUID | None:
    """A listing that has no other name is called by its id, as an export does."""
    try:
        return UUID(reference)
    except ValueError:
        return None


def wish_of(row: Row, known: Mapping[str, Known]) -> Wish:
    """What the row asks for, where these references are known, or everything that is wrong with it."""
    if isinstance(row.said, Unreadable):
        return Refused(row.line, (Fault(row.line, "", row.said.code, row.said.detail),))
    try:
        return _wish(row.line, row.said, known)
    except Invalid as error:
        return refused(row.line, error)


def _wish(line: int, said: Mapping[str, object], known: Mapping[str, Known]) -> Wish:
    """Raises Invalid."""
    head = validate(RowHead, _head(said), "body")
    rest = {name: value for name, value in said.items() if name not in _HEAD}
    found = known.get(head.reference) if head.reference is not None else None
    if found is None:
        if rest.get("status") == DELETED:
            raise _wrong("/reference", "unknown-reference", "There is no listing of that name to delete")
        return New(line, head.reference, validate(DRAFTS[head.kind], rest, "body"))
    if found.kind is not head.kind:
        raise _wrong("/kind", "other-kind", f"The listing of that name is a {found.kind}")
    if rest.get("status") == DELETED:
        return Removal(line, found)
    if rest.get("status") == found.status:
        del rest["status"]  # also where its owner could not take it there
    return Change(line, found, validate(CHANGES[head.kind], rest, "body"))


def _head(said: Mapping[str, object]) -> dict[str, object]:
    return {name: said[name] for name in _HEAD if name in said}


def _wrong(pointer: str, code: str, detail: str) -> Invalid:
    return Invalid(problems=[Problem(pointer, "body", code, detail)])


def refused(line: int, error: DomainError) -> Refused:
    """A row that was not taken, and why."""
    told = [(fault.pointer, fault.code, fault.detail) for fault in error.problems[:FAULTS_MOST]]
    return Refused(line, tuple(Fault(line, *one) for one in told or [("", error.code, error.detail)]))
