"""One websocket connection, taken over from aiohttp once its handshake is through.

A handler that stays for as long as a socket is open keeps the request, the frames of every middleware, two tasks, a
parser and a writer: more than everything that we keep of a socket. So the handler returns, and the transport's
callbacks come here. A task runs only while there are commands to obey.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import structlog
from aiohttp import WSCloseCode, web

from k2k.live import wire
from k2k.live.frame import pong_frame
from k2k.live.reader import CLOSE, PING, Control, Reader, Violation, close_code
from k2k.live.session import Session
from k2k.live.socket import Socket

log = structlog.get_logger()

# Of frames that wait for those before them; then nothing more is read.
MOST_WAITING_BYTES = 64 * 1024
# What a frame costs however short it is.
FRAME_BYTES = 64
# Of what still comes from a client that was cut; one that goes on has not understood.
MOST_LATE_BYTES = 64 * 1024


class Upgrade(web.WebSocketResponse):
    """aiohttp's handshake without what it would serve the socket with."""

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        # There is no public place for this; tests/live/test_bad_frames.py sees when an inner name changes.
        self._ws_protocol = protocol
        self._writer = writer

    async def write_eof(self, data: bytes = b"") -> None:
        """The answer was the handshake; what follows is not aiohttp's."""


def take_over(request: web.BaseRequest) -> tuple[asyncio.Transport, bytes] | None:
    """The request's transport, which is ours from now on, and what came behind the handshake. None if it is gone."""
    served: Any = request.protocol
    transport: asyncio.Transport | None = served.transport
    if transport is None:
        return None
    early: bytes = served._message_tail
    served.transport = None  # or it would be closed
    served.connection_lost(None)
    return transport, early


class Keeper(Protocol):
    """Who must know that a connection has ended."""

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The receiving side: frames are obeyed one after the other, each when the one before lets the next begin."""

    __slots__ = (
        "_keeper",
        "_late",
        "_left",
        "_obeying",
        "_paused",
        "_reader",
        "_size",
        "_transport",
        "_waiting",
        "request_id",
        "session",
        "since",
        "socket",
    )

    def __init__(
        self, transport: asyncio.Transport, reader: Reader, socket: Socket, session: Session, keeper: Keeper
    ) -> None:
        self._transport = transport
        self._reader: Reader | None = reader
        self._keeper = keeper
        self._waiting: deque[str | bytes | Control | Violation] | None = None
        """Frames that have not been looked at; with a task that obeys them, for as long as there are any."""
        self._size = 0
        self._left: Iterator[str | bytes | Control] | None = None
        """The frames of what arrived that were not read because so many waited already."""
        self._late = 0
        self._obeying: asyncio.Task[None] | None = None
        self._paused = False
        self.socket = socket
        self.session = session
        self.request_id = ""
        """Of the handshake."""
        self.since = time.monotonic()

    def begin(self, early: bytes) -> None:
        """Receive from now on."""
        self._transport.set_protocol(self)
        if not self._transport.is_reading():
            self._transport.resume_reading()
        if early:
            self.data_received(early)

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            return
        if self.socket.closing:
            self._late += len(data)
            if self._late > MOST_LATE_BYTES:
                self._transport.abort()
                return
        self.session.pulse.hear()
        self._read(self._reader.read(data))

    def eof_received(self) -> None:
        """Nothing more comes: there is nobody to answer either."""
        self.socket.end_soon()

    def pause_writing(self) -> None:
        self.socket.clog()

    def resume_writing(self) -> None:
        self.socket.unclog()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reader = self._left = None
        self.socket.lose()
        self._keeper.lost(self)

    async def ended(self) -> None:
        """Wait until what has begun is through: it may have been committed."""
        if self._obeying is not None:
            await asyncio.wait({self._obeying})
        await self.session.close()

    # Frames

    def _read(self, frames: Iterator[str | bytes | Control]) -> None:
        try:
            for frame in frames:
                self._take(frame)
                if self._paused:
                    self._left = frames
                    return
                if self._reader is None:
                    return
        except Violation as violation:
            self._reader = None
            self._end(violation)

    def _take(self, frame: str | bytes | Control) -> None:
        if isinstance(frame, Control):
            self._control(frame)
        elif not self.socket.closing:
            self._wait(frame)

    def _end(self, last: Control | Violation) -> None:
        """The client closes, or must be closed: once what it said before has been obeyed."""
        if self._waiting is not None:
            self._waiting.append(last)
        elif isinstance(last, Violation):
            self.socket.fail(wire.Close(last.code, last.reason))
        else:
            self.socket.answer_close(int.from_bytes(last.payload[:2]) or WSCloseCode.OK)

    def _control(self, frame: Control) -> None:
        if frame.opcode == CLOSE:
            close_code(frame.payload)
            self._reader = None
            self._end(frame)
        elif not self.session.pay():
            self.socket.cut(wire.TOO_MANY_COMMANDS)  # they cost as well, and have no answer to refuse
        elif frame.opcode == PING:
            self.socket.write(pong_frame(frame.payload))

    def _wait(self, frame: str | bytes) -> None:
        if self._waiting is None:
            self._waiting = deque()
            self._obeying = asyncio.get_running_loop().create_task(self._obey(self._waiting))
        self._waiting.append(frame)
        self._size += len(frame) + FRAME_BYTES
        if self._size > MOST_WAITING_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self.session.pulse.hold()

    async def _obey(self, waiting: deque[str | bytes | Control | Violation]) -> None:
        last: Control | Violation | None = None
        try:
            while waiting:
                frame = waiting.popleft()
                if isinstance(frame, Control | Violation):
                    last = frame
                    break
                self._size -= len(frame) + FRAME_BYTES
                if not waiting:
                    self._read_on()
                if not self.socket.closing:
                    await self.session.receive(frame)
        except Exception:
            log.exception("unforeseen")
            self.socket.cut(wire.SERVER_ERROR)
        finally:
            self._waiting = self._obeying = None
            self._size = 0
            if last is not None:
                self._end(last)
            self._read_on()

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            left, self._left = self._left, None
            self.session.pulse.hear()
            if left is not None and self._reader is not None:
                self._read(left)
            if not self._paused:
                self._transport.resume_reading()
