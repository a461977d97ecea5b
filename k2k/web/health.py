"""Is it alive, is it ready, and what is missing if not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog
from aiohttp import web
from prometheus_client import Gauge

from k2k.ops.validation import Answer

log = structlog.get_logger()

Check = Callable[[], Awaitable[None]]
"""Returns when its part is well; raises anything when it is not."""
State = Literal["ok", "away"]

CHECK_SECONDS = 1.5
TAG = "health"


class Health(Answer):
    """How the process finds itself, and each part that was looked at."""

    status: Literal["ok", "degraded"]
    checks: dict[str, State]


@dataclass(frozen=True, slots=True)
class Probe:
    """An address that tells the health, for documents and tests. It answers Health with any of `statuses`."""

    name: str
    path: str
    description: str
    statuses: tuple[int, ...] = (200,)


HEALTH = Probe("get_health", "/health", "How each part is. The answer is 200 as long as the process can give one.")
LIVE = Probe("get_liveness", "/health/live", "Whether the process serves. No other part is looked at.")
READY = Probe(
    "get_readiness",
    "/health/ready",
    "Whether requests may be sent here. 503 while a part is away that nothing goes without.",
    (200, 503),
)
PROBES = (HEALTH, LIVE, READY)


def bind(
    app: web.Application, checks: Mapping[str, Check], *, needed: frozenset[str], prefixes: tuple[str, ...]
) -> None:
    """Add /health and /health/live (200 while the process serves), and /health/ready.

    `ready` is 503 while a check in `needed` fails. The others only make the service slower: taking every
    process out of the balancer for them would turn a slow service into none.
    """

    async def health(_request: web.Request) -> web.Response:
        return _answer(await _states(checks), 200)

    async def live(_request: web.Request) -> web.Response:
        return _answer({}, 200)

    async def ready(_request: web.Request) -> web.Response:
        found = await _states(checks)
        return _answer(found, 200 if all(found[name] == "ok" for name in needed) else 503)

    for prefix in prefixes:
        for probe, handler in ((HEALTH, health), (LIVE, live), (READY, ready)):
            app.router.add_get(prefix + probe.path, handler)
            app.router.add_get(prefix + probe.path + "/", handler)


async def measure(checks: Mapping[str, Check], gauge: Gauge) -> None:
    """Set the gauge, labelled by check: 1 where it is well, 0 where it is not or has not answered yet."""
    for name in checks:
        gauge.labels(name).set(0)
    for name, state in (await _states(checks)).items():
        gauge.labels(name).set(state == "ok")


async def _states(checks: Mapping[str, Check]) -> dict[str, State]:
    found = await asyncio.gather(*(_state(name, check) for name, check in checks.items()))
    return dict(zip(checks, found, strict=True))


async def _state(name: str, check: Check) -> State:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as error:  # the state is the answer; the reason is for the log
        log.warning("health check failed", check=name, error=repr(error))
        return "away"
    return "ok"


def _answer(checks: dict[str, State], status: int) -> web.Response:
    well = all(state == "ok" for state in checks.values())
    body = Health(status="ok" if well else "degraded", checks=checks).model_dump_json()
    return web.Response(body=body.encode(), status=status, content_type="application/json")
