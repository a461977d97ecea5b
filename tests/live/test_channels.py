"""Who may follow what, how many channels at once, and what happens when a permission is withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import pytest

from k2k.core.ids import AgencyId, Channel, UserId, agency_channel
from k2k.core.settings import Settings
from k2k.features.agents import service as agents
from k2k.features.agents.models import AgencyRole
from k2k.infra.streams import Event
from tests.support import Live, LiveError, Node, People, Person, eventually


class Noted(Event):
    type: ClassVar[str] = "test.noted"
    number: int


async def note(node: Node, channel: str, number: int) -> None:
    async with node.process.db.transaction() as tx:
        tx.emit(Noted(number=number), to=[Channel(channel)])


async def refused(live: Live, channel: str) -> int:
    """The code that a subscription is refused with; 0 if it is not."""
    try:
        await live.subscribe(channel)
    except LiveError as error:
        return error.code
    return 0


@asynccontextmanager
async def anonymous(node: Node) -> AsyncIterator[Live]:
    async with Live.open(node.api.base) as live:
        await live.command("connect", {})
        yield live


class World:
    """People and places of which each may follow some."""

    def __init__(self, people: People, database_url: str) -> None:
        self._people = people
        self._database_url = database_url

    async def fill(self) -> World:
        people = self._people
        self.owner, self.agency = await people.agency()
        self.manager, self.member = await self._agent(AgencyRole.manager), await self._agent(AgencyRole.member)
        self.buyer, self.stranger, self.admin = [await people.buyer() for _ in range(3)]
        outside = await asyncpg.connect(self._database_url)
        await outside.execute("update users set role = 'admin' where id = $1", self.admin.id)
        await outside.close()
        self.listing = await people.listing(self.owner)
        enquiry = await people.enquire(self.buyer, self.listing)
        claimed = await people._node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=self.owner.token)
        assert claimed.status == 200
        self.conversation = enquiry["conversation_id"]
        return self

    async def _agent(self, role: AgencyRole) -> Person:
        person = await self._people.agent()
        async with self._people._node.process.db.transaction() as tx:
            await agents.join_agency(tx, UserId(person.id), AgencyId(self.agency), role)
        return person

    @property
    def channels(self) -> dict[str, str]:
        return {
            "own": f"user:{self.buyer.id}",
            "agency": f"agency:{self.agency}",
            "staff": "staff",
            "listing": f"listing:{self.listing}",
            "conversation": f"conversation:{self.conversation}",
            "map": "map:12/2500/2000",
        }

    def people(self) -> dict[str, str]:
        """Access tokens by whose they are."""
        named = ("owner", "manager", "member", "buyer", "stranger", "admin")
        return {"nobody": ""} | {name: getattr(self, name).token for name in named}


MAY: dict[str, set[str]] = {
    "nobody": {"listing", "map"},
    "stranger": {"listing", "map"},
    "buyer": {"own", "listing", "map", "conversation"},
    "owner": {"agency", "listing", "map", "conversation"},
    "manager": {"agency", "listing", "map"},
    "member": {"listing", "map"},
    "admin": {"staff", "listing", "map"},
}


@pytest.fixture
async def world(people: People, database_url: str) -> World:
    return await World(people, database_url).fill()


# Who may follow what


@pytest.mark.parametrize("place", ["warm", "cold"])
async def test_each_may_follow_what_is_theirs_and_nothing_else(
    node: Node, second_node: Node, world: World, place: str
) -> None:
    """Also where the process knows the channel already because others follow it."""
    home = node if place == "warm" else second_node
    for name, token in world.people().items():
        async with Live.open(home.api.base) as live:
            await live.command("connect", {"token": token, "data": {"personal": "client"}} if token else {})
            codes = {kind: await refused(live, channel) for kind, channel in world.channels.items()}
        assert {kind for kind, code in codes.items() if not code} == MAY[name], name
        assert set(codes.values()) <= {0, 103}


async def test_what_may_not_be_followed_leaves_nothing_behind(node: Node, people: People) -> None:
    person = await people.buyer()
    strange = [f"user:{uuid4()}", f"agency:{uuid4()}", f"listing:{uuid4()}", f"conversation:{uuid4()}", "staff"]
    async with node.live(person.token, data={"follow": strange}) as live:
        assert list(live.positions) == [f"user:{person.id}"]
        assert [await refused(live, channel) for channel in strange] == [103] * len(strange)
        assert not set(node.process.hub.channels()) & set(strange)


@pytest.mark.parametrize(
    "channel",
    [
        "",
        "x",
        "user",
        "user:",
        "user:*",
        "listing:1",
        "map:12/1",
        "map:11/1/1",
        "map:12/4096/0",
        "map:12/01/1",
        256 * "x",
    ],
)
async def test_what_is_no_channel_is_unknown(node: Node, channel: str) -> None:
    async with anonymous(node) as live:
        assert await refused(live, channel) == 102


async def test_an_id_in_another_spelling_is_no_second_channel(node: Node, world: World) -> None:
    async with anonymous(node) as live:
        for spelling in (str(world.listing).upper(), world.listing.hex, f"{{{world.listing}}}", f"{world.listing} "):
            assert await refused(live, f"listing:{spelling}") == 102


# How many


async def test_a_socket_follows_sixteen_tiles_and_no_more(node: Node) -> None:
    async with anonymous(node) as live:
        assert [await refused(live, f"map:12/{x}/1") for x in range(17)] == [0] * 16 + [106]
        await live.command("unsubscribe", {"channel": "map:12/3/1"})
        assert await refused(live, "map:12/16/1") == 0


async def test_a_socket_follows_so_many_channels_and_no_more(settings: Settings, people: People) -> None:
    """128 unless the settings say otherwise; here fewer."""
    assert settings.live.subscriptions == 128
    few = settings.model_copy(update={"live": settings.live.model_copy(update={"subscriptions": 4})})
    node, seller = await Node.start(few), await people.agent()
    listings = [await people.listing(seller) for _ in range(4)]
    async with node.live(seller.token) as live:
        assert [await refused(live, f"listing:{listing}") for listing in listings] == [0, 0, 0, 106]
        await live.command("unsubscribe", {"channel": f"listing:{listings[0]}"})
        assert await refused(live, f"listing:{listings[3]}") == 0
        assert await refused(live, f"listing:{listings[3]}") == 105
    await node.stop()


# What is taken away


async def agent_id(node: Node, agency: UUID, person: Person) -> str:
    members = (await node.api.get(f"/agencies/{agency}")).json["members"]
    (found,) = [member["id"] for member in members if member["user_id"] == str(person.id)]
    return str(found)


@pytest.mark.parametrize("redis", ["up", "silent"])
@pytest.mark.parametrize("granted", [True, False], ids=["granted by the server", "asked for"])
async def test_who_leaves_an_agency_hears_nothing_of_it_from_then_on(
    node: Node, second_node: Node, world: World, monkeypatch: pytest.MonkeyPatch, redis: str, granted: bool
) -> None:
    """On another process than that which removed them, while events follow without a pause."""
    channel = agency_channel(AgencyId(world.agency))
    removed = await agent_id(node, world.agency, world.manager)
    if redis == "silent":
        monkeypatch.setattr(node.process.pubsub, "publish", lambda *_: None)
    data = {"follow": [channel]} if granted else {}
    async with (
        second_node.live(world.manager.token, data=data) as leaver,
        second_node.live(world.owner.token, data={"follow": [channel]}) as stays,
    ):
        if not granted:
            await leaver.subscribe(channel)
        await note(node, channel, 1)
        for live in (leaver, stays):
            await heard_number(live, channel, 1)
        path = f"/agencies/{world.agency}/members/{removed}"
        assert (await node.api.delete(path, token=world.owner.token)).status == 200
        for number in range(2, 30):
            await note(node, channel, number)
        for number in range(2, 30):
            await heard_number(stays, channel, number)
        pushed = [leaver.news.get_nowait() for _ in range(leaver.news.qsize())]
        last = [push for push in pushed if push["channel"] == channel]
        assert [push["unsubscribe"]["code"] for push in last if "unsubscribe" in push] == [2103]
        assert not [push for push in last if push.get("pub", {}).get("data", {}).get("type") == "test.noted"]
        assert await refused(leaver, channel) == 103
        assert (await leaver.event())["type"] == "access.lost"
        assert (await leaver.rpc("me.get"))["id"] == str(world.manager.id)


async def heard_number(live: Live, channel: str, number: int) -> None:
    """The next event of a test, past what else is said in the channel, is this."""
    while True:
        push: dict[str, Any] = await asyncio.wait_for(live.news.get(), 10)
        if push["channel"] == channel and push.get("pub", {}).get("data", {}).get("type") == "test.noted":
            assert push["pub"]["data"]["data"] == {"number": number}
            return


async def test_one_may_leave_an_agency_by_oneself_and_come_back(node: Node, world: World) -> None:
    channel = agency_channel(AgencyId(world.agency))
    async with node.live(world.manager.token, data={"follow": [channel]}) as live:
        assert channel in live.positions
        removed = await agent_id(node, world.agency, world.manager)
        await node.api.delete(f"/agencies/{world.agency}/members/{removed}", token=world.manager.token)
        await eventually(lambda: follows(live, channel, False))
        async with node.process.db.transaction() as tx:
            await agents.join_agency(tx, UserId(world.manager.id), AgencyId(world.agency), AgencyRole.manager)
        await eventually(lambda: follows(live, channel, True))
        await note(node, channel, 7)
        await heard_number(live, channel, 7)


async def follows(live: Live, channel: str, expected: bool) -> bool:
    return (channel in live.positions) is expected


async def test_a_member_without_a_say_keeps_nothing_and_loses_nothing(node: Node, world: World) -> None:
    channel = agency_channel(AgencyId(world.agency))
    async with node.live(world.member.token, data={"follow": [channel]}) as live:
        removed = await agent_id(node, world.agency, world.member)
        await node.api.delete(f"/agencies/{world.agency}/members/{removed}", token=world.owner.token)
        assert (await live.rpc("me.get"))["id"] == str(world.member.id)
        assert live.news.empty()
        assert live.events.empty(), live.events


@pytest.mark.parametrize("where", ["the same process", "another process"])
async def test_a_listing_that_is_withdrawn_is_followed_by_nobody(
    node: Node, second_node: Node, world: World, where: str
) -> None:
    channel, home = f"listing:{world.listing}", node if where == "the same process" else second_node
    async with anonymous(home) as live, home.live(world.buyer.token) as signed_in:
        for one in (live, signed_in):
            await one.subscribe(channel)
        await node.api.delete(f"/properties/{world.listing}", token=world.owner.token)
        for one in (live, signed_in):
            assert (await one.hear(channel, "pub"))["data"]["data"]["status"] == "deleted"
            assert (await one.hear(channel, "unsubscribe"))["code"] == 2103
            assert await refused(one, channel) == 103
        await note(node, channel, 1)
        assert (await signed_in.rpc("me.get"))["is_active"] is True
        assert (live.news.empty(), signed_in.news.empty()) == (True, True)


async def test_who_lost_a_permission_while_away_is_not_let_in_again(node: Node, world: World) -> None:
    """The connection was away when it happened, so nothing was pushed: the grant is simply gone."""
    channel = agency_channel(AgencyId(world.agency))
    follow = {"follow": [channel]}
    async with node.live(world.manager.token, data=follow) as left:
        assert channel in left.positions
    removed = await agent_id(node, world.agency, world.manager)
    await node.api.delete(f"/agencies/{world.agency}/members/{removed}", token=world.owner.token)
    epoch, offset = left.positions[channel]
    subs = {channel: {"recover": True, "epoch": epoch, "offset": offset}}
    async with Live.open(node.api.base) as again:
        result = await again.command("connect", {"token": world.manager.token, "data": follow, "subs": subs})
        assert list(result["subs"]) == [f"user:{world.manager.id}"]
