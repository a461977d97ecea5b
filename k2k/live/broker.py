"""The link between this process's hub and the others: Redis for speed, the tail of PostgreSQL for certainty.

An event goes to the local hub and to Redis right after COMMIT. What Redis loses, or a process that dies between COMMIT
and publish never sent, the tail finds: it asks PostgreSQL what its previous snapshot could not see.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from k2k.core.errors import Unavailable
from k2k.core.ids import Channel
from k2k.core.settings import LiveSettings
from k2k.infra.pubsub import PubSub
from k2k.infra.streams import Mark, Numbered, Position, Streams
from k2k.live.hub import Hub
from k2k.live.wire import ClientInfo, Join, Leave, News, Publication

log = structlog.get_logger()


class Broker:
    """Carries events between the database, the other processes and the hub of this one."""

    def __init__(self, hub: Hub, streams: Streams, pubsub: PubSub, settings: LiveSettings) -> None:
        self._hub = hub
        self._clock = streams.db.clock
        deliveries = streams.db.metrics.deliveries
        self._here, self._from_redis = deliveries.labels("process"), deliveries.labels("redis")
        self._tails = streams.db.metrics.tails
        self._tailed_at = time.monotonic()
        self._streams = streams
        self._pubsub = pubsub
        self._settings = settings
        self._tail: asyncio.Task[None] | None = None
        pubsub.arrived = self._arrived

    async def start(self) -> None:
        """Begin to follow: from now on no committed event is missed. Raises Unavailable."""
        mark = await self._streams.first_mark()
        self._pubsub.start()
        self._tail = asyncio.get_running_loop().create_task(self._follow(mark))

    async def close(self) -> None:
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)
        await self._pubsub.close()

    def told(self, events: Sequence[Numbered]) -> None:
        """Events of a transaction that has just been committed here."""
        committed_at, start = self._clock.now().timestamp(), time.perf_counter()
        for event in events:
            if self._hub.arrive(event):
                self._here.observe(time.perf_counter() - start)
            self._pubsub.publish(event.channel, packed(event, committed_at))

    def whisper(self, channel: Channel, news: News) -> None:
        """Tell everybody who follows the channel what is not numbered; who is not there or Redis away misses it."""
        self._pubsub.publish(channel, whispered(news))

    def _arrived(self, channel: str, message: bytes) -> None:
        try:
            if message.startswith(WHISPER):
                self._hub.whisper(Channel(channel), understood(message))
                return
            event, committed_at = unpacked(Channel(channel), message)
        except (ValueError, KeyError):
            log.warning("message not understood", channel=channel, size=len(message))
        else:
            if self._hub.arrive(event):
                # The clocks of two processes agree within milliseconds only: it may seem to arrive before it was sent.
                seconds = max(0.0, self._clock.now().timestamp() - committed_at)
                self._from_redis.observe(seconds)

    def tail_age(self) -> float:
        """Seconds since the database was last asked what had not been announced."""
        return time.monotonic() - self._tailed_at

    async def _follow(self, mark: Mark) -> None:
        while True:
            seconds = self._settings.tail_seconds if self._pubsub.up else self._settings.tail_seconds_without_redis
            await asyncio.sleep(seconds)
            try:
                # The old mark is kept until all was answered: nothing committed meanwhile is skipped.
                with self._tails.time():
                    later, newest = await self._streams.tail(mark)
                if not later.follows(mark):
                    later, newest = await self._begin_again(mark, later)
                mark = later
                self._tailed_at = time.monotonic()
            except Unavailable:
                continue
            except Exception:
                log.exception("tail failed")
                continue
            for channel, position in newest:
                try:
                    self._hub.behind(channel, position)
                except Exception:  # a fault in one channel is not the others'
                    log.exception("unforeseen", channel=channel)

    async def _begin_again(self, left: Mark, found: Mark) -> tuple[Mark, list[tuple[Channel, Position]]]:
        """The database is not what it was: where the tail begins anew, and where every stream followed here stands.

        If the numbering is the old one, offsets that members know may already mean other events (a server has taken
        over that lacks the last transactions): it ends, and everybody fetches their state afresh.
        """
        log.warning("the database was restored or another took over", left=left, found=found)
        if found.generation == left.generation:
            await self._streams.renumber(left.generation)
        mark = await self._streams.first_mark()
        return mark, await self._streams.heads(list(self._hub.channels()))


WHISPER = b"~"
_KINDS: dict[bytes, Callable[[ClientInfo], News]] = {b"join": Join, b"leave": Leave}


def whispered(news: News) -> bytes:
    """What is not numbered as a message between processes: lines of kind, person, socket and description, then data."""
    match news:
        case Publication(data=data, info=ClientInfo() as info):
            kind = b"pub"
        case Join(info):
            kind, data = b"join", b""
        case Leave(info):
            kind, data = b"leave", b""
        case _:
            raise TypeError(f"{type(news).__name__} is said to one socket, not to a channel")
    return b"\n".join((WHISPER + kind, info.user.encode(), info.client.encode(), info.conn_info, data))


def understood(message: bytes) -> News:
    """The news of a whispered message. Raises ValueError."""
    kind, user, client, conn_info, data = message.removeprefix(WHISPER).split(b"\n", 4)
    info = ClientInfo(user.decode(), client.decode(), conn_info)
    return Publication(data, info=info) if kind == b"pub" else _KINDS[kind](info)


def packed(event: Numbered, committed_at: float) -> bytes:
    """An event as a message between processes: one line of place, type and when (seconds since 1970), then the body."""
    return f"{event.epoch} {event.offset} {event.type} {committed_at:.4f}\n".encode() + event.body


def unpacked(channel: Channel, message: bytes) -> tuple[Numbered, float]:
    """The event of a message, and when it was committed. Raises ValueError."""
    head, body = message.split(b"\n", 1)
    epoch, offset, type_, committed_at = head.decode().split(" ")
    return Numbered(channel, epoch, int(offset), type_, body), float(committed_at)
