"""Redis pub/sub between the processes: a wake-up that is fast and may be lost, never the truth.

Publishing is pipelined (what is waiting goes as one write) and gives up quickly: what Redis does not carry, the tail
finds in PostgreSQL. Subscribing has a connection of its own, which reconnects for as long as the process lives and
subscribes again to everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from k2k.core.settings import RedisSettings
from k2k.infra.batch import Batch
from k2k.infra.valkey import AWAY, SOCKET_SECONDS, client

log = structlog.get_logger()

RECONNECT_SECONDS = 0.2
# A subscriber hears nothing of a server that froze: after this silence it asks, after twice it gives up.
QUIET_SECONDS = 2.0
# What one write carries: a server that is slow to take it loses no more than that.
MOST_AT_ONCE = 1000


class PubSub:
    """One process's link to the others. `arrived(channel, message)` is called for each message received.

    `observe` is told how many messages each write takes.
    """

    def __init__(self, settings: RedisSettings, observe: Callable[[int], object] = lambda _: None) -> None:
        self._redis = client(settings)
        self._listener = self._redis.pubsub()
        self._prefix = f"{settings.prefix}:".encode()
        self._channels: set[str] = set()
        self._confirmations: dict[bytes, asyncio.Event] = {}
        self._subscribes: Batch[str, None] = Batch(self._subscribe_many, most=500)
        self._outgoing: list[tuple[str, bytes]] = []
        self._sender: asyncio.Task[None] | None = None
        self._observe = observe
        self._tasks: set[asyncio.Task[None]] = set()
        self.arrived: Callable[[str, bytes], None] = lambda _channel, _message: None
        # redis-py can swallow a cancellation that meets its own timeout, so ending is asked for in this way too.
        self._closing = False
        self.up = False
        """Whether messages are being received; false until the first connection and after a lost one."""

    def start(self) -> None:
        """Begin to listen; needs a running loop."""
        self._own(self._listen())

    async def close(self) -> None:
        """Send what is waiting, if that is quick, and stop listening."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sender is not None:
            await self._sender
        await self._listener.aclose()  # type: ignore[no-untyped-call]  # redis-py has no types here
        await self._redis.aclose()

    async def ping(self) -> None:
        """Raises redis.RedisError, OSError or TimeoutError while the server does not answer."""
        async with asyncio.timeout(SOCKET_SECONDS):
            await self._redis.ping()

    def publish(self, channel: str, message: bytes) -> None:
        """Send to every other process that listens to `channel`, without waiting; lost if Redis is away."""
        self._outgoing.append((channel, message))
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def subscribe(self, channel: str) -> None:
        """Listen to `channel`. Returns once Redis confirmed it, or at once while Redis is away."""
        self._channels.add(channel)
        if self.up:
            await self._subscribes.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        """Stop listening to `channel`."""
        self._channels.discard(channel)
        if self.up:
            try:
                async with asyncio.timeout(SOCKET_SECONDS):
                    await self._listener.unsubscribe(self._name(channel))
            except Exception as error:  # as above; a message for nobody costs nothing
                log.warning("redis unsubscribe failed", error=repr(error))

    def _name(self, channel: str) -> bytes:
        return self._prefix + channel.encode()

    def _own(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _subscribe_many(self, channels: list[str]) -> list[Exception | None]:
        """One command for all; those that are not confirmed in time are delivered by the tail."""
        names = [self._name(channel) for channel in channels]
        confirmed = [self._confirmations.setdefault(name, asyncio.Event()) for name in names]
        try:
            async with asyncio.timeout(SOCKET_SECONDS):
                await self._listener.subscribe(*names)
                for one in confirmed:
                    await one.wait()
        except Exception as error:  # a connection lost at a bad moment raises more than redis-py's own errors
            log.warning("redis subscribe failed: the tail will deliver", error=repr(error), channels=len(channels))
        finally:
            for name in names:
                self._confirmations.pop(name, None)
        return [None] * len(channels)

    async def _send(self) -> None:
        """Write what is waiting, and what gathers meanwhile as the next write."""
        try:
            while self._outgoing:
                some, self._outgoing = self._outgoing[:MOST_AT_ONCE], self._outgoing[MOST_AT_ONCE:]
                self._observe(len(some))
                async with asyncio.timeout(SOCKET_SECONDS):
                    pipeline = self._redis.pipeline(transaction=False)
                    for channel, message in some:
                        pipeline.publish(self._name(channel), message)
                    await pipeline.execute()
        except AWAY as error:
            # What gathered meanwhile would only wait for the same silence.
            lost, self._outgoing = len(some) + len(self._outgoing), []
            log.warning("redis publish failed: the tail will deliver", error=repr(error), messages=lost)
        finally:
            self._sender = None

    async def _listen(self) -> None:
        while not self._closing:
            try:
                await self._receive()
            except AWAY as error:
                if self.up:
                    log.warning("redis away: events arrive by the tail", error=repr(error))
            except Exception:
                log.exception("listening failed: events arrive by the tail")
            finally:
                self.up = False
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _receive(self) -> None:
        """Subscribe to everything on a fresh connection and receive until it is lost."""
        await self._listener.aclose()  # type: ignore[no-untyped-call]  # redis-py has no types here
        self._listener = self._redis.pubsub()
        known = set(self._channels)
        # The prefix itself is a channel nobody publishes to: a subscriber without any cannot be pinged.
        await self._listener.subscribe(self._prefix, *map(self._name, known))
        self.up = True
        if added := self._channels - known:
            await self._listener.subscribe(*map(self._name, added))
        log.info("redis listening", channels=len(self._channels))
        asked = False
        while not self._closing:
            message = await self._listener.get_message(timeout=QUIET_SECONDS)
            if message is None and asked:
                raise TimeoutError("no answer to a ping")
            asked = message is None
            if message is None:
                await self._listener.ping()
            elif message["type"] == "message":
                self.arrived(message["channel"].removeprefix(self._prefix).decode(), message["data"])
            elif message["type"] == "subscribe" and message["channel"] in self._confirmations:
                self._confirmations[message["channel"]].set()
