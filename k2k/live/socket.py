"""One websocket: the upgrade, reading frames, a bounded queue with one writer, and closing.

A client that does not read cannot hold anybody up: what waits for it is bounded, and when that is full the connection
is aborted. It comes back and resumes from its position without loss.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable

import structlog
from aiohttp import WSMsgType, web
from aiohttp.client_exceptions import ClientConnectionResetError

from k2k.core.errors import Denied
from k2k.core.settings import LiveSettings
from k2k.infra.metrics import Metrics
from k2k.live import wire
from k2k.live.command import Commands
from k2k.live.session import Session

log = structlog.get_logger()

PATH = "/connection/websocket"
# How long a closing handshake may take before the connection is dropped.
CLOSE_SECONDS = 2.0
GONE = (ClientConnectionResetError, ConnectionError)


class Socket:
    """The sending side: everything goes through one queue and one writer, in order.

    The writer is a task that exists only while something waits; what is queued together is sent together.
    """

    def __init__(
        self,
        response: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        settings: LiveSettings,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._waiting_since = 0.0
        self._response = response
        self._transport = transport
        self._settings = settings
        self._queue: list[bytes] = []
        self._size = 0
        self._sending = False
        self._writer: asyncio.Task[None] | None = None
        self._close: wire.Close | None = None

    def offer(self, frame: bytes) -> None:
        """Queue a frame. A client that still has not taken what was sent before may only leave so much waiting."""
        if self._close is not None:
            return
        if not self._queue:
            self._waiting_since = time.perf_counter()
        self._queue.append(frame)
        self._size += len(frame)
        full = len(self._queue) > self._settings.queue_messages or self._size > self._settings.queue_kib * 1024
        if full and self._sending:
            self._note_cut(wire.SLOW)
            self._queue.clear()
            self._transport.abort()
        else:
            self._wake()

    def cut(self, close: wire.Close) -> None:
        """Send what is queued, then close; drop the connection if that takes too long. The first reason counts."""
        if self._close is None:
            self._note_cut(close)
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)
            self._wake()

    @property
    def queued(self) -> int:
        """Frames that wait to be sent."""
        return len(self._queue)

    def _note_cut(self, close: wire.Close) -> None:
        self._close = close
        self._metrics.cuts.labels(close.code).inc()

    async def finish(self) -> None:
        """Wait until the writer is done."""
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)

    def _wake(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._queue:
                frames, self._queue, self._size = self._queue, [], 0
                since = self._waiting_since
                self._sending = True  # it waits here while the client does not read
                await self._response.send_frame(wire.joined(frames), WSMsgType.TEXT)
                self._sending = False
                self._metrics.socket_waits.observe(time.perf_counter() - since)
            if self._close is not None and self._close is not wire.SLOW:
                await self._response.close(code=self._close.code, message=self._close.reason.encode())
        except GONE:
            self._close = self._close or wire.CLOSED
            self._queue.clear()
        finally:
            self._writer = None


class SocketDoor:
    """The websocket endpoint of one process."""

    def __init__(self, commands: Commands, origins: Iterable[str]) -> None:
        self._commands = commands
        self._metrics = commands.services.db.metrics
        self._origins = frozenset(origins)
        self._sockets: set[Socket] = set()
        self._stopping = False

    def bind(self, app: web.Application) -> None:
        app.router.add_get(PATH, self.handle, allow_head=False)  # a handshake is a GET

    @property
    def open_sockets(self) -> int:
        """How many clients are connected."""
        return len(self._sockets)

    @property
    def queued(self) -> int:
        """Frames that wait to be sent, over all sockets."""
        return sum(socket.queued for socket in self._sockets)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, then serve the socket until either side ends it."""
        self._check_origin(request)
        settings = self._commands.settings
        response = web.WebSocketResponse(
            compress=False,
            max_msg_size=settings.frame_kib * 1024 + 1,  # aiohttp refuses from this size on
            timeout=CLOSE_SECONDS,
            autoping=True,
        )
        if not response.can_prepare(request).ok:
            raise web.HTTPUpgradeRequired(headers={"Upgrade": "websocket"})
        await response.prepare(request)
        transport = request.transport
        if transport is None:  # gone already
            return response
        socket = Socket(response, transport, settings, self._metrics)
        session = Session(socket, self._commands, request.remote or "")
        self._sockets.add(socket)
        self._metrics.sockets_opened.inc()
        if self._stopping:
            socket.cut(wire.SHUTDOWN)
        try:
            await self._read(response, socket, session)
        except Exception:
            log.exception("unforeseen")
            socket.cut(wire.SERVER_ERROR)
        finally:
            self._sockets.discard(socket)
            await session.close()
            await socket.finish()
        return response

    def drain(self, seconds: float) -> None:
        """Send every client away at a random moment within `seconds`, so that they do not all come back at once."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        for socket in self._sockets:
            loop.call_later(random.uniform(0, seconds), socket.cut, wire.SHUTDOWN)  # noqa: S311 -- no secret

    async def shut_down(self, *_: object) -> None:
        """Send every client away at once; the SDKs come back, to another process or to the next one."""
        self._stopping = True
        sockets = tuple(self._sockets)
        for socket in sockets:
            socket.cut(wire.SHUTDOWN)
        await asyncio.gather(*(socket.finish() for socket in sockets))

    async def _read(self, response: web.WebSocketResponse, socket: Socket, session: Session) -> None:
        async for message in response:
            if message.type is WSMsgType.TEXT:
                await session.receive(message.data)
            else:
                socket.cut(wire.BAD_REQUEST)
                return

    def _check_origin(self, request: web.Request) -> None:
        """Browsers always say where a page comes from; apps say nothing. A page of somebody else's is refused."""
        origin = request.headers.get("Origin")
        own = f"{request.scheme}://{request.host}"
        if origin is not None and origin != own and origin not in self._origins:
            log.warning("websocket from a foreign origin refused", origin=origin[:200])
            raise Denied("Pages of this origin may not open a websocket here")
