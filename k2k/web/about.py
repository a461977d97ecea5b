"""What the OpenAPI document says of the API as a whole, by hand: its ways, its headers, its proofs of identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2k.web.routes import PREFIX

SUMMARY = "A property and vehicle marketplace for Ethiopia and East Africa, realtime first"

DESCRIPTION = """\
Web clients call these operations over REST; mobile apps hold a websocket at `/connection/websocket`, which speaks the
Centrifuge client protocol, and call the same operations there under the name in `x-rpc`: one flat object of all path,
query and body fields, the same permission, answer and errors.

**Signing in.** `POST /auth/login` answers an access token (30 minutes; `Authorization: Bearer <token>`) and a refresh
token (7 days) that `POST /auth/refresh` trades for the next pair. A refresh token works once. `x-permission` names what
an operation needs.

**Errors** are problem documents (RFC 9457, `application/problem+json`). Go by `code`: it is stable, and each operation
lists the codes it may answer. [All errors](/docs/errors) says what each means and what to do. Over the websocket the
same document stands in the error's `message`, and `code` there is the error's number.

**Input** is taken literally. Unknown fields and query parameters are refused, and so is a string where a number
belongs; everything wrong is told at once, each fault with a JSON pointer. **Answers** grow: pass over fields, events
and enumeration values that you do not know.

**Writing again.** Where an operation takes a `client_id` or an `Idempotency-Key`, make one for each wish and keep it
for repeats: the same wish again gets the first answer and writes nothing twice. After a 503, or no answer at all, that
is the way to find out what happened. Over the websocket the key is the field `idempotency_key`; it holds for 24 hours.

**Limits** count calls by person, whichever way they come, or by address where nobody is signed in. Each answer says
what is left (`RateLimit`), and a 429 when to try again (`Retry-After`).

**Values.** Moments are UTC with milliseconds, `2026-11-22T10:00:00.120Z`. Prices are numbers with at most two decimals,
in the currency beside them (ISO 4217). Ids are UUIDs. Countries are ISO 3166-1 alpha-2.

**Addresses** work with and without a trailing slash. An unknown one is 404 `no-such-route`, an unknown method 405
`method-not-allowed` with `Allow`. HEAD is answered wherever GET is. This version changes by addition only.
"""

LIVE = """\
What the server tells and takes over the websocket. Written from the server's side: what it `send`s, a client hears;
what it `receive`s, a client says. How to connect, resume and keep
state is told in docs/live.md.

**Events** come as publications, all in one form: `id` (the same in every channel the event stands in: drop the
second), `type`, `at` and `data`. Channels that keep events number them without holes, so a client that comes back is
told what it missed. Pass over types, fields and enumeration values that you do not know: this version changes by
addition only.

**Rpcs** are the operations of the REST API: one flat object of all path, query and body fields, the same permission,
answer and errors.
"""

LIVE_TOKEN: Mapping[str, Any] = {
    "type": "apiKey",
    "in": "password",
    "description": "The access token of a sign-in, as `token` of the connect command; never in the address.",
}

LIVE_REFUSAL = """\
What an rpc is answered instead: the error's number, and the problem document as text in `message`. Below 1000 stand the
protocol's own codes, whose `message` is a word.
"""

ALL_ANSWERS = ("X-Request-ID",)
"""The headers of every answer."""

LIMITED = ("RateLimit", "RateLimit-Policy")
"""The headers of every answer of an operation, where limits are on."""

KEPT = ("Cache-Control", "ETag")
"""The headers of answers that may be kept."""

REFUSALS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", *LIMITED),
    503: ("Retry-After",),
}
"""What the refusals of a status have besides."""

PASSING = ("Retry-After",)
"""What a refusal may have besides where one of its codes is a conflict that passes by itself."""


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


HEADERS: Mapping[str, dict[str, Any]] = {
    "Cache-Control": _header("`no-cache`: keep it, and ask each time whether it is still right"),
    "ETag": _header("Names this state of the answer: send it as If-None-Match to be told 304 while it is right"),
    "Link": _header(
        'The neighbouring parts of the list, `rel="next"` and `rel="prev"` (RFC 8288), where there are any'
    ),
    "Location": _header("The address of what was made", format="uri-reference"),
    "RateLimit": _header("What is left of the limit, and the seconds until it is whole again"),
    "RateLimit-Policy": _header("The limits that hold here"),
    "Retry-After": _header("Seconds after which a repeat makes sense", type="integer", minimum=0),
    "WWW-Authenticate": _header("`Bearer`: an access token is the proof to bring"),
    "X-Request-ID": _header("Finds this request in the log: name it when asking for help"),
    "X-Total-Count": _header("How many there are in all, exact to 10,000", type="integer", minimum=0),
    "X-Total-Count-Relation": _header("There are more than X-Total-Count says", enum=["gte"]),
}

IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "New for each wish and kept for its repeats, which get the first answer; a UUID fits",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
}

SECURITY_SCHEMES: Mapping[str, dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token, as `POST /auth/login` answers it",
    },
    "password": {
        "type": "oauth2",
        "description": "E-mail (as `username`) and password, traded for an access token",
        "flows": {"password": {"tokenUrl": f"{PREFIX}/auth/login", "scopes": {}}},
    },
}
