"""The problem document (RFC 9457): how an error looks, the same behind both doors."""

from __future__ import annotations

from typing import Any

from k2k.core.errors import (
    Conflict,
    Denied,
    DomainError,
    Invalid,
    Limited,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from k2k.ops.validation import MalformedJson

# The first kind that fits counts, so the narrower stand above the wider.
STATUS: dict[type[DomainError], int] = {
    MalformedJson: 400,
    Invalid: 422,
    Unauthenticated: 401,
    Denied: 403,
    NotFound: 404,
    Conflict: 409,
    Limited: 429,
    Unavailable: 503,
}


def status_of(error: DomainError) -> int:
    """The HTTP status of the error's kind."""
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def document(error: DomainError, *, status: int, request_id: str) -> dict[str, Any]:
    """The members of the problem document. `errors` stands there only where something sent was at fault."""
    members: dict[str, Any] = {
        "type": f"/docs/errors#{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    if error.problems:
        members["errors"] = [
            {"pointer": fault.pointer, "in": fault.part, "code": fault.code, "detail": fault.detail}
            for fault in error.problems
        ]
    if error.retry_after is not None:
        members["retry_after"] = error.retry_after
    return members
