"""The websocket endpoint of one process: who is let in, and how everybody is sent away when it goes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator

import structlog
from aiohttp import web

from k2k.core.errors import Denied, Invalid
from k2k.core.settings import LiveSettings
from k2k.infra.ephemeral import Place
from k2k.infra.metrics import Metrics
from k2k.live import wire
from k2k.live.codec import JsonCodec
from k2k.live.command import Commands
from k2k.live.connection import Connection, Upgrade, take_over
from k2k.live.frame import Framing
from k2k.live.lobby import Lobby, Ticket
from k2k.live.protobuf import ProtobufCodec
from k2k.live.reader import Reader
from k2k.live.session import Session
from k2k.live.socket import CLOSE_SECONDS, Flusher, Socket

log = structlog.get_logger()

PATH = "/connection/websocket"
PROTOBUF = "centrifuge-protobuf"
SUBPROTOCOLS = (PROTOBUF, "centrifuge-json")
# Where other services let clients write a token: it would stand in the logs of every proxy on the way.
TOKENS = frozenset({"token", "access_token", "cf_connect"})
LOOK_SECONDS = 0.02


class TokenInUrl(Invalid):
    """URLs stand in logs. Send the token in the connect command, and get a new one: this one has been seen."""

    code = "token-in-url"
    number = 1015
    title = "A token must never be in a URL"


class SocketDoor:
    """Upgrades, and keeps the connections of one process."""

    def __init__(self, commands: Commands, origins: Iterable[str]) -> None:
        self._commands = commands
        self._origins = frozenset(origins)
        self._open: set[Connection] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._lobby = Lobby(commands.settings)
        self._codecs = (JsonCodec(), ProtobufCodec())
        self._metrics: Metrics = commands.services.db.metrics
        self._flusher = Flusher(self._metrics)
        self._settings: LiveSettings = commands.settings
        commands.presence.ours = self._places

    def bind(self, app: web.Application) -> None:
        app.router.add_get(PATH, self.handle, allow_head=False)  # a handshake is a GET

    @property
    def open_sockets(self) -> int:
        """How many clients are connected."""
        return len(self._open)

    @property
    def queued(self) -> int:
        """Messages that wait to be sent, over all sockets."""
        return sum(connection.socket.queued for connection in self._open)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade. What the socket says is received from here on; the request itself is over."""
        self._check_origin(request)
        if not TOKENS.isdisjoint(request.query):
            raise TokenInUrl
        ticket = self._lobby.enter(request.remote or "")
        try:
            return await self._upgrade(request, ticket)
        except BaseException:
            ticket.leave()
            raise

    async def _upgrade(self, request: web.Request, ticket: Ticket) -> web.StreamResponse:
        response = Upgrade(compress=self._settings.compression, protocols=SUBPROTOCOLS)
        if not response.can_prepare(request).ok:
            raise web.HTTPUpgradeRequired(headers={"Upgrade": "websocket"})
        await response.prepare(request)
        taken = take_over(request)
        if taken is None:  # gone already
            ticket.leave()
            return response
        transport, early = taken
        window = int(response.compress)
        codec = self._codecs[response.ws_protocol == PROTOBUF]
        socket = Socket(transport, codec, Framing.agreed(window), self._flusher, self._metrics, self._settings)
        session = Session(socket, codec, self._commands, request.remote or "", ticket)
        reader = Reader(self._settings.frame_kib * 1024, deflates=window > 0)
        connection = Connection(transport, reader, socket, session, self)
        connection.request_id = response.headers.get("X-Request-ID", "")
        self._open.add(connection)
        self._metrics.sockets_opened.inc()
        if self._stopping:
            socket.cut(wire.SHUTDOWN)
        connection.begin(early)
        return response

    def lost(self, connection: Connection) -> None:
        """The connection is gone: let what it has begun come to its end."""
        self._open.discard(connection)
        task = asyncio.get_running_loop().create_task(self._end(connection))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, connection: Connection) -> None:
        seconds = time.monotonic() - connection.since
        user = connection.session.user_id
        log.info(
            "request",
            method="GET",
            path=PATH,
            status=101,
            milliseconds=round(seconds * 1000, 1),
            address=connection.session.address,
            request_id=connection.request_id,
            **({"user": str(user)} if user is not None else {}),
        )
        try:
            await connection.ended()
        except Exception:
            log.exception("unforeseen")

    async def drain(self, seconds: float) -> None:
        """Send every client away at a random moment within `seconds`, so that they do not all come back at once.

        Returns once all have gone, or have been dropped.
        """
        self._stopping = True
        loop = asyncio.get_running_loop()
        for connection in self._open:
            loop.call_later(random.uniform(0, seconds), connection.socket.cut, wire.SHUTDOWN)  # noqa: S311 -- no secret
        await self._emptied(seconds)

    async def shut_down(self, *_: object) -> None:
        """Send every client away at once; the SDKs come back, to another process or to the next one."""
        self._stopping = True
        for connection in self._open:
            connection.socket.cut(wire.SHUTDOWN)
        await self._emptied(0)

    async def _emptied(self, seconds: float) -> None:
        """Wait until nobody is here any more and what they began is through."""
        end = time.monotonic() + seconds + 2 * CLOSE_SECONDS
        while self._open and time.monotonic() < end:  # noqa: ASYNC110 -- no event tells
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.gather(*self._ending)

    def _places(self) -> Iterator[Place]:
        """Taken in pages: sockets and what they follow come and go between them."""
        for connection in tuple(self._open):
            yield from tuple(connection.session.places())

    def _check_origin(self, request: web.Request) -> None:
        """Browsers always say where a page comes from; apps say nothing. A page of somebody else's is refused."""
        origin = request.headers.get("Origin")
        own = f"{request.scheme}://{request.host}"
        if origin is not None and origin != own and origin not in self._origins:
            log.warning("websocket from a foreign origin refused", origin=origin[:200])
            raise Denied("Pages of this origin may not open a websocket here")
