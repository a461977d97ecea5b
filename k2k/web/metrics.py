"""The listener for Prometheus: an application of its own, so that nothing of it can be reached where the public is."""

from __future__ import annotations

from aiohttp import web

from k2k.infra.metrics import CONTENT_TYPE, Metrics
from k2k.web.headers import finish


def exposing(metrics: Metrics) -> web.Application:
    """Answers GET /metrics in Prometheus's text format."""

    async def expose(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/metrics", expose)
    app.on_response_prepare.append(finish(()))
    return app
