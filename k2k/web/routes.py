"""Operations as REST routes: parse at the border, authenticate, call, render."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast, get_origin

from aiohttp import web
from multidict import MultiDictProxy, MultiMapping
from pydantic import BaseModel

from k2k.core.errors import Invalid, Problem, Unauthenticated
from k2k.ops.authenticator import Authenticator, Principal, permit
from k2k.ops.call import Call, Services
from k2k.ops.limits import Allowance, Guard
from k2k.ops.perform import key_of, perform
from k2k.ops.permissions import Permission
from k2k.ops.registry import Operation
from k2k.ops.validation import parse_json, unknown, validate
from k2k.web.files import incoming, streamed
from k2k.web.problems import REQUEST_ID

PREFIX = "/api/v1"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


ALLOWANCES: web.RequestKey[Sequence[Allowance]] = web.RequestKey("allowances", Sequence)
USER: web.RequestKey[str] = web.RequestKey("user", str)
"""The id of whoever asks, where that is known."""
KEPT_BY_ANYONE = {"Cache-Control": "public, no-cache", "Vary": "Authorization"}
KEPT_BY_ONE = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}


def bind(
    app: web.Application,
    operations: Iterable[Operation],
    services: Services,
    authenticator: Authenticator,
    guard: Guard,
    *,
    body_seconds: float,
) -> None:
    """Add a route for each operation, with and without a trailing slash. Fixed words go before {placeholders}.

    Where GET is answered, HEAD is (RFC 9110 section 9.1): aiohttp leaves out the body. A body has `body_seconds` to
    arrive.
    """
    for operation in sorted(operations, key=lambda operation: _literalness(operation.path)):
        door = _Door(operation, services, authenticator, guard, body_seconds)
        methods = ("GET", "HEAD") if operation.method == "GET" else (operation.method,)
        for path in (PREFIX + operation.path, PREFIX + operation.path + "/"):
            for method in methods:
                app.router.add_route(method, path, door.handle)


def may_be_kept(operation: Operation) -> bool:
    """Whether a client may keep the answer, if it asks each time whether it is still right (ETag)."""
    return operation.method == "GET" and operation.public


def _literalness(path: str) -> list[bool]:
    return ["{" in part for part in path.split("/")]


class _Door:
    """One operation behind HTTP."""

    def __init__(
        self,
        operation: Operation,
        services: Services,
        authenticator: Authenticator,
        guard: Guard,
        body_seconds: float,
    ) -> None:
        self._operation = operation
        self._services = services
        self._authenticator = authenticator
        self._guard = guard
        self._body_seconds = body_seconds

    async def handle(self, request: web.Request) -> web.StreamResponse:
        operation = self._operation
        principal = await self._admit(request)
        call = Call(
            services=self._services,
            principal=principal,
            request_id=request[REQUEST_ID],
            now=self._services.db.clock.now(),
            # Header bytes that are no UTF-8 arrive as lone surrogates.
            device=request.headers.get("User-Agent", "")[:200].encode("utf-8", "replace").decode(),
            address=request.remote or "",
        )
        parts, key = await self._parts(request), key_of(operation, _key(request), "/Idempotency-Key", "header")
        answered = await perform(operation, call, parts, key)
        if answered.stream is not None:
            return await streamed(request, answered.stream, answered.headers)
        response = web.Response(body=answered.body, status=answered.status, content_type=JSON, headers=answered.headers)
        if may_be_kept(operation):
            for name, value in (KEPT_BY_ANYONE if principal is None else KEPT_BY_ONE).items():
                response.headers.setdefault(name, value)
        return response

    async def _admit(self, request: web.Request) -> Principal | None:
        """Who asks. Raises Limited, Unauthenticated, TokenExpired or Denied; what is refused was counted too."""
        operation = self._operation
        principal, refusal = None, None
        try:
            principal = await identify(request, operation.may, self._authenticator, self._services)
        except Unauthenticated as error:
            refusal = error
        if principal is not None:
            request[USER] = str(principal.id)
        request[ALLOWANCES] = allowances = await self._guard.count(operation, principal, request.remote or "")
        self._guard.enforce(allowances)
        if refusal is not None:
            raise refusal
        permit(principal, operation.may)
        return principal

    async def _parts(self, request: web.Request) -> dict[str, Any]:
        """Path, query, head and body as models, whose faults are told together, and the files on their way."""
        models = self._operation.models
        parts: dict[str, Any] = {}
        faults: list[Problem] = []
        raw: dict[str, Any] = {"path": {**request.match_info, **self._operation.fixed}}
        raw["query"] = _grouped(request.query, models.get("query"))
        if "head" in models:
            raw["head"] = _head(request, self._operation)
        if "body" in models:
            raw["body"] = await self._body(request)
        if "query" not in models and raw["query"]:
            faults += [unknown(name, "query") for name in raw["query"]]
        for part, model in models.items():
            value = raw[part]
            if isinstance(value, BaseModel):
                parts[part] = value
                continue
            try:
                parts[part] = validate(model, value, "header" if part == "head" else part)  # type: ignore[arg-type]
            except Invalid as error:
                faults += error.problems if part != "head" else map(_of_header, error.problems)
        if faults:
            raise Invalid(problems=faults)
        if self._operation.files is not None:
            parts["files"] = incoming(request, self._operation.files)
        return parts

    async def _body(self, request: web.Request) -> Any:
        """The body, parsed. Raises HTTPRequestTimeout if it does not arrive in time."""
        try:
            async with asyncio.timeout(self._body_seconds):
                return await _body(request, self._operation)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None


async def identify(
    request: web.Request, may: Permission, authenticator: Authenticator, services: Services
) -> Principal | None:
    """Whoever the bearer token speaks for; None if there is no token. Raises Unauthenticated or TokenExpired."""
    if may is Permission.sign_in or "Authorization" not in request.headers:
        return None
    scheme, _, token = request.headers["Authorization"].partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("The Authorization header must be: Bearer <access token>")
    return await authenticator.authenticate(token.strip(), services.db.clock.now())


def _key(request: web.Request) -> str | None:
    """What was sent as the key. Several lines are one list (RFC 9110 section 5.3), which its space tells from a key."""
    lines = request.headers.getall("Idempotency-Key", ())
    return ", ".join(lines) if lines else None


def _head(request: web.Request, operation: Operation) -> dict[str, str]:
    """What the headers say of the fields of the head model."""
    headers = {name: ", ".join(request.headers.getall(header_of(name), ())) for name in operation.wire_names("head")}
    return {name: value for name, value in headers.items() if value}


def _of_header(fault: Problem) -> Problem:
    return replace(fault, pointer="/" + header_of(fault.pointer.removeprefix("/")))


def header_of(name: str) -> str:
    """The header that says what this field of a head model is."""
    return name.replace("_", "-").title()


def _grouped(query: MultiMapping[str], model: type[BaseModel] | None) -> dict[str, Any]:
    """Query parameters by name; a repeated one is a list, and so is one whose field is a list."""
    values: dict[str, list[str]] = {}
    for name, value in query.items():
        values.setdefault(name, []).append(value)
    fields = model.model_fields.items() if model else ()
    lists = {info.alias or name for name, info in fields if get_origin(info.annotation) in (list, tuple)}
    return {name: found if len(found) > 1 or name in lists else found[0] for name, found in values.items()}


async def _body(request: web.Request, operation: Operation) -> Any:
    """The body as parsed JSON, or as the body model where it came as a form."""
    if operation.form is not None and request.content_type == FORM:
        fields = _grouped(await _form(request), operation.form)
        return validate(operation.form, fields, "body", text=True).body()  # type: ignore[attr-defined]
    if request.content_type != JSON and not re.fullmatch(r"application/[\w.-]+\+json", request.content_type):
        raise web.HTTPUnsupportedMediaType
    return parse_json(await request.read())


async def _form(request: web.Request) -> MultiDictProxy[str]:
    try:
        form = await request.post()
    except (ValueError, LookupError):  # not the charset it says, or none that there is
        raise web.HTTPBadRequest from None
    return cast("MultiDictProxy[str]", form)
