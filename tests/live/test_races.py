"""What crosses on its way: subscriptions that end while they begin, permissions that change meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import ClassVar
from uuid import UUID

import pytest

from k2k.core.errors import Unavailable
from k2k.core.ids import AgencyId, Channel, UserId, agency_channel, user_channel
from k2k.features.agents import service as agents
from k2k.features.agents.models import AgencyRole
from k2k.infra.streams import Event, Replay
from k2k.live.command import Commands
from k2k.live.session import Session
from k2k.ops.authenticator import Principal
from tests.support import Live, LiveError, Node, People, Person, eventually


class Counted(Event):
    type: ClassVar[str] = "test.counted"
    number: int


async def tell(node: Node, channel: str, numbers: Iterable[int]) -> None:
    async with node.process.db.transaction() as tx:
        for number in numbers:
            tx.emit(Counted(number=number), to=[Channel(channel)])


_tiles = count(1000)


@pytest.fixture
def tile() -> str:
    """A channel that anybody may follow and nobody has."""
    return f"map:12/{next(_tiles)}/9"


@asynccontextmanager
async def anonymous(node: Node) -> AsyncIterator[Live]:
    async with Live.open(node.api.base) as live:
        await live.command("connect", {})
        yield live


async def numbers(live: Live, channel: str, last: int) -> list[int]:
    """Of the events heard in the channel, up to this one."""
    found: list[int] = []
    while not found or found[-1] != last:
        push = await asyncio.wait_for(live.news.get(), 10)
        if push["channel"] == channel and "pub" in push:
            found.append(push["pub"]["data"]["data"]["number"])
    return found


class Held:
    """Reads of one stream that have been answered and do not arrive before they are let go, in any order."""

    def __init__(self, node: Node, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[asyncio.Event] = []
        self.holds = False
        streams = node.process.hub._streams
        read = streams.read

        async def held(asked: Channel, since: int) -> Replay:
            replay = await read(asked, since)
            if asked == channel and self.holds:
                self.waiting.append(event := asyncio.Event())
                await event.wait()
            return replay

        monkeypatch.setattr(streams, "read", held)

    async def until(self, many: int) -> None:
        async def so_many() -> bool:
            return len(self.waiting) >= many

        await eventually(so_many)

    def let_go(self) -> None:
        self.holds = False
        for event in self.waiting:
            event.set()


# Subscriptions that end while they begin


async def test_a_channel_given_up_amid_its_pages_and_taken_again_is_heard(
    node: Node, tile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that was on its way for the first subscription arrives before the answer to the second."""
    await tell(node, tile, range(1, 251))
    held = Held(node, tile, monkeypatch)
    async with anonymous(node) as live:
        held.holds = True
        first = asyncio.create_task(live.subscribe(tile, recover=True, offset=0))
        await held.until(1)
        held.waiting[0].set()
        await first
        await held.until(2)
        await live.command("unsubscribe", {"channel": tile})
        second = asyncio.create_task(live.subscribe(tile, recover=True, offset=200))
        await held.until(3)
        held.waiting[1].set()
        for _ in range(5):  # turns of the loop, until the page has met its end
            await asyncio.sleep(0)
        held.let_go()
        assert (await second)["recovered"] is True
        await tell(node, tile, [251])
        assert await numbers(live, tile, 251) == [251]


async def test_a_channel_taken_given_up_and_taken_again_in_one_frame_tells_each_event_once(
    node: Node, tile: str
) -> None:
    await tell(node, tile, range(1, 251))
    async with anonymous(node) as live:
        subscribe = {"channel": tile, "recover": True, "offset": 0}
        live._asked |= {101: tile, 103: tile}
        replies = {id_: asyncio.get_running_loop().create_future() for id_ in (101, 102, 103)}
        live._replies |= replies
        await live.send(
            {"id": 101, "subscribe": subscribe},
            {"id": 102, "unsubscribe": {"channel": tile}},
            {"id": 103, "subscribe": subscribe},
        )
        for reply in replies.values():
            assert "error" not in await asyncio.wait_for(reply, 10)
        await tell(node, tile, [251])
        assert await numbers(live, tile, 251) == list(range(101, 252))


# Permissions that change meanwhile


class Agency:
    """An agency, and somebody who is its manager or not."""

    def __init__(self, node: Node, agency: UUID, somebody: Person) -> None:
        self._node = node
        self._id = AgencyId(agency)
        self.somebody = somebody
        self.channel = agency_channel(self._id)
        self.data = {"follow": [self.channel]}

    async def admit(self) -> None:
        async with self._node.process.db.transaction() as tx:
            await agents.join_agency(tx, UserId(self.somebody.id), self._id, AgencyRole.manager)

    async def expel(self) -> None:
        members = (await self._node.api.get(f"/agencies/{self._id}")).json["members"]
        (member,) = [one["id"] for one in members if one["user_id"] == str(self.somebody.id)]
        path = f"/agencies/{self._id}/members/{member}"
        assert (await self._node.api.delete(path, token=self.somebody.token)).status == 200

    def nobody_listens(self) -> bool:
        lines = self._node.process.hub._lines
        return self.channel not in lines or lines[self.channel].empty


@pytest.fixture
async def agency(node: Node, people: People) -> Agency:
    _, agency = await people.agency()
    return Agency(node, agency, await people.agent())


Late = list[Callable[[], Awaitable[None]]]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Late:
    """What happens while a connect looks a second time at who connects."""
    happens: Late = []
    recheck = Commands.recheck

    async def rechecked(commands: Commands, principal: Principal) -> None:
        while happens:
            await happens.pop()()
        await recheck(commands, principal)

    monkeypatch.setattr(Commands, "recheck", rechecked)
    return happens


async def test_a_permission_lost_while_connecting_is_not_granted(node: Node, agency: Agency, late: Late) -> None:
    await agency.admit()
    late.append(agency.expel)
    async with node.live(agency.somebody.token, data=agency.data) as live:
        assert list(live.positions) == [live.personal]
        assert (await live.rpc("me.get"))["id"] == str(agency.somebody.id)
        assert agency.nobody_listens()


async def test_a_permission_gained_while_connecting_is_granted_after_the_answer(
    node: Node, agency: Agency, late: Late
) -> None:
    late.append(agency.admit)
    async with node.live(agency.somebody.token, data=agency.data) as live:
        await live.hear(agency.channel, "subscribe")
        await tell(node, agency.channel, [1])
        assert await numbers(live, agency.channel, 1) == [1]


async def test_a_permission_gained_before_it_is_asked_for_does_not_end_the_connect(
    node: Node, agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news of it comes while the connect still joins the personal channel."""
    held = Held(node, user_channel(UserId(agency.somebody.id)), monkeypatch)
    async with Live.open(node.api.base) as live:
        held.holds = True
        connecting = asyncio.create_task(live.connect(agency.somebody.token, data=agency.data))
        await held.until(1)
        held.waiting[0].set()  # it watches over its own channel now
        await held.until(2)
        await agency.admit()
        held.let_go()
        await connecting
        await eventually(lambda: follows(live, agency.channel))
        await tell(node, agency.channel, [1])
        assert await numbers(live, agency.channel, 1) == [1]


async def follows(live: Live, channel: str) -> bool:
    return channel in live.positions


class Subscribing:
    """Asking Redis for one channel, which takes until it may go on."""

    def __init__(self, node: Node, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        subscribe = node.process.pubsub.subscribe

        async def slowly(channel: str) -> None:
            await subscribe(channel)
            if channel == slow:
                self.begun.set()
                await self.may_go_on.wait()

        monkeypatch.setattr(node.process.pubsub, "subscribe", slowly)


async def test_a_permission_lost_while_subscribing_leaves_nothing_behind(
    node: Node, agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agency.admit()
    async with node.live(agency.somebody.token) as live:
        subscribing = Subscribing(node, agency.channel, monkeypatch)
        asked = asyncio.create_task(live.subscribe(agency.channel))
        await subscribing.begun.wait()
        await agency.expel()
        await live.event("access.lost")
        subscribing.may_go_on.set()
        with pytest.raises(LiveError):
            await asked
        assert agency.nobody_listens()


async def test_a_socket_that_goes_while_it_is_granted_a_channel_leaves_nothing_behind(
    node: Node, agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribing = Subscribing(node, agency.channel, monkeypatch)
    async with node.live(agency.somebody.token, data=agency.data):
        await agency.admit()
        await subscribing.begun.wait()
        (session,) = node.process.hub.members(user_channel(UserId(agency.somebody.id)))
        assert isinstance(session, Session)
    await eventually(lambda: is_gone(node, agency))
    subscribing.may_go_on.set()
    await asyncio.gather(*(session._calls or ()))
    assert agency.nobody_listens()


async def is_gone(node: Node, agency: Agency) -> bool:
    return not node.process.hub.members(user_channel(UserId(agency.somebody.id)))


async def test_a_grant_that_the_database_could_not_answer_is_made_after_coming_back(
    node: Node, agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = node.process.hub._streams
    read = streams.read

    async def away(channel: Channel, since: int) -> Replay:
        if channel == agency.channel:
            raise Unavailable
        return await read(channel, since)

    async with node.live(agency.somebody.token, data=agency.data) as live:
        monkeypatch.setattr(streams, "read", away)
        await agency.admit()
        assert await live.close_code() == 3010
    monkeypatch.setattr(streams, "read", read)
    async with node.live(agency.somebody.token, data=agency.data) as again:
        assert agency.channel in again.positions


async def test_who_becomes_an_agent_on_an_open_socket_is_granted_the_agencys_channel(
    node: Node, people: People
) -> None:
    """Their role is another one than when they connected."""
    _, agency_id = await people.agency()
    agency = Agency(node, agency_id, await people.buyer())
    async with node.live(agency.somebody.token, data=agency.data) as live:
        with pytest.raises(LiveError):
            await live.subscribe(agency.channel)
        profile = {"display_name": "Selam Tesfaye"}
        assert (await node.api.post("/agents/profile", json=profile, token=agency.somebody.token)).status == 201
        await agency.admit()
        await live.hear(agency.channel, "subscribe")
