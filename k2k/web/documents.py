"""The documents that clients' developers read: made once at the start, the same bytes for everyone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from k2k.ops.registry import Operation
from k2k.web import error_pages, openapi
from k2k.web.routes import JSON, PREFIX

HTML = "text/html; charset=utf-8"


def bind(app: web.Application, operations: Sequence[Operation]) -> None:
    """Add /api/v1/openapi.json, and /docs/errors, where the `type` of every problem document leads."""
    _serve(app, f"{PREFIX}/openapi.json", to_json(openapi.document(operations)), JSON)
    page = error_pages.page(operations).encode()
    _serve(app, "/docs/errors", page, HTML, {"Content-Security-Policy": error_pages.CONTENT_SECURITY})


def files(operations: Sequence[Operation]) -> dict[str, str]:
    """The texts that are kept in docs/, by file name."""
    return {"openapi.json": _pretty(openapi.document(operations)), "errors.md": error_pages.markdown(operations)}


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _serve(
    app: web.Application, path: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> None:
    """Constant bytes; who has them already is told so (304)."""
    tag = sha256(body).hexdigest()[:32]
    said = {"Cache-Control": "no-cache", **(headers or {})}

    async def handle(request: web.Request) -> web.Response:
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            response = web.Response(status=304, headers=said)
        else:
            response = web.Response(body=body, headers=said | {"Content-Type": content_type})
        response.etag = tag
        return response

    for address in (path, path + "/"):
        app.router.add_get(address, handle)
