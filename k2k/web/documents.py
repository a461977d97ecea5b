"""The documents that clients' developers read: made once at the start, the same bytes for everyone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from k2k.ops.registry import Operation
from k2k.web import asyncapi, error_pages, live_tables, openapi
from k2k.web.live import Live
from k2k.web.routes import JSON, PREFIX

HTML = "text/html; charset=utf-8"


def bind(app: web.Application, operations: Sequence[Operation], live: Live) -> None:
    """Add openapi.json and asyncapi.json below /api/v1, and /docs/errors, where the `type` of every problem leads."""
    _serve(app, f"{PREFIX}/openapi.json", to_json(openapi.document(operations)), JSON)
    _serve(app, f"{PREFIX}/asyncapi.json", to_json(asyncapi.document(live)), JSON)
    page = error_pages.page(operations).encode()
    _serve(app, "/docs/errors", page, HTML, {"Content-Security-Policy": error_pages.CONTENT_SECURITY})


def files(operations: Sequence[Operation], live: Live, live_page: str) -> dict[str, str]:
    """The texts that are kept in docs/, by file name. `live_page` is live.md as it stands, to renew its tables."""
    return {
        "openapi.json": _pretty(openapi.document(operations)),
        "asyncapi.json": _pretty(asyncapi.document(live)),
        "errors.md": error_pages.markdown(operations),
        "live.md": live_tables.renewed(live_page, live),
    }


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _serve(
    app: web.Application, path: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> None:
    said = {"Cache-Control": "public, no-cache", "Content-Type": content_type, **(headers or {})}

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers=said)

    for address in (path, path + "/"):
        app.router.add_get(address, handle)
