"""Redis pub/sub between the processes: a wake-up that is fast and may be lost, never the truth.

One connection (RESP3) carries everything, both ways; what is said in one turn of the event loop is one write. redis-py
makes the connection and leaves it to us: its task, timeout and retry for each message cost more than the message does.
What Redis does not carry, the tail finds in PostgreSQL, so nothing here is ever waited for long or kept for later.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

import hiredis
import structlog

from k2k.core.settings import RedisSettings
from k2k.infra.valkey import AWAY, SOCKET_SECONDS, client

log = structlog.get_logger()

RECONNECT_SECONDS = 0.2
# A server that froze says nothing: after this silence it is asked, and given up if it owes an answer for so long.
QUIET_SECONDS = 2.0
ANSWER_SECONDS = 1.0
LOOK_SECONDS = 0.25
# A server that does not take what it is sent is as good as away.
MOST_UNSENT_BYTES = 4 * 1024 * 1024


class PubSub:
    """One process's link to the others. `arrived(channel, message)` is called for each message received.

    `observe` is told how many messages each write takes.
    """

    def __init__(self, settings: RedisSettings, observe: Callable[[int], object] = lambda _: None) -> None:
        self._redis = client(settings, protocol=3)
        self._prefix = f"{settings.prefix}:".encode()
        self._observe = observe
        self._connection: _Connection | None = None
        self._outgoing: list[tuple[str, bytes]] = []
        self._wanted: set[str] = set()
        self._changed: set[str] = set()
        """Channels that are wanted or given up since the last write."""
        self._flushes = False
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._told_away = False
        self.arrived: Callable[[str, bytes], None] = lambda _channel, _message: None

    @property
    def up(self) -> bool:
        """Whether messages are being received; false until the first connection and after a lost one."""
        return self._connection is not None

    def start(self) -> None:
        """Begin to listen; needs a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Send what is waiting, if that is quick, and stop listening."""
        self._flush()
        self._closing = True
        if self._connection is not None:
            self._connection.close()
            await self._connection.ended(SOCKET_SECONDS)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    async def ping(self) -> None:
        """Raises OSError or TimeoutError while the server does not answer."""
        if self._connection is None:
            raise ConnectionError("Redis is away")
        async with asyncio.timeout(SOCKET_SECONDS):
            await self._connection.ping()

    def publish(self, channel: str, message: bytes) -> None:
        """Send to every other process that listens to `channel`, without waiting; lost while Redis is away."""
        if self._connection is not None:
            self._outgoing.append((channel, message))
            self._flush_soon()

    async def subscribe(self, channel: str) -> None:
        """Listen to `channel`. Returns once Redis confirmed it, or soon while Redis is away."""
        self._wanted.add(channel)
        if self._connection is not None:
            self._changed.add(channel)
            self._flush_soon()
            await self._connection.confirmed(self._name(channel), SOCKET_SECONDS)

    async def unsubscribe(self, channel: str) -> None:
        """Stop listening to `channel`."""
        self._wanted.discard(channel)
        self._changed.add(channel)
        self._flush_soon()

    def _name(self, channel: str) -> bytes:
        return self._prefix + channel.encode()

    def _flush_soon(self) -> None:
        if not self._flushes:
            self._flushes = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = False
        outgoing, self._outgoing = self._outgoing, []
        changed, self._changed = self._changed, set()
        if self._connection is None:
            return
        if changed:
            self._connection.follow((self._name(channel), channel in self._wanted) for channel in changed)
        if outgoing:
            self._observe(len(outgoing))
            self._connection.publish([(self._name(channel), message) for channel, message in outgoing])

    async def _keep(self) -> None:
        """Be connected for as long as the process lives."""
        while not self._closing:
            try:
                await self._connect_and_listen()
            except AWAY as error:
                if not self._told_away and not self._closing:
                    self._told_away = True
                    log.warning("redis away: events arrive by the tail", error=repr(error))
            except Exception:
                log.exception("listening failed: events arrive by the tail")
            finally:
                self._connection = None
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _connect_and_listen(self) -> None:
        made: Any = self._redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no types here
        await made.connect()
        connection = _Connection(made, self._heard)
        # From here on nothing is awaited until everything wanted has been asked for.
        # The prefix itself is a channel nobody publishes to: servers know a listener by its subscriptions.
        connection.follow([(self._prefix, True), *((self._name(channel), True) for channel in self._wanted)])
        self._connection = connection
        self._told_away = False
        log.info("redis listening", channels=len(self._wanted))
        try:
            await connection.live()
        finally:
            connection.abort()
            await made.disconnect(nowait=True)  # its own end of the matter

    def _heard(self, name: bytes, message: bytes) -> None:
        try:
            self.arrived(name.removeprefix(self._prefix).decode(), message)
        except Exception:  # one message's fault is not the others'
            log.exception("unforeseen")


class _Connection(asyncio.Protocol):
    """An authenticated connection, taken over from redis-py. `heard(name, message)` is called for each message."""

    def __init__(self, made: Any, heard: Callable[[bytes, bytes], None]) -> None:
        self._transport: asyncio.Transport = made._writer.transport
        self._reader = hiredis.Reader()
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._followed: set[bytes] = set()
        self._confirming: Counter[bytes] = Counter()
        """How often each channel was asked for without having been confirmed."""
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._pings: deque[asyncio.Future[None]] = deque()
        self._owed = 0
        self._owed_since = self._heard_at = self._loop.time()
        self._transport.set_protocol(self)

    # What is asked of the server

    def follow(self, wishes: Iterable[tuple[bytes, bool]]) -> None:
        """Listen to these channels (True), or no longer to those (False)."""
        more, fewer = list[bytes](), list[bytes]()
        for name, wanted in wishes:
            if wanted != (name in self._followed):
                (more if wanted else fewer).append(name)
        self._followed.update(more)
        self._followed.difference_update(fewer)
        self._confirming.update(more)
        if more:
            self._send([_command(b"SUBSCRIBE", *more)], len(more))
        if fewer:
            self._send([_command(b"UNSUBSCRIBE", *fewer)], len(fewer))
        for name in self._waiting.keys() - self._confirming.keys():
            self._waiting.pop(name).set_result(None)

    def publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        commands = [_command(b"PUBLISH", name, message) for name, message in messages]
        self._send(commands, len(commands))

    async def ping(self) -> None:
        """Returns when the server has answered. Raises ConnectionError if it is lost."""
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pings.append(pong)
        self._send([_command(b"PING")], 1)
        await pong

    async def confirmed(self, name: bytes, seconds: float) -> None:
        """Wait until the server listens to what was asked for, or nobody wants it any more; at most `seconds`."""
        if name in self._followed and name not in self._confirming:
            return
        waiting = self._waiting.setdefault(name, self._loop.create_future())
        await asyncio.wait({waiting}, timeout=seconds)

    async def live(self) -> None:
        """Returns never; raises OSError or TimeoutError when the connection is lost, or the server silent."""
        while True:
            await asyncio.wait({self._lost}, timeout=LOOK_SECONDS)
            if self._lost.done():
                self._lost.result()
            now = self._loop.time()
            if self._owed and now - max(self._owed_since, self._heard_at) > ANSWER_SECONDS:
                raise TimeoutError("no answer")
            if not self._owed and now - self._heard_at > QUIET_SECONDS:
                self._send([_command(b"PING")], 1)
                self._pings.append(self._loop.create_future())

    def close(self) -> None:
        """Send what is waiting, then end."""
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    async def ended(self, seconds: float) -> None:
        await asyncio.wait({self._lost}, timeout=seconds)

    def _send(self, commands: list[bytes], answers: int) -> None:
        if self._transport.is_closing():
            return
        if not self._owed:
            self._owed_since = self._loop.time()
        self._owed += answers
        self._transport.write(b"".join(commands))
        if self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            log.warning("redis takes nothing: the tail will deliver")
            self._transport.abort()

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._take(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(exc or ConnectionError("connection lost"))

    def _give_up(self, lost: Exception) -> None:
        for pong in self._pings:
            if not pong.done():
                pong.set_exception(lost)
                pong.exception()  # nobody may be waiting
        for waiting in self._waiting.values():
            waiting.set_result(None)
        self._waiting.clear()
        if not self._lost.done():
            self._lost.set_exception(lost)
            self._lost.exception()

    def _take(self, answer: Any) -> None:
        if isinstance(answer, list):
            kind = answer[0]
            if kind == b"message":
                self._heard(answer[1], answer[2])
                return
            if kind == b"subscribe":
                self._confirm(answer[1])
        elif answer == b"PONG" and self._pings:
            pong = self._pings.popleft()
            if not pong.done():
                pong.set_result(None)
        elif isinstance(answer, Exception):
            self._give_up(ConnectionError(str(answer)))  # it would refuse again, and what it refused is not told
        self._owed = max(0, self._owed - 1)

    def _confirm(self, name: bytes) -> None:
        """The last of what was asked counts: an earlier confirmation may be followed by an unsubscription."""
        self._confirming[name] -= 1
        if self._confirming[name] <= 0:
            del self._confirming[name]
            if (waiting := self._waiting.pop(name, None)) is not None:
                waiting.set_result(None)


def _command(*words: bytes) -> bytes:
    """A command as the protocol writes it (RESP, an array of bulk strings)."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts += (b"$%d\r\n" % len(word), word, b"\r\n")
    return b"".join(parts)
