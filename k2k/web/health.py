"""Is it alive, is it ready, and what is missing if not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web
from pydantic_core import to_json

log = structlog.get_logger()

Check = Callable[[], Awaitable[None]]
"""Returns when its part is well; raises anything when it is not."""

CHECK_SECONDS = 1.5


def bind(
    app: web.Application, checks: Mapping[str, Check], *, needed: frozenset[str], prefixes: tuple[str, ...]
) -> None:
    """Add /health and /health/live (200 while the process serves), and /health/ready.

    `ready` is 503 while a check in `needed` fails. The others only make the service slower: taking every
    process out of the balancer for them would turn a slow service into none.
    """

    async def states() -> dict[str, str]:
        found = await asyncio.gather(*(_state(name, check) for name, check in checks.items()))
        return dict(zip(checks, found, strict=True))

    async def health(_request: web.Request) -> web.Response:
        return _answer(await states(), 200)

    async def live(_request: web.Request) -> web.Response:
        return _answer({}, 200)

    async def ready(_request: web.Request) -> web.Response:
        found = await states()
        return _answer(found, 200 if all(found[name] == "ok" for name in needed) else 503)

    for prefix in prefixes:
        for path, handler in (("/health", health), ("/health/live", live), ("/health/ready", ready)):
            app.router.add_get(prefix + path, handler)
            app.router.add_get(prefix + path + "/", handler)


async def _state(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as error:  # the state is the answer; the reason is for the log
        log.warning("health check failed", check=name, error=repr(error))
        return "away"
    return "ok"


def _answer(checks: dict[str, str], status: int) -> web.Response:
    well = all(state == "ok" for state in checks.values())
    body = {"status": "ok" if well else "degraded", "checks": checks}
    return web.Response(body=to_json(body), status=status, content_type="application/json")
