"""The listener for Prometheus says what it is for and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from k2k.app import OPERATIONS
from k2k.infra.metrics import Metrics
from k2k.web.metrics import exposing
from k2k.web.server import Runner, listening_socket
from tests.raw_http import answers
from tests.samples import path_of
from tests.support import PREFIX, Node


@pytest.fixture
async def listener(node: Node) -> AsyncIterator[str]:
    runner = Runner(exposing(Metrics()), node.settings.server)
    await runner.setup()
    await web.SockSite(runner, listening_socket("127.0.0.1", 0)).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_metrics_are_answered(listener: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(listener + "/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        assert answer.headers["Server"] == "Key2Key"
        assert "k2k_request_seconds" in await answer.text()


async def test_nothing_else_is(listener: str) -> None:
    paths = {PREFIX + path_of(operation) for operation in OPERATIONS}
    async with aiohttp.ClientSession() as session:
        for path in {"/", "/health", "/docs", "/connection/websocket", "/metrics/x", "/debug", *paths}:
            async with session.get(listener + path) as answer:
                assert answer.status == 404
                assert answer.headers["Server"] == "Key2Key"
        async with session.post(listener + "/metrics") as answer:
            assert answer.status == 405


async def test_broken_http_is_refused_there_as_anywhere(listener: str) -> None:
    (refused,) = await answers(listener, b"GET /metrics?hush HTTP/9.9\r\n\r\n")
    assert (refused.status, refused.problem["code"]) == (400, "bad-request")
