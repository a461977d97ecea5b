"""What can go wrong, in the words of the domain.

A room raises a `DomainError` that belongs to one of the kinds below. Kinds are all the doors know: `web`
turns a kind into an HTTP status, `live` into a protocol code. Nothing here knows HTTP or websockets.

Every error that a client may meet carries a stable `code` (a slug, for programs), a `number` (1000 and up,
the same error over the websocket) and an English `title`; `detail` says what happened this time and what a
person can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in what a client sent: where (a JSON pointer into the part named by `part`), and why."""

    pointer: str
    part: Literal["body", "query", "path", "header"]
    code: str
    detail: str


class DomainError(Exception):
    """The base of everything a client is told about. Raise a subclass, never this."""

    code: ClassVar[str]
    number: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str | None = None, *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.problems = tuple(problems)
        self.retry_after: int | None = None
        """Whole seconds after which a repeat makes sense, where the raiser knows."""


class Invalid(DomainError):
    """What was sent cannot be accepted; every fault found is listed. Change it before sending it again."""

    code = "invalid"
    number = 1000
    title = "The request is not valid"


class Unauthenticated(DomainError):
    """Nobody is signed in, or the proof does not hold. Sign in and send the access token."""

    code = "unauthenticated"
    number = 1001
    title = "Sign in first"


class Denied(DomainError):
    """The person is known and may not do this. Asking again changes nothing."""

    code = "denied"
    number = 1002
    title = "Not enough permissions"


class NotFound(DomainError):
    """There is no such thing, or none that this person may know of."""

    code = "not-found"
    number = 1003
    title = "Not found"


class Conflict(DomainError):
    """The wish was well formed but the world has moved on. Fetch anew before deciding."""

    code = "conflict"
    number = 1004
    title = "This is no longer possible"


class Limited(DomainError):
    """Too much, too fast. Wait for the seconds of `retry_after`."""

    code = "limited"
    number = 1005
    title = "Too many requests"


class Unavailable(DomainError):
    """A part we need is away for the moment; nothing was written, asking again later is right."""

    code = "unavailable"
    number = 1006
    title = "The service is briefly unavailable"


class OutcomeUnknown(Unavailable):
    """The connection to the database was lost around COMMIT: the write happened wholly or not at all.

    Asking again with the same `client_id` or Idempotency-Key finds out and is safe.
    """

    code = "outcome-unknown"
    number = 1007
    title = "The outcome is unknown: ask again with the same client_id or Idempotency-Key"


class TokenExpired(Unauthenticated):
    """The access token was good and has run out; a refresh brings a new one."""

    code = "token-expired"
    number = 1008
    title = "The access token has expired"


class IdempotencyMismatch(Invalid):
    """The client's own id (`client_id`, or its Idempotency-Key) was used before, with other content.

    A new wish takes a new id.
    """

    code = "idempotency-mismatch"
    number = 1009
    title = "This client_id or Idempotency-Key was already used with other content"


class IdempotencyInProgress(Conflict):
    """The first request with this Idempotency-Key is still running: ask again in a moment for its answer."""

    code = "idempotency-in-progress"
    number = 1012
    title = "The first request with this Idempotency-Key is still running"

    def __init__(self) -> None:
        super().__init__()
        self.retry_after = 1


class AddressNotAllowed(Invalid):
    """The address is not public, or not of a kind we call. What a name resolved to is not told."""

    code = "address-not-allowed"
    number = 1013
    title = "This address cannot be used: it must be a public http or https address"


class PositionUnknown(Conflict):
    """The stream does not have this position: it is of another epoch, or beyond the newest event.

    Fetch the state afresh and go on from the position that comes with it.
    """

    code = "position-unknown"
    number = 1014
    title = "The stream does not have this position"


class Internal(DomainError):
    """Our fault. The request id leads to the log, nothing inner is told. Trying once more later is right."""

    code = "internal"
    number = 1011
    title = "Something went wrong on our side"
