"""Below the routes: how connections are accepted, how long one may be stuck, and what broken HTTP is answered.

Slow headers and idle connections end by aiohttp's keep-alive time, slow bodies by the deadline in `routes`. A client
that takes nothing of its answer, or is gone without a word, is ended by the kernel: data it does not acknowledge for
`UNACKNOWLEDGED_SECONDS` ends the connection (TCP_USER_TIMEOUT, RFC 5482), for answers and sockets alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from k2k.core.errors import DomainError, Internal
from k2k.core.settings import ServerSettings
from k2k.web.headers import secure
from k2k.web.problems import BadRequest, answer

log = structlog.get_logger()

UNACKNOWLEDGED_SECONDS = 20
# What the kernel takes beyond what it has sent: with its own measure, megabytes, a client on a slow network would seem
# to have been told what it will hear of in a minute.
UNSENT_BYTES = 16 * 1024
KEEPALIVE_SECONDS = 15.0
LINGERING_SECONDS = 5.0
LOOK_SECONDS = 0.05
# Connections that may wait to be accepted: a worker that died is back in seconds. The kernel has a limit of its own.
BACKLOG = 1024


class Runner(web.AppRunner):
    """Serves an application as it should be served: with deadlines and without saying what it runs on."""

    def __init__(self, app: web.Application, settings: ServerSettings) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGERING_SECONDS,
            shutdown_timeout=settings.shutdown_seconds,
            max_headers=64,
        )
        self._listening: list[socket.socket] = []

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # aiohttp offers no other way to name the connection's class
        return server

    async def listen(self, listening: socket.socket) -> None:
        """Take connections from this bound socket."""
        self._listening.append(listening)
        await web.SockSite(self, listening, backlog=BACKLOG).start()

    async def stop_listening(self) -> None:
        """Take no more connections. What is open stays open, and who shares a listening socket goes on.

        What waits in its queue is taken in first: the kernel resets it when nobody has that socket any longer.
        """
        last = [connection for listening in self._listening for connection in _queued(listening)]
        for site in self.sites:
            await site.stop()
        self._listening.clear()
        for connection in last:
            if self.server is not None:
                await asyncio.get_running_loop().connect_accepted_socket(self.server, connection)

    async def emptied(self, seconds: float) -> None:
        """Wait until no connection is open, but no longer than `seconds` and the life of an idle one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + max(seconds, KEEPALIVE_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)  # what was accepted at the very end becomes a connection meanwhile
        while self.server is not None and self.server.connections and loop.time() < end:  # noqa: ASYNC110 -- no event tells
            await asyncio.sleep(LOOK_SECONDS)


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What could not even be parsed, as a problem document; aiohttp would quote the request in plain text."""
        if isinstance(exc, ConnectionError):
            raise exc  # nobody is there to be answered
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: there is no way to take it back")
        if status < 500:
            return _broken(status, exc)
        request_id = uuid4().hex
        log.error("unforeseen", exc_info=exc, request_id=request_id)
        return _last_answer(Internal(), status, request_id)

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answers; what aiohttp refuses before our middlewares (Expect), as a problem document too."""
        if isinstance(resp, web.HTTPException):
            resp = _broken(resp.status, resp)
        return await super().finish_response(request, resp, start_time)


def _broken(status: int, fault: BaseException | None) -> web.Response:
    """The answer to what is no HTTP. The fault's text is not noted: it would quote the request, and with it tokens."""
    request_id = uuid4().hex
    log.info("broken http", error=type(fault).__name__, status=status, request_id=request_id)
    return _last_answer(BadRequest(), status, request_id)


def _last_answer(error: DomainError, status: int, request_id: str) -> web.Response:
    response = answer(error, status, request_id)
    secure(response.headers, request_id)
    response.force_close()
    return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


def _queued(listening: socket.socket) -> list[socket.socket]:
    """The connections that nobody has accepted yet."""
    connections = []
    with contextlib.suppress(OSError):  # BlockingIOError: there are no more
        while True:
            connections.append(listening.accept()[0])
    return connections


def listening_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket whose connections end when their peer acknowledges nothing. Raises OSError.

    Several that are `shared` may stand on one port; the kernel spreads new connections over those that listen.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_SECONDS * 1000)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
