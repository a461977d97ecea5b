"""Clients that take their time, or never come to an end: each loses its connection, and nobody else notices."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from k2k.core.settings import Settings
from k2k.web import server
from tests.raw_http import connection, one_answer, parsed
from tests.support import Node, eventually

HEAD = b"GET /api/v1/properties HTTP/1.1\r\nHost: k2k\r\n"
POST = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: k2k\r\nContent-Type: application/json\r\n"
PATIENCE = 1.0
UNREAD = "/unread"


@pytest.fixture
async def impatient(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A node with little patience that must have no connection left when the story ends."""
    for name in ("KEEPALIVE_SECONDS", "LINGERING_SECONDS"):
        monkeypatch.setattr(server, name, PATIENCE)
    monkeypatch.setattr(server, "UNACKNOWLEDGED_SECONDS", 2)
    changed = settings.model_copy(
        update={"server": settings.server.model_copy(update={"body_seconds": PATIENCE, "body_kib": 1})}
    )
    node = await Node.start(changed)
    tasks = serving()
    try:
        yield node
        await eventually(lambda: _left(node, tasks))
    finally:
        await node.stop()


async def _left(node: Node, tasks: int) -> bool:
    assert node.runner.server is not None
    return not node.runner.server.connections and serving() <= tasks


def serving() -> int:
    """Tasks that serve a connection, of whichever node."""
    return sum("RequestHandler" in repr(task.get_coro()) for task in asyncio.all_tasks())


@asynccontextmanager
async def quick(node: Node) -> AsyncIterator[None]:
    """Somebody else, who is answered again and again all the while: held up, they would be answered once."""
    answered = 0

    async def ask() -> None:
        nonlocal answered
        while True:
            assert (await node.api.get("/health/live", prefix="")).status == 200
            answered += 1
            await asyncio.sleep(0.02)

    asking = asyncio.create_task(ask())
    yield
    assert not asking.done(), asking.exception()
    asking.cancel()
    assert answered >= 3


async def drip(writer: asyncio.StreamWriter, sent: bytes) -> None:
    """A byte every tenth of a second until the other side has had enough."""
    with suppress(ConnectionError):
        for byte in sent:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)


async def said(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server hangs up, within a few times its patience."""
    heard = b""
    async with asyncio.timeout(10 * PATIENCE):
        with suppress(ConnectionResetError):  # who still sends is told so, and may have been answered before
            while part := await reader.read(65536):
                heard += part
    return heard


@pytest.mark.parametrize("before", [b"", b"GET /health/live HTTP/1.1\r\nHost: k2k\r\n\r\n"], ids=["new", "used"])
async def test_headers_that_drip_in_are_not_waited_for(impatient: Node, before: bytes) -> None:
    async with quick(impatient), connection(impatient.api.base) as (reader, writer):
        if before:
            writer.write(before)
            assert (await one_answer(reader)).status == 200
        dripping = asyncio.create_task(drip(writer, HEAD + b"A: " + b"b" * 1000))
        assert await said(reader) == b""
        await dripping


async def test_a_connection_that_says_nothing_ends(impatient: Node) -> None:
    async with quick(impatient), connection(impatient.api.base) as (reader, _):
        assert await said(reader) == b""


@pytest.mark.parametrize(
    "body", [b"Content-Length: 900\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n384\r\n"], ids=["length", "chunks"]
)
async def test_a_body_that_drips_in_is_answered_408_and_the_connection_ends(impatient: Node, body: bytes) -> None:
    async with quick(impatient), connection(impatient.api.base) as (reader, writer):
        writer.write(POST + body)
        dripping = asyncio.create_task(drip(writer, b" " * 900))
        (refused,) = parsed(await said(reader))
        await dripping
    assert (refused.status, refused.problem["code"]) == (408, "request-timeout")
    assert refused.headers["Connection"] == "close"


async def test_a_body_that_nobody_wants_is_not_waited_for_either(impatient: Node) -> None:
    """Refused before its body was looked at: what still comes is thrown away for a moment."""
    async with quick(impatient), connection(impatient.api.base) as (reader, writer):
        writer.write(b"POST /api/v1/nowhere HTTP/1.1\r\nHost: k2k\r\nContent-Length: 900\r\n\r\n")
        dripping = asyncio.create_task(drip(writer, b" " * 900))
        (refused,) = parsed(await said(reader))
        await dripping
    assert refused.status == 404


@pytest.mark.parametrize("reads", [0, 1], ids=["nothing", "a byte at a time"])
async def test_a_client_that_does_not_take_its_answer_is_ended_by_the_kernel(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """The answer is larger than what fits on the way, so that its writer waits."""
    monkeypatch.setattr(server, "UNACKNOWLEDGED_SECONDS", 2)
    ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def large(request: web.Request) -> web.StreamResponse:
        start = time.monotonic()
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            ended.set_result(time.monotonic() - start)

    app = web.Application()
    app.router.add_get(UNREAD, large)
    runner = server.Runner(app, settings.server)
    await runner.setup()
    listening = server.listening_socket("127.0.0.1", 0)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await web.SockSite(runner, listening).start()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, b"GET %b HTTP/1.1\r\nHost: k2k\r\n\r\n" % UNREAD.encode())
        async with asyncio.timeout(10):
            while not ended.done():
                if reads:
                    with suppress(ConnectionError):
                        await loop.sock_recv(client, reads)
                await asyncio.sleep(0.1)
        assert 1 < await ended < 8
        assert runner.server is not None
        assert not runner.server.connections
    finally:
        client.close()
        await runner.cleanup()
