"""The catalogue of errors: which there are, and which of them an operation may answer.

An operation's own stand in its `raises`; the rest follows from its shape. What is HTTP's alone `web` adds.
"""

from __future__ import annotations

from collections.abc import Iterator

from k2k.core.errors import (
    Denied,
    DomainError,
    IdempotencyInProgress,
    IdempotencyMismatch,
    Internal,
    Invalid,
    Limited,
    OutcomeUnknown,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)
from k2k.ops.files import FileTooLarge, NotMultipart
from k2k.ops.permissions import PERMISSIONS, Permission, Role
from k2k.ops.registry import Operation, Repeats
from k2k.ops.validation import MalformedJson

Errors = tuple[type[DomainError], ...]

# Unknown fields and query parameters are refused everywhere, so anything may be invalid.
ANY: Errors = (Invalid, Limited, Internal, Unavailable)
BODIED: Errors = (MalformedJson,)
FILED: Errors = (FileTooLarge, NotMultipart)
WRITE: Errors = (OutcomeUnknown,)
KEYED: Errors = (IdempotencyInProgress, IdempotencyMismatch)


def errors_of(operation: Operation) -> list[type[DomainError]]:
    """Every error the operation may answer behind either door, by number."""
    found = {*operation.raises, *ANY, *_refusals(operation.may)}
    if "body" in operation.models:
        found.update(BODIED)
    if operation.files is not None:
        found.update(FILED)
    if is_write(operation):
        found.update(WRITE)
    if operation.repeats is Repeats.by_key:
        found.update(KEYED)
    if operation.repeats is Repeats.by_client_id:
        found.add(IdempotencyMismatch)
    return by_number(found)


def is_write(operation: Operation) -> bool:
    """Whether it may change anything."""
    return operation.method != "GET"


def all_errors() -> list[type[DomainError]]:
    """Every error of the house that is imported, by number."""
    return by_number(error for error in _below(DomainError) if error.__module__.startswith("k2k."))


def by_number(errors: Iterator[type[DomainError]] | set[type[DomainError]]) -> list[type[DomainError]]:
    """In the order of the catalogue."""
    return sorted(errors, key=lambda error: error.number)


def _refusals(may: Permission) -> Errors:
    """What a permission leads to. Where anyone may, a token is still looked at if it comes along."""
    if may is Permission.sign_in:
        return ()
    signed_in = [PERMISSIONS[role] for role in Role if role is not Role.anonymous]
    denied = () if all(may in granted for granted in signed_in) else (Denied,)
    return (Unauthenticated, TokenExpired, *denied)


def _below(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    for error in kind.__subclasses__():
        yield error
        yield from _below(error)
