"""The catalogue of errors as HTTP has it: every error with its status and the operations that may answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from k2k.core.errors import DomainError
from k2k.ops import catalogue
from k2k.ops.catalogue import Errors, by_number
from k2k.ops.problem import status_of
from k2k.ops.registry import Operation
from k2k.web.problems import REFUSALS, BadRequest, RequestTimeout, TooLarge, UnsupportedMediaType

# HTTP's own, beyond what `ops` knows.
ANY: Errors = (BadRequest,)
BODIED: Errors = (RequestTimeout, TooLarge, UnsupportedMediaType)

_STATUS: Mapping[type[DomainError], int] = {error: status for status, error in REFUSALS.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One error of the catalogue."""

    error: type[DomainError]
    status: int
    operations: tuple[Operation, ...]
    """Who may answer it; none for what is answered before an operation is found."""


def entries(operations: Iterable[Operation]) -> list[Entry]:
    """The whole catalogue, by number."""
    answers = [(operation, errors_of(operation)) for operation in operations]
    return [
        Entry(error, http_status(error), tuple(operation for operation, errors in answers if error in errors))
        for error in catalogue.all_errors()
    ]


def errors_of(operation: Operation) -> list[type[DomainError]]:
    """Every error the operation may answer over HTTP, by number."""
    bodied = BODIED if "body" in operation.models else (RequestTimeout,) if operation.files is not None else ()
    return by_number({*catalogue.errors_of(operation), *ANY, *bodied})


def http_status(error: type[DomainError]) -> int:
    """The status that the error is answered with."""
    return _STATUS.get(error) or status_of(error)
