"""What happens around every request: its id, its line in the log, and answers that are no larger than they must be."""

from __future__ import annotations

import hashlib
import time
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from k2k.infra.metrics import Metrics
from k2k.web.problems import REFUSED, REQUEST_ID

log = structlog.get_logger("k2k.access")

# Below it, what gzip saves is less than a packet.
WORTH_COMPRESSING = 1400
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def access(metrics: Metrics) -> Middleware:
    """Outermost: gives the request its id and notes how it went.

    The log line has no query string and no header: that is where tokens would be.
    """

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request.setdefault(REQUEST_ID, uuid4().hex)
        started = time.perf_counter()
        status = 499  # the client left before it was answered
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = await handler(request)
                status = response.status
                return response
            finally:
                seconds = time.perf_counter() - started
                if status != 101:  # a socket; it is open for hours
                    metrics.requests.labels(_method(request), _route(request), status).observe(seconds)
                if REFUSED in request:
                    metrics.refused.labels(request[REFUSED]).inc()
                log.info(
                    "request",
                    method=request.method,
                    path=request.path[:200],
                    status=status,
                    milliseconds=round(seconds * 1000, 1),
                    address=request.remote,
                )

    return note


@web.middleware
async def economical(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers that may be kept get an ETag, and none at all if the client has it already; long ones are compressed."""
    response = await handler(request)
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    if response.status == 200 and "no-store" not in response.headers.get("Cache-Control", "no-store"):
        # Weak, because the same answer may go out compressed or not.
        response.headers.setdefault("ETag", f'W/"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"')
        if request.method == "GET" and _has(request, response.headers["ETag"]):
            return _unchanged(response)
    if len(response.body) > WORTH_COMPRESSING and "Content-Encoding" not in response.headers:
        response.headers.add("Vary", "Accept-Encoding")
        if _takes_gzip(request):
            response.enable_compression(web.ContentCoding.gzip)
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


def _takes_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip and does not weigh it zero."""
    for coding in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
