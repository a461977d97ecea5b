"""One websocket: the upgrade, reading frames, a bounded queue, and closing.

What is offered to sockets in one turn of the event loop is written at its end, one write a socket. A client that does
not read cannot hold anybody up: what waits for it is bounded, and when that is full the connection is aborted. It
comes back and resumes from its position without loss.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator

import structlog
from aiohttp import WSMsgType, web

from k2k.core.errors import Denied, Invalid
from k2k.core.settings import LiveSettings
from k2k.infra.ephemeral import Place
from k2k.infra.metrics import Metrics
from k2k.live import wire
from k2k.live.codec import JsonCodec
from k2k.live.command import Commands
from k2k.live.frame import Framing
from k2k.live.lobby import Lobby, Ticket
from k2k.live.masking import MaskedSocket
from k2k.live.protobuf import ProtobufCodec
from k2k.live.session import Session

log = structlog.get_logger()

PATH = "/connection/websocket"
PROTOBUF = "centrifuge-protobuf"
SUBPROTOCOLS = (PROTOBUF, "centrifuge-json")
# How long a closing handshake may take before the connection is dropped.
CLOSE_SECONDS = 2.0
# A transport that holds more than this is not being read: the rest waits here, where it is counted.
UNTAKEN_BYTES = 64 * 1024
# How soon a client that was not reading is looked at again.
LOOK_SECONDS = 0.02


# Where other services let clients write a token: it would stand in the logs of every proxy on the way.
TOKENS = frozenset({"token", "access_token", "cf_connect"})


class TokenInUrl(Invalid):
    """URLs stand in logs. Send the token in the connect command, and get a new one: this one has been seen."""

    code = "token-in-url"
    number = 1015
    title = "A token must never be in a URL"


class Flusher:
    """Writes out what was offered to sockets, once in a turn of the event loop."""

    def __init__(self) -> None:
        self._due: list[Socket] = []
        self._clogged: set[Socket] = set()
        self._timer: asyncio.TimerHandle | None = None

    def wake(self, socket: Socket) -> None:
        """The socket has something to write."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._flush)
        self._due.append(socket)

    def come_back(self, socket: Socket) -> None:
        """The socket's client does not read just now."""
        self._clogged.add(socket)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _flush(self) -> None:
        due, self._due = self._due, []
        self._flush_each(due)

    def _look(self) -> None:
        self._timer = None
        clogged, self._clogged = self._clogged, set()
        self._flush_each(clogged)

    def _flush_each(self, sockets: Iterable[Socket]) -> None:
        for socket in sockets:
            try:
                socket.flush()
            except Exception:  # one socket's fault is not the others', who stand behind it
                log.exception("unforeseen")
                socket.give_up(wire.SERVER_ERROR)


class Socket:
    """The sending side: everything goes through one queue, in order, and is never waited for."""

    __slots__ = (
        "__weakref__",
        "_close",
        "_closing",
        "_codec",
        "_drained",
        "_flusher",
        "_framing",
        "_metrics",
        "_queue",
        "_response",
        "_settings",
        "_size",
        "_transport",
        "_waiting_since",
        "session",
    )

    def __init__(
        self,
        response: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        codec: wire.Codec,
        framing: Framing,
        door: SocketDoor,
    ) -> None:
        self._response = response
        self._transport = transport
        self._codec = codec
        self._framing = framing
        self._flusher = door.flusher
        self._metrics = door.metrics
        self._settings = door.settings
        self._queue: list[bytes] | None = None
        self._size = 0
        self._waiting_since = 0.0
        self._close: wire.Close | None = None
        self._closing: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.session: Session | None = None

    def offer(self, message: bytes) -> None:
        """Queue a message."""
        if self._close is not None:
            return
        if self._queue is None:
            self._queue = []
            self._waiting_since = time.perf_counter()
            self._flusher.wake(self)
        self._queue.append(message)
        self._size += len(message)

    def flush(self) -> None:
        """Write what is queued. A client that has not taken what was written before may only leave so much waiting.

        One long answer is written whole and takes its time on a slow network: what waits behind it is counted, not it.
        """
        queue = self._queue
        if queue is None:
            return
        if self._transport.is_closing():
            self._queue, self._size = None, 0
            self._tell_drained()
        elif self._transport.get_write_buffer_size() <= UNTAKEN_BYTES:
            self._queue, self._size = None, 0
            self._transport.write(self._framing.framed(self._codec, queue))
            self._metrics.socket_waits.observe(time.perf_counter() - self._waiting_since)
            self._tell_drained()
        elif len(queue) > self._settings.queue_messages or self._size > self._settings.queue_kib * 1024:
            self.give_up(wire.SLOW)
        else:
            self._flusher.come_back(self)

    def give_up(self, close: wire.Close) -> None:
        """Drop the connection and what is queued."""
        if self._close is None:
            self._note_cut(close)
        self._queue, self._size = None, 0
        self._transport.abort()
        self._tell_drained()

    def cut(self, close: wire.Close) -> None:
        """Send what is queued, then close; drop the connection if that takes too long. The first reason counts."""
        if self._close is not None:
            return
        if close not in (wire.CLOSED, wire.BAD_REQUEST):
            self.offer(self._codec.push("", close))
        self._note_cut(close)
        loop = asyncio.get_running_loop()
        loop.call_later(CLOSE_SECONDS, self._transport.abort)
        self._closing = loop.create_task(self._finish(close))

    async def drained(self) -> None:
        """Wait until the client has taken what was offered, but for what its connection holds."""
        while self._queue is not None:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    @property
    def closing(self) -> bool:
        """Whether it was cut: nothing more is sent, and what still comes is not obeyed."""
        return self._close is not None

    @property
    def queued(self) -> int:
        """Messages that wait to be sent."""
        return len(self._queue) if self._queue is not None else 0

    async def finish(self) -> None:
        """Wait until a close that has begun is through."""
        if self._closing is not None:
            await asyncio.gather(self._closing, return_exceptions=True)

    async def _finish(self, close: wire.Close) -> None:
        await self.drained()
        if not self._transport.is_closing():
            await self._response.close(code=close.code, message=close.reason.encode())

    def _tell_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _note_cut(self, close: wire.Close) -> None:
        self._close = close
        self._metrics.cuts.labels(close.code).inc()


class SocketDoor:
    """The websocket endpoint of one process."""

    def __init__(self, commands: Commands, origins: Iterable[str]) -> None:
        self._commands = commands
        self._origins = frozenset(origins)
        self._sockets: set[Socket] = set()
        self._stopping = False
        self._lobby = Lobby(commands.settings)
        self._codecs = (JsonCodec(), ProtobufCodec())
        self.flusher = Flusher()
        self.metrics: Metrics = commands.services.db.metrics
        self.settings: LiveSettings = commands.settings
        commands.presence.ours = self._places

    def bind(self, app: web.Application) -> None:
        app.router.add_get(PATH, self.handle, allow_head=False)  # a handshake is a GET

    @property
    def open_sockets(self) -> int:
        """How many clients are connected."""
        return len(self._sockets)

    @property
    def queued(self) -> int:
        """Messages that wait to be sent, over all sockets."""
        return sum(socket.queued for socket in self._sockets)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, then serve the socket until either side ends it."""
        self._check_origin(request)
        if not TOKENS.isdisjoint(request.query):
            raise TokenInUrl
        ticket = self._lobby.enter(request.remote or "")
        try:
            return await self._serve(request, ticket)
        finally:
            ticket.leave()

    async def _serve(self, request: web.Request, ticket: Ticket) -> web.StreamResponse:
        response = MaskedSocket(
            compress=self.settings.compression,
            protocols=SUBPROTOCOLS,
            max_msg_size=self.settings.frame_kib * 1024 + 1,  # aiohttp refuses from this size on
            timeout=CLOSE_SECONDS,
            autoping=True,
        )
        if not response.can_prepare(request).ok:
            raise web.HTTPUpgradeRequired(headers={"Upgrade": "websocket"})
        await response.prepare(request)
        transport = request.transport
        if transport is None:  # gone already
            return response
        codec = self._codecs[response.ws_protocol == PROTOBUF]
        socket = Socket(response, transport, codec, Framing.agreed(response), self)
        session = socket.session = Session(socket, codec, self._commands, request.remote or "", ticket)
        self._sockets.add(socket)
        self.metrics.sockets_opened.inc()
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
            if message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
                await session.receive(message.data)
            else:
                socket.cut(wire.BAD_REQUEST)
                return

    def _places(self) -> Iterator[Place]:
        """Taken in pages: sockets and what they follow come and go between them."""
        for socket in tuple(self._sockets):
            if socket.session is not None:
                yield from tuple(socket.session.places())

    def _check_origin(self, request: web.Request) -> None:
        """Browsers always say where a page comes from; apps say nothing. A page of somebody else's is refused."""
        origin = request.headers.get("Origin")
        own = f"{request.scheme}://{request.host}"
        if origin is not None and origin != own and origin not in self._origins:
            log.warning("websocket from a foreign origin refused", origin=origin[:200])
            raise Denied("Pages of this origin may not open a websocket here")
