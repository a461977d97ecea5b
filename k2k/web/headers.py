"""Headers that every answer carries: security, the request's id, and leave for the pages of allowed origins (CORS).

CORS here is one rule for all addresses, errors and unknown addresses too, so that a page can read why it was refused:
an origin on the list may do whatever its bearer token may. There are no cookies, so credentials are never allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import MutableMultiMapping

from k2k.ops.limits import Allowance
from k2k.web.problems import REQUEST_ID
from k2k.web.routes import ALLOWANCES

SECURITY = {
    # In place of aiohttp's, which names versions.
    "Server": "Key2Key",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    # Browsers heed it over https only.
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}
# An answer is never a page, whatever a browser may take it for. Pages of ours set their own policy.
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match"
ANSWER_HEADERS = (
    "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID, X-Total-Count, "
    "X-Total-Count-Relation"
)
PREFLIGHT_SECONDS = "7200"

LEAVING: web.AppKey[asyncio.Event] = web.AppKey("leaving", asyncio.Event)
"""Set when the process is about to stop: answers close their connection, so that nobody sends into a closing one."""

RELIEVED: web.AppKey[asyncio.Event] = web.AppKey("relieved", asyncio.Event)
"""Set before LEAVING where a successor serves at the same address: balancers need not turn away from it."""


def secure(headers: MutableMultiMapping[str], request_id: str | None) -> None:
    """Complete the headers that no answer goes without."""
    headers.update(SECURITY)
    headers.setdefault("Content-Security-Policy", NO_PAGE)
    headers.setdefault("Cache-Control", "no-store")
    if request_id is not None:
        headers["X-Request-ID"] = request_id


def finish(origins: Iterable[str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler that completes each answer's headers; `origins` are those whose pages may read it."""
    allowed = frozenset(origins)

    async def complete(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        secure(headers, request.get(REQUEST_ID))
        for name, value in allowance_headers(request.get(ALLOWANCES, ())):
            headers.setdefault(name, value)
        if allowed:
            headers.add("Vary", "Origin")
        if request.headers.get("Origin") in allowed:
            headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            headers["Access-Control-Expose-Headers"] = ANSWER_HEADERS

    return complete


async def say_goodbye(request: web.Request, response: web.StreamResponse) -> None:
    """The signal handler that ends connections with their answers once the process is leaving."""
    if request.app[LEAVING].is_set():
        response.headers["Connection"] = "close"
        response.force_close()


def allowance_headers(allowances: Sequence[Allowance]) -> list[tuple[str, str]]:
    """RateLimit-Policy and RateLimit (IETF draft "RateLimit header fields for HTTP", 10th version)."""
    if not allowances:
        return []
    rates = [(allowance.policy, allowance.standing.rate, allowance.standing) for allowance in allowances]
    return [
        ("RateLimit-Policy", ", ".join(f'"{policy}";q={rate.count};w={rate.seconds:.0f}' for policy, rate, _ in rates)),
        ("RateLimit", ", ".join(f'"{policy}";r={at.remaining};t={at.reset}' for policy, _, at in rates)),
    ]


def preflights(origins: Iterable[str]) -> Middleware:
    """Answers what browsers ask before a page of another origin may send its request."""
    allowed = frozenset(origins)

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        asking = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asking or request.headers.get("Origin") not in allowed:
            return await handler(request)
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": METHODS,
                "Access-Control-Allow-Headers": REQUEST_HEADERS,
                "Access-Control-Max-Age": PREFLIGHT_SECONDS,
            },
        )

    return preflight
