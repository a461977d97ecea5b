"""How the process says how it is, as the document declares it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from k2k.web import health
from tests.contract import Answer, check_answer
from tests.support import Api


async def well() -> None:
    pass


async def broken() -> None:
    raise OSError("away")


@asynccontextmanager
async def serving(needed: health.Check, other: health.Check) -> AsyncIterator[str]:
    """The address of a server whose two parts are in these states."""
    app = web.Application()
    health.bind(app, {"needed": needed, "other": other}, needed=frozenset({"needed"}), prefixes=("",))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def status(base: str, path: str) -> int:
    """The status of an answer that is as declared."""
    async with aiohttp.ClientSession() as session, session.get(base + path) as answer:
        check_answer(Answer("GET", path, answer.status, answer.content_type, answer.headers, await answer.read()))
        return answer.status


@pytest.mark.parametrize(
    ("needed", "other", "ready"), [(well, well, 200), (well, broken, 200), (broken, well, 503), (broken, broken, 503)]
)
async def test_only_a_part_that_is_needed_takes_the_process_out(
    needed: health.Check, other: health.Check, ready: int
) -> None:
    async with serving(needed, other) as base:
        assert await status(base, "/health/live") == 200
        assert await status(base, "/health") == 200
        assert await status(base, "/health/ready") == ready


@pytest.mark.parametrize("probe", health.PROBES, ids=lambda probe: probe.name)
async def test_a_real_process_answers_as_declared_at_both_addresses(api: Api, probe: health.Probe) -> None:
    here = await api.get(probe.path)
    outside = await api.get(probe.path, prefix="")
    assert here.status == outside.status == 200
    assert here.json == outside.json
    assert here.json["status"] == "ok"
