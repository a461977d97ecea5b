"""The documents that clients' developers read: made once at the start, the same bytes for everyone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from k2k.ops.registry import Operation
from k2k.web import openapi
from k2k.web.routes import JSON, PREFIX


def bind(app: web.Application, operations: Sequence[Operation]) -> None:
    """Add GET /api/v1/openapi.json."""
    contract = to_json(openapi.document(operations))
    _serve(app, f"{PREFIX}/openapi.json", contract, JSON)


def files(operations: Sequence[Operation]) -> dict[str, str]:
    """The texts of what is kept in docs/, by file name."""
    return {"openapi.json": _pretty(openapi.document(operations))}


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _serve(app: web.Application, path: str, body: bytes, content_type: str) -> None:
    """Constant bytes; who has them already is told so (304)."""
    tag = sha256(body).hexdigest()[:32]

    async def handle(request: web.Request) -> web.Response:
        known = request.if_none_match or ()
        fresh = any(etag.value in (tag, "*") for etag in known)
        response = web.Response(status=304) if fresh else web.Response(body=body, content_type=content_type)
        response.etag = tag
        response.headers["Cache-Control"] = "no-cache"
        return response

    app.router.add_get(path, handle)
