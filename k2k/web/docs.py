"""/docs: the API to read and to try, drawn by Swagger UI from the OpenAPI document, nothing from elsewhere."""

from __future__ import annotations

from string import Template

import structlog
from aiohttp import web

from k2k.core.errors import Unavailable
from k2k.web.assets import OURS, Assets
from k2k.web.routes import PREFIX

log = structlog.get_logger()

DOCUMENT = f"{PREFIX}/openapi.json"

# Swagger UI sets no style in the markup, but draws its small icons from data: addresses.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}


class AssetsMissing(Unavailable):
    """The page is made of npm packages that this machine does not have; the API itself is unaffected."""

    code = "assets-missing"
    number = 1026
    title = "The npm packages of this page are not installed"


def bind(app: web.Application, assets: Assets) -> None:
    """Add /docs; without the packages it answers 503 and says what brings them."""
    page = _page(assets)
    if page is None:
        log.warning("/docs answers 503: the npm packages are not installed", remedy="make assets, then a restart")

    async def docs(_request: web.Request) -> web.Response:
        if page is None:
            raise AssetsMissing("Run `make assets` beside the server (it needs a network once), then start it again")
        return web.Response(text=page, content_type="text/html", charset="utf-8", headers=HEADERS)

    for path in ("/docs", "/docs/"):
        app.router.add_get(path, docs)


def _page(assets: Assets) -> str | None:
    """The page with the addresses of its parts, or None where a part is missing."""
    paths = {
        "docs_script": assets.path("key2key", "docs.js"),
        "docs_style": assets.path("key2key", "docs.css"),
        "swagger_script": assets.path("swagger-ui-dist", "swagger-ui-bundle.js"),
        "swagger_style": assets.path("swagger-ui-dist", "swagger-ui.css"),
        "icon": assets.path("swagger-ui-dist", "favicon-32x32.png"),
    }
    if None in paths.values():
        return None
    return Template((OURS / "docs.html").read_text(encoding="utf-8")).substitute(paths, document=DOCUMENT)
