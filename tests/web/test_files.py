"""Answers that are sent as they are made: whole, or visibly broken off; and whoever makes them learns of the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from k2k.core.errors import Unavailable
from k2k.infra.metrics import Metrics
from k2k.ops.registry import Streamed
from k2k.web.files import attachment, streamed
from k2k.web.middleware import access, economical
from k2k.web.problems import problems

PIECE = b"x" * 65536


class Maker:
    """Makes so many pieces, and breaks at one if asked to."""

    def __init__(self) -> None:
        self.pieces = 3
        self.breaks_at: int | None = None
        self.error: Exception = RuntimeError("broken")
        self.made = 0
        self.ended = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.pieces):
                if number == self.breaks_at:
                    raise self.error
                self.made += 1
                yield PIECE
                await asyncio.sleep(0)
        finally:
            self.ended.set()


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
async def address(maker: Maker) -> AsyncIterator[str]:
    """Where a server hands out what the maker makes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await streamed(request, Streamed("text/csv", 'ቤት "1".csv', maker.chunks()), {"X-More": "1"})

    app = web.Application(middlewares=[access(Metrics()), economical, problems])
    app.router.add_get("/file", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/file"
    await runner.cleanup()


async def test_a_file_arrives_whole_with_its_name(address: str, maker: Maker) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(2):  # on one connection
            async with session.get(address) as answer:
                assert (answer.status, answer.content_type, answer.headers["X-More"]) == (200, "text/csv", "1")
                assert answer.headers["Content-Disposition"] == attachment('ቤት "1".csv')
                assert answer.headers["Transfer-Encoding"] == "chunked"
                assert await answer.read() == PIECE * 3
    assert maker.ended.is_set()


async def test_head_has_no_body_and_the_connection_goes_on(address: str, maker: Maker) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.head(address) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with session.get(address) as answer:
            assert await answer.read() == PIECE * 3
    assert maker.ended.is_set()


async def test_a_file_without_anything_in_it_is_one(address: str, maker: Maker) -> None:
    maker.pieces = 0
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize(("error", "status"), [(Unavailable(), 503), (RuntimeError("broken"), 500)])
async def test_what_breaks_before_its_first_bytes_is_a_problem(
    address: str, maker: Maker, error: Exception, status: int
) -> None:
    maker.breaks_at, maker.error = 0, error
    with capture_logs():
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            assert (answer.status, answer.content_type) == (status, "application/problem+json")


@pytest.mark.parametrize("error", [Unavailable(), RuntimeError("broken")])
async def test_what_breaks_in_the_middle_is_not_taken_for_whole(address: str, maker: Maker, error: Exception) -> None:
    maker.pieces, maker.breaks_at, maker.error = 100, 50, error
    with capture_logs():
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientError):
                await asyncio.wait_for(answer.read(), 20)
    assert maker.ended.is_set()


async def test_nobody_makes_what_nobody_takes(address: str, maker: Maker) -> None:
    maker.pieces = 100_000
    session = aiohttp.ClientSession(read_bufsize=1024)
    answer = await session.get(address)
    await answer.content.readexactly(len(PIECE))
    before = -1
    while maker.made != before:  # until it waits for the reader
        before = maker.made
        await asyncio.sleep(0.2)
    assert maker.made < 1000
    assert not maker.ended.is_set()
    answer.close()  # the reader goes away
    await session.close()
    await asyncio.wait_for(maker.ended.wait(), 10)
    assert maker.made < 1000


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.csv", "a.csv"),
        ('a"b\\c;d%e.csv', "a_b_c_d_e.csv"),
        ("ቤት.csv", "__.csv"),
        ("a\r\nSet-Cookie: x", "a__Set-Cookie: x"),
    ],
)
def test_no_name_breaks_the_header_it_stands_in(name: str, plain: str) -> None:
    said = attachment(name)
    assert said.startswith(f"attachment; filename=\"{plain}\"; filename*=UTF-8''")
    assert "\r" not in said
    assert "\n" not in said
