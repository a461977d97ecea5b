"""The sending side of a websocket: a bounded queue that is never waited for, and closing.

What is offered to sockets in one turn of the event loop is written at its end, one write a socket. A client that does
not read cannot hold anybody up: what waits for it is bounded, and when that is full the connection is aborted. It
comes back and resumes from its position without loss.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from k2k.core.settings import LiveSettings
from k2k.infra.metrics import Metrics
from k2k.live import wire
from k2k.live.frame import Framing, close_frame

log = structlog.get_logger()

# How long a closing handshake may take before the connection is dropped.
CLOSE_SECONDS = 2.0
# A transport that holds more than this is not being read: the rest waits here, where it is counted.
UNTAKEN_BYTES = 64 * 1024
# Closes that the client is not told of by a push: it would take the push for an answer.
UNTOLD = (wire.CLOSED, wire.BAD_REQUEST)


class Flusher:
    """Writes out what was offered to sockets, once in a turn of the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._due: list[Socket] = []
        self._since = 0.0
        self._waits = metrics.socket_waits

    def wake(self, socket: Socket) -> None:
        """The socket has something to write."""
        if not self._due:
            self._since = time.perf_counter()
            asyncio.get_running_loop().call_soon(self._flush)
        self._due.append(socket)

    def _flush(self) -> None:
        due, self._due = self._due, []
        since = self._since
        for socket in due:
            try:
                socket.flush()
            except Exception:  # one socket's fault is not the others', who stand behind it
                log.exception("unforeseen")
                socket.give_up(wire.SERVER_ERROR)
        # Once for all: the last of them has waited so long.
        self._waits.observe(time.perf_counter() - since)


class Socket:
    """Everything that is sent goes through one queue, in order."""

    __slots__ = (
        "_clogged",
        "_clogged_since",
        "_close",
        "_codec",
        "_drained",
        "_ending",
        "_flusher",
        "_framing",
        "_hangs_up",
        "_metrics",
        "_queue",
        "_said_goodbye",
        "_settings",
        "_size",
        "_transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        codec: wire.Codec,
        framing: Framing,
        flusher: Flusher,
        metrics: Metrics,
        settings: LiveSettings,
    ) -> None:
        self._transport = transport
        self._codec = codec
        self._framing = framing
        self._flusher = flusher
        self._metrics = metrics
        self._settings = settings
        self._queue: list[bytes] | None = None
        self._size = 0
        self._clogged = False
        self._clogged_since = 0.0
        self._close: wire.Close | None = None
        self._hangs_up = False
        self._said_goodbye = False
        self._ending: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        transport.set_write_buffer_limits(UNTAKEN_BYTES, UNTAKEN_BYTES)

    def offer(self, message: bytes) -> None:
        """Queue a message."""
        if self._close is None:
            self._wake().append(message)
            self._size += len(message)
            if self._clogged:
                self._check_room()

    def flush(self) -> None:
        """Write what is queued, unless the client has not taken what was written before.

        One long answer is written whole and takes its time on a slow network: what waits behind it is counted, not it.
        """
        queue = self._queue
        if queue is None:
            return
        if self._transport.is_closing():
            self._empty()
        elif self._transport.get_write_buffer_size() <= UNTAKEN_BYTES:
            self._empty()
            self._write_out(queue)
        elif self._clogged:
            self._check_room()
        else:
            self._flusher.wake(self)  # the transport will know in a moment whether the network takes it

    def write(self, frame: bytes) -> None:
        """Write a control frame at once; not to who does not read."""
        if not self._clogged and not self._transport.is_closing():
            self._transport.write(frame)

    def clog(self) -> None:
        """The client does not take what was written."""
        self._clogged = True
        self._clogged_since = time.perf_counter()

    def unclog(self) -> None:
        """It has taken it."""
        self._clogged = False
        if self._queue:
            self._metrics.socket_waits.observe(time.perf_counter() - self._clogged_since)
        self.flush()

    def give_up(self, close: wire.Close) -> None:
        """Drop the connection and what is queued."""
        if self._close is None:
            self._note_cut(close)
        self._empty()
        self._transport.abort()

    def cut(self, close: wire.Close) -> None:
        """Send what is queued, then close; drop the connection if that takes too long. The first reason counts."""
        if self._close is not None:
            return
        if close not in UNTOLD:
            self.offer(self._codec.push("", close))
            if self.closing:  # there was no room for it
                return
        self._note_cut(close)
        self._wake()
        self.end_soon()

    def fail(self, close: wire.Close) -> None:
        """The client broke the rules of websockets: close without a word that it might misunderstand."""
        if self._close is None:
            self._note_cut(close)
        self._hangs_up = True
        self._wake()
        self.end_soon()

    def answer_close(self, code: int) -> None:
        """The client closes, or answers our closing."""
        if self._close is None:
            self._close = wire.Close(code, "")
            self._empty()
            self.write(close_frame(self._close))
            self.end_soon()
        self._transport.close()

    def lose(self) -> None:
        """The connection is gone."""
        if self._close is None:
            self._close = wire.CLOSED
        if self._ending is not None:
            self._ending.cancel()
        self._empty()

    def end_soon(self) -> None:
        """Drop the connection if its end takes too long."""
        if self._ending is None and not self._transport.is_closing():
            self._ending = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)

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

    @property
    def untaken(self) -> int:
        """Bytes that the network has not taken yet."""
        return self._size + self._transport.get_write_buffer_size()

    def _wake(self) -> list[bytes]:
        if self._queue is None:
            self._queue = []
            self._flusher.wake(self)
        return self._queue

    def _write_out(self, queue: list[bytes]) -> None:
        frames = self._framing.framed(self._codec, queue) if queue else b""
        if self._close is not None and not self._said_goodbye:
            self._said_goodbye = True
            frames += close_frame(self._close)
        self._transport.write(frames)
        if self._hangs_up:
            self._transport.write_eof()

    def _check_room(self) -> None:
        """A client that does not take what was written may only leave so much waiting."""
        if self.queued > self._settings.queue_messages or self._size > self._settings.queue_kib * 1024:
            self.give_up(wire.SLOW)

    def _empty(self) -> None:
        self._queue, self._size = None, 0
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _note_cut(self, close: wire.Close) -> None:
        self._close = close
        self._metrics.cuts.labels(close.code).inc()
