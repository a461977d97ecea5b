"""Errors as HTTP answers: problem documents (RFC 9457) for ours, for aiohttp's and for what nobody foresaw."""

from __future__ import annotations

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic_core import to_json

from k2k.core.errors import DomainError, Internal, Invalid, NotFound
from k2k.ops.problem import document, status_of

log = structlog.get_logger()

REFUSED: web.RequestKey[str] = web.RequestKey("refused", str)
"""The code of the error that ended the request."""
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)


class BadRequest(Invalid):
    """HTTP itself was broken: the body ended early, or is not in the encoding it claims."""

    code = "bad-request"
    number = 1020
    title = "The request cannot be understood"


class NoSuchRoute(NotFound):
    """Not the thing is missing but the address."""

    code = "no-such-route"
    number = 1021
    title = "There is no such address"


class MethodNotAllowed(Invalid):
    """The answer's Allow header lists the methods there are."""

    code = "method-not-allowed"
    number = 1022
    title = "This address does not know that method"


class TooLarge(Invalid):
    """The body is over the limit. Files do not go through here."""

    code = "too-large"
    number = 1023
    title = "The body is too large"


class UnsupportedMediaType(Invalid):
    """Bodies are JSON; only the sign-in also takes a form."""

    code = "unsupported-media-type"
    number = 1024
    title = "The body must be application/json"


class RequestTimeout(Invalid):
    """The body did not arrive within the deadline in the settings; the connection is closed."""

    code = "request-timeout"
    number = 1025
    title = "The body took too long to arrive"


REFUSALS: dict[int, type[DomainError]] = {
    400: BadRequest,
    404: NoSuchRoute,
    405: MethodNotAllowed,
    408: RequestTimeout,
    413: TooLarge,
    415: UnsupportedMediaType,
}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every error into its answer."""
    try:
        return await handler(request)
    except DomainError as error:
        return _refusal(request, error, status_of(error))
    except web.HTTPException as refusal:
        response = _refusal(request, REFUSALS.get(refusal.status, BadRequest)(), refusal.status)
        for name in ("Allow", "Upgrade"):
            if name in refusal.headers:
                response.headers[name] = refusal.headers[name]
        if refusal.status == 408:
            response.force_close()
        return response
    except web.RequestPayloadError:  # the body is not in the encoding it claims, or ended early
        return _refusal(request, BadRequest(), 400)
    except ConnectionResetError:
        log.debug("client left", path=request.rel_url.raw_path)
        raise
    except Exception:
        log.exception("unforeseen", method=request.method, path=request.rel_url.raw_path)
        return _refusal(request, Internal(), 500)


def _refusal(request: web.Request, error: DomainError, status: int) -> web.Response:
    request[REFUSED] = error.code
    return answer(error, status, request[REQUEST_ID])


def answer(error: DomainError, status: int, request_id: str) -> web.Response:
    """The error as application/problem+json."""
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503 or error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after or 1)
    return web.Response(
        body=to_json(document(error, status=status, request_id=request_id)),
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )
