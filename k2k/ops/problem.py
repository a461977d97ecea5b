"""The problem document (RFC 9457): how an error looks, the same behind both doors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from k2k.core.errors import (
    Conflict,
    Denied,
    DomainError,
    Internal,
    Invalid,
    Limited,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from k2k.ops.files import FileTooLarge, NotMultipart
from k2k.ops.validation import MalformedJson, untouched
from k2k.ops.versions import VersionMismatch

# The first kind that fits counts, so the narrower stand above the wider.
STATUS: dict[type[DomainError], int] = {
    MalformedJson: 400,
    FileTooLarge: 413,
    NotMultipart: 415,
    VersionMismatch: 412,
    Invalid: 422,
    Unauthenticated: 401,
    Denied: 403,
    NotFound: 404,
    Conflict: 409,
    Limited: 429,
    Unavailable: 503,
    Internal: 500,
}


class Fault(BaseModel):
    """One fault in what was sent."""

    pointer: str = Field(description="Where, as a JSON pointer (RFC 6901) into the part; empty for the whole")
    part: Literal["body", "query", "path", "header"] = Field(
        alias="in", description="The part of the request that it points into"
    )
    code: str = Field(description="What kind of fault, for programs")
    detail: str = Field(description="What is wrong, for people")


class ProblemDocument(BaseModel):
    """What every error answers (RFC 9457). Programs go by `code`, people by `title` and `detail`."""

    type: str = Field(description="Where the code is explained")
    title: str = Field(description="The kind of problem in English, always the same for a code")
    status: int = Field(description="The HTTP status, also where the answer came over a socket")
    detail: str = Field(description="What happened this time and what a person can do")
    code: str = Field(description="The stable name of the kind of problem")
    request_id: str = Field(description="Finds this request in the log: name it when asking for help")
    errors: Annotated[list[Fault], Field(description="Every fault found; only where what was sent was at fault")] = (
        untouched()
    )
    retry_after: Annotated[int, Field(ge=0, description="Seconds after which a repeat makes sense, where known")] = (
        untouched()
    )


def status_of(error: DomainError | type[DomainError]) -> int:
    """The HTTP status of the error's kind."""
    kind = error if isinstance(error, type) else type(error)
    return next(status for known, status in STATUS.items() if issubclass(kind, known))


def document(error: DomainError, *, status: int, request_id: str) -> dict[str, Any]:
    """The members of a ProblemDocument. `errors` stands there only where something sent was at fault."""
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
