"""The load generator against a server that does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.harness.compare import get
from bench.harness.load import Load, Outcome, Plan

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PLAN = Plan(port=0, requests=[get("/")], connections=4, seconds=0, patience=2.0)


class Behaviour:
    """What the server does, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[int], Awaitable[web.StreamResponse]] = self.at_once

    async def at_once(self, number: int) -> web.StreamResponse:
        return web.Response(text="x" * 300_000 if number % 2 else "")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        return await self.answer(len(self.asked))


@pytest.fixture
async def server() -> AsyncIterator[tuple[Behaviour, int]]:
    behaviour = Behaviour()
    app = web.Application()
    app.router.add_get("/{tail:.*}", behaviour.handle)
    async with TestServer(app, host="127.0.0.1") as running:
        assert running.port is not None
        yield behaviour, running.port


async def run(plan: Plan, port: int, seconds: float) -> Outcome:
    load = await Load.connect(replace(plan, port=port))
    try:
        return await load.run(seconds)
    finally:
        load.close()
        await asyncio.sleep(0)


async def test_every_request_is_counted_once(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server
    outcome = await run(replace(PLAN, requests=[get("/a"), get("/b")]), port, 0.3)
    assert not outcome.errors
    assert len(outcome.times) == len(behaviour.asked) > 8
    assert behaviour.asked[:4] == ["/a", "/b", "/a", "/b"]


async def test_what_a_window_began_is_awaited_with_its_real_time(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server

    async def slow(_number: int) -> web.StreamResponse:
        await asyncio.sleep(0.4)
        return web.Response()

    behaviour.answer = slow
    outcome = await run(PLAN, port, 0.1)
    assert len(outcome.times) == len(behaviour.asked) == PLAN.connections
    assert min(outcome.times) >= 0.4
    assert outcome.seconds >= 0.4  # or four requests in a tenth of a second would be forty a second


async def test_a_stall_is_charged_to_everybody_who_was_due(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server

    async def stalls_once(number: int) -> web.StreamResponse:
        await asyncio.sleep(0.5 if number == 1 else 0)
        return web.Response()

    behaviour.answer = stalls_once
    outcome = await run(replace(PLAN, connections=1, rate=100.0), port, 0.5)
    assert len(outcome.times) == 50
    # Due every 10 ms while the only connection waited half a second: 0.50, 0.49, 0.48 … and not one slow request.
    assert sum(time > 0.1 for time in outcome.times) >= 35


async def test_a_steady_rate_is_kept_and_evenly_spread(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server
    outcome = await run(replace(PLAN, rate=50.0), port, 0.6)
    assert len(behaviour.asked) == len(outcome.times) == len(outcome.late) == 30
    assert outcome.seconds >= 29 / 50


async def test_other_answers_than_expected_are_errors(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server

    async def every_other(number: int) -> web.StreamResponse:
        return web.Response(status=503 if number % 2 else 200)

    behaviour.answer = every_other
    outcome = await run(PLAN, port, 0.1)
    assert outcome.errors["status 503"] + len(outcome.times) == len(behaviour.asked)
    assert outcome.errors["status 503"] > 0


async def test_a_silent_server_ends_the_window_after_its_patience(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server

    async def silent(_number: int) -> web.StreamResponse:
        await asyncio.sleep(1.0)
        return web.Response()

    behaviour.answer = silent
    outcome = await run(replace(PLAN, patience=0.1), port, 0.1)
    assert outcome.errors == {"no answer": 4}
    assert not outcome.times


async def test_a_lost_connection_is_an_error_and_not_a_wait(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server
    transports: list[asyncio.Transport] = []

    async def cut(_number: int) -> web.StreamResponse:
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0.05)
        return web.Response()

    behaviour.answer = cut
    load = await Load.connect(replace(PLAN, port=port))
    transports += [connection._transport for connection in load._connections]
    outcome = await load.run(5.0)
    assert outcome.errors == {"connection lost": 4}
    assert outcome.seconds < 2.0


async def test_an_answer_without_a_length_is_refused(server: tuple[Behaviour, int]) -> None:
    behaviour, port = server

    async def chunked(_number: int) -> web.StreamResponse:
        response = web.Response(text="x")
        response.enable_chunked_encoding()
        return response

    behaviour.answer = chunked
    outcome = await run(PLAN, port, 0.1)
    assert outcome.errors == {"an answer without Content-Length": 4}


async def test_nobody_listening_is_told_at_once(unused_tcp_port: int) -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await Load.connect(replace(PLAN, port=unused_tcp_port))
