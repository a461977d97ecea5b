"""What happens around every request: its id, its line in the log, and answers that are no larger than they must be."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from k2k.infra.log import name_request
from k2k.infra.metrics import Metrics
from k2k.web import health
from k2k.web.problems import REFUSED, REQUEST_ID
from k2k.web.routes import PREFIX, USER

log = structlog.get_logger("k2k.access")

# Below it, what gzip saves is less than a packet.
WORTH_COMPRESSING = 1400
# Above it, compressing holds up everybody for more than a quarter of a millisecond, and goes to a thread.
COMPRESSED_AT_ONCE = 16 * 1024
# 1 of 9 takes half the time of the usual 6, for 5 to 25 % more bytes.
LEVEL = 1
GZIP = 31
"""zlib's name for gzip's format with the largest window."""
NO_WEIGHT = ("0", "0.", "0.0", "0.00", "0.000")
PROBES = frozenset(probe.path for probe in health.PROBES)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def access(metrics: Metrics) -> Middleware:
    """Outermost: gives the request its id and notes how it went.

    The log line has no query string and no header: that is where tokens would be. Its path is as it came, escaped, so
    that it can neither begin a line nor command a terminal. A probe that finds all well is noise, and a line at debug.
    """

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request.setdefault(REQUEST_ID, uuid4().hex)
        started = time.perf_counter()
        status = 499  # the client left before it was answered
        name_request(request_id)
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            if status != 101:  # a socket: it is open for hours, and its end is noted by who serves it
                tell(request, status, time.perf_counter() - started)

    def tell(request: web.Request, status: int, seconds: float) -> None:
        route = _route(request)
        metrics.requests.labels(_method(request), route, status).observe(seconds)
        if REFUSED in request:
            metrics.refused.labels(request[REFUSED]).inc()
        note = log.debug if status == 200 and route.removeprefix(PREFIX) in PROBES else log.info
        note(
            "request",
            method=request.method,
            path=request.rel_url.raw_path[:200],
            status=status,
            milliseconds=round(seconds * 1000, 1),
            address=request.remote,
            **({"user": request[USER]} if USER in request else {}),
        )

    return watch


@web.middleware
async def economical(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers that may be kept get an ETag, and none at all if the client has it already; long ones are compressed."""
    response = await handler(request)
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    long = len(response.body) > WORTH_COMPRESSING and "Content-Encoding" not in response.headers
    if long:
        response.headers.add("Vary", "Accept-Encoding")
    if response.status == 200 and "no-store" not in response.headers.get("Cache-Control", "no-store"):
        # Weak, because the same answer may go out compressed or not.
        response.headers.setdefault("ETag", f'W/"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"')
        if request.method in ("GET", "HEAD") and _has(request, response.headers["ETag"]):
            return _unchanged(response)
    if long and _takes_gzip(request):
        response.body = await _compressed(response.body)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _method(request: web.Request) -> str:
    """The method if it is one we know: the parser lets some forty through."""
    return request.method if request.method in METHODS else "other"


def _route(request: web.Request) -> str:
    """The pattern, never the path: a series for each id would be without end."""
    resource = request.match_info.route.resource
    return resource.canonical.rstrip("/") or "/" if resource is not None else "none"


def _has(request: web.Request, etag: str) -> bool:
    """Whether If-None-Match names the ETag, compared weakly (RFC 9110 section 13.1.2)."""
    opaque = etag.removeprefix("W/").strip('"')
    return any(tag.value in (opaque, "*") for tag in request.if_none_match or ())


def _unchanged(response: web.Response) -> web.Response:
    body = {"content-type", "content-length"}
    kept = [(name, value) for name, value in response.headers.items() if name.lower() not in body]
    return web.Response(status=304, headers=CIMultiDict(kept))


async def _compressed(body: bytes) -> bytes:
    if len(body) <= COMPRESSED_AT_ONCE:
        return zlib.compress(body, LEVEL, GZIP)
    return await asyncio.to_thread(zlib.compress, body, LEVEL, GZIP)


def _takes_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding gives gzip a weight, by its name or else by `*` (RFC 9110 section 12.5.3)."""
    weights: dict[str, str] = {}
    for coding in ",".join(request.headers.getall("Accept-Encoding", ())).lower().replace(" ", "").split(","):
        name, _, weight = coding.partition(";q=")
        weights[name] = weight
    return weights.get("gzip", weights.get("*", "0")) not in NO_WEIGHT
