"""The process that publishes events to a room, through Redis, in the form its side reads.

Its order is a file of JSON (see `Order`), named by its argument. With `window` it keeps so many events on the way:
published and not yet received by every client, which it is told through the FIFO `feedback`. With `rate` it publishes
so many a second. When its standard input ends it prints, as JSON, [number, begun, published] of each event.

For Key2Key an event is committed, numbered and told by the service's own code, as any serving process does it; for a
peer it is PUBLISHed, and nothing else. What may go at the same moment goes together: in one transaction, or one write.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import uvloop
from redis.asyncio import Redis

from bench.live.packing import Value, packed
from k2k.app import build
from k2k.core.ids import Channel
from k2k.core.settings import load
from k2k.infra.log import set_up
from k2k.infra.streams import Event

FIRST = 1_000_000_000
Publish = Callable[[Sequence[int]], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Order:
    form: str
    room: str
    database_url: str
    redis_url: str
    secret: str
    size: int = 300
    rate: float = 0.0
    window: int = 0
    feedback: str = ""


@dataclass
class Log:
    """When each event was begun and when it was published."""

    rows: list[tuple[int, float, float]] = field(default_factory=list)

    def note(self, number: int, begun: float) -> None:
        self.rows.append((number, begun, time.time()))


class Ticked(Event):
    """What is broadcast to clients of ours."""

    type: ClassVar[str] = "bench.ticked"
    mark: str
    text: str


def content(number: int, size: int) -> dict[str, str]:
    """An event's data, `size` bytes as compact JSON."""
    bare = {"mark": f"~{time.time_ns() // 1000:016d}~{number:010d}~", "text": ""}
    return {**bare, "text": "x" * (size - len(compact(bare)))}


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@asynccontextmanager
async def peers_way(order: Order, log: Log) -> AsyncIterator[Publish]:
    redis = Redis.from_url(order.redis_url)

    async def publish(numbers: Sequence[int]) -> None:
        begun = time.time()
        pipeline = redis.pipeline(transaction=False)
        for number in numbers:
            pipeline.publish(*message(order, content(number, order.size)))
        await pipeline.execute()
        for number in numbers:
            log.note(number, begun)

    yield publish
    await redis.aclose()


def message(order: Order, data: dict[str, str]) -> tuple[str, bytes]:
    """The Redis channel and the message that a peer reads an event from."""
    match order.form:
        case "socketio":  # as @socket.io/redis-emitter writes it
            packet: Value = {"type": 2, "data": ["event", data], "nsp": "/"}
            return f"socket.io#/#{order.room}#", packed(["bench", packet, {"rooms": [order.room], "except": []}])
        case "channels":  # as channel_layer.group_send writes it
            group = order.room.replace(":", ".")
            return f"asgi__group__{group}", packed({"type": "event", "text": compact(data).decode()})
    return order.room, compact(data)


@asynccontextmanager
async def our_way(order: Order, log: Log) -> AsyncIterator[Publish]:
    environment = {
        "K2K_ENVIRONMENT": "production",
        "K2K_LOG__LEVEL": "error",
        "K2K_DATABASE__DEADLINE_SECONDS": "20",  # transactions on one stream wait for one another
        "K2K_AUTH__SECRET": order.secret,
        "DATABASE_URL": order.database_url,
        "REDIS_URL": order.redis_url,
    }
    settings = load(environment)
    set_up(settings.log)
    process = await build(settings)
    process.pubsub.start()
    while not process.pubsub.up:
        await asyncio.sleep(0.01)

    async def publish(numbers: Sequence[int]) -> None:
        begun = time.time()
        async with process.db.transaction() as tx:
            for number in numbers:
                tx.emit(Ticked(**content(number, order.size)), [Channel(order.room)])
        for number in numbers:
            log.note(number, begun)

    yield publish
    await process.pubsub.close()
    await process.db.close()


async def keep_window(publish: Publish, order: Order, stop: asyncio.Event) -> None:
    """Publish one more for each that everybody has."""
    loop, number, free, news = asyncio.get_running_loop(), FIRST, order.window, asyncio.Event()
    told = os.open(order.feedback, os.O_RDONLY | os.O_NONBLOCK)

    def hear() -> None:
        nonlocal free
        free += os.read(told, 65536).count(b"\n")
        news.set()

    loop.add_reader(told, hear)
    async with asyncio.TaskGroup() as running:
        while not stop.is_set():
            running.create_task(publish(range(number, number + free)))
            number, free = number + free, 0
            news.clear()
            await either(news, stop)


async def keep_rate(publish: Publish, order: Order, stop: asyncio.Event) -> None:
    begun, loop = time.monotonic(), asyncio.get_running_loop()
    number = FIRST
    while not stop.is_set():
        await publish([number])
        number += 1
        due = begun + (number - FIRST) / order.rate
        timer = loop.call_later(max(0.0, due - time.monotonic()), (turn := asyncio.Event()).set)
        await either(turn, stop)
        timer.cancel()


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait for the first of the two."""
    waits = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def main(order: Order) -> None:
    log, stop = Log(), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    async with (our_way if order.form == "key2key" else peers_way)(order, log) as publish:
        print("ready", flush=True)
        await (keep_rate if order.rate else keep_window)(publish, order, stop)
    print(json.dumps(log.rows), flush=True)


if __name__ == "__main__":
    uvloop.run(main(Order(**json.loads(Path(sys.argv[1]).read_text()))))
