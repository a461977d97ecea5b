"""The listener for Prometheus: an application of its own, so that nothing of it can be reached where the public is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from k2k.infra.metrics import CONTENT_TYPE, Metrics
from k2k.web.headers import finish


def exposing(metrics: Metrics) -> web.Application:
    """Answers GET /metrics in Prometheus's text format, and 404 to all else; meanwhile the event loop is watched."""

    async def expose(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def watching(_app: web.Application) -> AsyncIterator[None]:
        loop_watch = asyncio.get_running_loop().create_task(metrics.watch_loop())
        yield
        loop_watch.cancel()
        await asyncio.gather(loop_watch, return_exceptions=True)
        await metrics.close()

    app = web.Application()
    app.cleanup_ctx.append(watching)
    app.router.add_get("/metrics", expose)
    app.on_response_prepare.append(finish(()))
    return app
