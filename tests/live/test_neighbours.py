"""What one socket, one event or one server does wrong stays with it: the others are served as ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from k2k.core.ids import Channel, UserId, user_channel
from k2k.core.settings import Settings
from k2k.infra.ephemeral import Place
from k2k.infra.pubsub import PubSub
from k2k.infra.streams import Event, Numbered, Position, Replay
from k2k.live.frame import Framing
from k2k.live.session import Session
from k2k.live.wheel import STEP_SECONDS, Wheel
from tests.support import Live, Node, People


class Shown(Event):
    type: ClassVar[str] = "test.shown"
    number: int


async def show(node: Node, channel: str, number: int) -> None:
    async with node.process.db.transaction() as tx:
        tx.emit(Shown(number=number), to=[Channel(channel)])


async def hear(live: Live, channel: str) -> int:
    number: int = (await live.hear(channel, "pub"))["data"]["data"]["number"]
    return number


_tiles = count(1000)


@pytest.fixture
def tile() -> str:
    """A channel that anybody may follow and nobody has."""
    return f"map:12/{next(_tiles)}/11"


@asynccontextmanager
async def anonymous(node: Node) -> AsyncIterator[Live]:
    async with Live.open(node.api.base) as live:
        await live.command("connect", {})
        yield live


# Sockets


async def test_a_socket_that_cannot_be_written_to_holds_up_nobody(node: Node, tile: str) -> None:
    """All three are written to in one turn, whichever comes first."""

    class Broken(Framing):
        def framed(self, *_: object) -> bytes:
            raise RuntimeError("broken")

    async with anonymous(node) as one, anonymous(node) as broken, anonymous(node) as other:
        for live in (one, broken, other):
            await live.subscribe(tile)
        name = broken.socket.get_extra_info("sockname")
        everybody = [connection.socket for connection in node.process.sockets._open]
        (its,) = [socket for socket in everybody if socket._transport.get_extra_info("peername") == name]
        its._framing = Broken()
        await show(node, tile, 1)
        assert [await hear(live, tile) for live in (one, other)] == [1, 1]
        assert await broken.close_code() == 1006
        await show(node, tile, 2)
        assert [await hear(live, tile) for live in (one, other)] == [2, 2]


async def test_a_visit_that_fails_keeps_the_wheel_turning() -> None:
    class Somebody:
        def __init__(self, *, fails: bool) -> None:
            self.fails = fails
            self.visited = asyncio.Event()

        def visit(self) -> None:
            self.visited.set()
            if self.fails:
                raise RuntimeError("broken")

    wheel, now = Wheel(), asyncio.get_running_loop().time()
    everybody = [Somebody(fails=number % 2 == 0) for number in range(20)]
    for number, somebody in enumerate(everybody):
        wheel.at(now + number // 10 * STEP_SECONDS, somebody)
    await asyncio.wait_for(asyncio.gather(*(somebody.visited.wait() for somebody in everybody)), 10)
    wheel.stop()


async def test_frames_of_nothing_are_counted(node: Node) -> None:
    async with anonymous(node) as live:
        for _ in range(1000):
            await live.socket.send_str("")
        assert await live.close_code() == 4429


async def test_a_long_answer_on_its_way_does_not_make_the_next_event_one_too_many(
    node: Node, people: People, tile: str
) -> None:
    person, size = await people.buyer(), 8 * 1024 * 1024  # more than the kernel keeps for a client that is slow
    async with Live.open(node.api.base, max_msg_size=2 * size) as live:
        await live.connect(person.token)
        await live.subscribe(tile)
        (session,) = node.process.hub.members(user_channel(UserId(person.id)))
        assert isinstance(session, Session)
        transport: Any = live.socket._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()
        answered = live._replies[99] = asyncio.get_running_loop().create_future()
        session._outlet.offer(b'{"id":99,"rpc":{"data":"%s"}}' % (b"x" * size))
        await asyncio.sleep(0)
        for number in (1, 2):
            await show(node, tile, number)
        transport.resume_reading()
        assert len((await asyncio.wait_for(answered, 10))["rpc"]["data"]) == size
        assert [await hear(live, tile) for _ in range(2)] == [1, 2]


# Events


async def test_an_event_that_its_watcher_does_not_understand_is_told_all_the_same(
    node: Node, second_node: Node, tile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a newer process has written it."""

    def watcher(event: Numbered) -> None:
        raise ValueError(event.type)

    for one in (node, second_node):
        monkeypatch.setitem(one.process.hub._watchers, Shown.type, watcher)
    async with anonymous(node) as here, anonymous(second_node) as there:
        for live in (here, there):
            await live.subscribe(tile)
        for number in (1, 2):
            await show(node, tile, number)
            assert [await hear(live, tile) for live in (here, there)] == [number, number]
        assert second_node.process.pubsub.up


async def test_a_gap_that_cannot_be_filled_the_first_time_is_filled_the_next(
    node: Node, second_node: Node, tile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams, failed = second_node.process.hub._streams, list[Channel]()
    read = streams.read

    async def fails_once(channel: Channel, since: int) -> Replay:
        if channel == tile and not failed:
            failed.append(channel)
            raise RuntimeError("broken")
        return await read(channel, since)

    async with anonymous(second_node) as live:
        await live.subscribe(tile)
        monkeypatch.setattr(streams, "read", fails_once)
        monkeypatch.setattr(node.process.pubsub, "publish", lambda *_: None)
        await show(node, tile, 1)
        assert await hear(live, tile) == 1
        assert failed == [tile]


async def test_a_channel_that_fails_does_not_end_the_tail(
    node: Node, second_node: Node, tile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, failed = second_node.process.hub, asyncio.Event()
    behind = hub.behind

    def fails(channel: Channel, position: Position) -> None:
        if channel == "map:12/1/2":
            failed.set()
            raise RuntimeError("broken")
        behind(channel, position)

    async with anonymous(second_node) as live:
        await live.subscribe(tile)
        monkeypatch.setattr(hub, "behind", fails)
        monkeypatch.setattr(node.process.pubsub, "publish", lambda *_: None)
        await show(node, "map:12/1/2", 1)
        await asyncio.wait_for(failed.wait(), 5)
        await show(node, tile, 1)
        assert await hear(live, tile) == 1


# Channels


async def test_who_comes_and_goes_without_end_leaves_one_timer(node: Node, tile: str) -> None:
    async with anonymous(node) as live:
        for _ in range(50):
            await live.subscribe(tile)
            await live.command("unsubscribe", {"channel": tile})
        timers: Iterable[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        ours = [timer for timer in timers if not timer.cancelled() and f"{tile!r}" in repr(timer._args)]
        assert len(ours) == 1


async def test_a_crowd_is_counted_once_however_many_ask(
    node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And entered without a look at everybody who is there."""
    listing = await people.listing(await people.agent())
    channel, ephemeral = f"listing:{listing}", node.process.sockets._commands.presence._ephemeral
    counted, entered = list[str](), list[str]()
    counting, entering = ephemeral.count, ephemeral.enter

    async def count(room: str) -> tuple[int, int]:
        counted.append(room)
        return await counting(room)

    async def enter(place: Place, seconds: float) -> int:
        entered.append(place.room)
        return await entering(place, seconds)

    monkeypatch.setattr(ephemeral, "count", count)
    monkeypatch.setattr(ephemeral, "enter", enter)
    async with anonymous(node) as one, anonymous(node) as other:
        for live in (one, other):
            await live.subscribe(channel)
        asked = [live.command("presence_stats", {"channel": channel}) for live in (one, other) for _ in range(20)]
        for answer in await asyncio.gather(*asked):
            assert answer == {"num_clients": 2, "num_users": 2}
        assert (counted, entered) == ([channel], [])


# Redis


async def test_news_do_not_queue_up_for_a_redis_that_says_nothing(settings: Settings) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    link = PubSub(settings.redis.model_copy(update={"url": SecretStr(f"redis://{host}:{port}")}))
    link.start()
    for number in range(20_000):
        link.publish("test:silence", b"%d" % number)
        if number % 1000 == 0:
            await asyncio.sleep(0.001)
    assert not link.up
    assert not link._outgoing
    async with asyncio.timeout(3):
        await link.close()
    server.close()
