"""Who is there: people come with their first device and go with their last, and nobody stays who is gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterator
from signal import SIGCONT, SIGSTOP
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from k2k.core.clock import Clock
from k2k.core.errors import Unavailable
from k2k.core.settings import Settings
from k2k.infra import embedded
from k2k.infra.ephemeral import Ephemeral, Occupant, Place
from k2k.infra.valkey import client
from k2k.live import presence
from k2k.live.presence import Presence
from tests.support import Live, LiveError, Node, People, Person, eventually


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that takes seconds or minutes, in a moment."""
    monkeypatch.setattr(presence, "DEPARTURES_SECONDS", 0.05)
    monkeypatch.setattr(presence, "REFRESH_SECONDS", 0.3)
    monkeypatch.setattr(presence, "RETURN_SECONDS", 0.6)


@pytest.fixture
async def home(settings: Settings, _short_patience: None) -> AsyncIterator[Node]:
    node = await Node.start(settings)
    yield node
    await node.stop()


@pytest.fixture
async def elsewhere(settings: Settings, _short_patience: None) -> AsyncIterator[Node]:
    """Another process."""
    node = await Node.start(settings)
    yield node
    await node.stop()


async def talking(people: People) -> tuple[Person, Person, str]:
    """A buyer, an agent and the channel in which they talk."""
    agent, buyer = await people.agent(), await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    claimed = await people._node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=agent.token)
    assert claimed.status == 200
    return buyer, agent, f"conversation:{enquiry['conversation_id']}"


async def present(live: Live, channel: str) -> list[str]:
    """The people whose sockets are in the channel, one a socket."""
    found = (await live.command("presence", {"channel": channel}))["presence"]
    assert all(client == one["client"] for client, one in found.items())
    return sorted(one["user"] for one in found.values())


async def stats(live: Live, channel: str) -> tuple[int, int]:
    found = await live.command("presence_stats", {"channel": channel})
    return found["num_clients"], found["num_users"]


async def has_stats(live: Live, channel: str, clients: int, users: int) -> bool:
    return await stats(live, channel) == (clients, users)


async def watching(live: Live, channel: str, person: Person) -> None:
    """Follow the channel, and hear oneself come."""
    await live.subscribe(channel)
    assert (await live.hear(channel, "join"))["info"]["user"] == str(person.id)


async def silence(live: Live, seconds: float) -> None:
    """Nothing is said for so long; it must outlast what could be said."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(live.news.get(), seconds)


async def test_one_comes_with_the_first_device_and_goes_with_the_last(
    home: Node, elsewhere: Node, people: People
) -> None:
    buyer, agent, channel = await talking(people)
    async with home.live(agent.token) as desk:
        await watching(desk, channel, agent)
        async with elsewhere.live(buyer.token, data={"device": "phone"}) as phone:
            await phone.subscribe(channel)
            came = await desk.hear(channel, "join")
            assert (came["info"]["user"], came["info"]["conn_info"]) == (str(buyer.id), {"device": "phone"})
            async with home.live(buyer.token, data={"device": "tablet"}) as tablet:
                await tablet.subscribe(channel)
                await eventually(lambda: has_stats(desk, channel, 3, 2))
                assert await present(desk, channel) == sorted([str(agent.id), *[str(buyer.id)] * 2])
            await eventually(lambda: has_stats(desk, channel, 2, 2))
            assert desk.news.empty()
        assert (await desk.hear(channel, "leave"))["info"] == came["info"]
        assert await present(desk, channel) == [str(agent.id)]


async def test_unsubscribing_is_leaving(home: Node, people: People) -> None:
    buyer, agent, channel = await talking(people)
    async with home.live(agent.token) as desk, home.live(buyer.token) as phone:
        await watching(desk, channel, agent)
        await phone.subscribe(channel)
        await desk.hear(channel, "join")
        await phone.command("unsubscribe", {"channel": channel})
        assert (await desk.hear(channel, "leave"))["info"]["user"] == str(buyer.id)


async def test_a_phone_that_comes_back_soon_was_never_away(
    home: Node, elsewhere: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "RETURN_SECONDS", 1.5)
    buyer, agent, channel = await talking(people)
    async with home.live(agent.token) as desk:
        await watching(desk, channel, agent)
        async with home.live(buyer.token) as phone:
            await phone.subscribe(channel)
            await desk.hear(channel, "join")
        for network in (elsewhere, home, elsewhere):
            async with network.live(buyer.token) as phone:
                await phone.subscribe(channel)
                assert str(buyer.id) in await present(desk, channel)
        async with home.live(buyer.token) as phone:
            await phone.subscribe(channel)
            await silence(desk, 2)
            assert await present(desk, channel) == sorted([str(agent.id), str(buyer.id)])
        assert (await desk.hear(channel, "leave"))["info"]["user"] == str(buyer.id)


async def test_who_was_on_a_killed_process_is_gone_after_a_while(
    home: Node, elsewhere: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process says nothing: its people are missed when it has not been heard of for long enough."""
    monkeypatch.setattr(presence, "PRESENT_SECONDS", 3.0)
    buyer, agent, channel = await talking(people)
    async with home.live(agent.token) as desk, elsewhere.live(buyer.token) as phone:
        await watching(desk, channel, agent)
        await phone.subscribe(channel)
        await desk.hear(channel, "join")
        await silence(desk, 4)  # beyond what is remembered of who is not heard of
        dead = elsewhere.process.sockets._commands.presence
        await dead.close()
        monkeypatch.setattr(dead, "leave", lambda _: None)
        assert (await desk.hear(channel, "leave"))["info"]["user"] == str(buyer.id)
        assert await present(desk, channel) == [str(agent.id)]


async def test_a_listing_counts_strangers_one_by_one_and_a_person_once(home: Node, people: People) -> None:
    seller = await people.agent()
    channel = f"listing:{await people.listing(seller)}"
    async with Live.open(home.api.base) as one, Live.open(home.api.base) as two, home.live(seller.token) as phone:
        async with home.live(seller.token) as desk:
            for stranger in (one, two):
                await stranger.command("connect", {})
            for live in (one, two, phone, desk):
                await live.subscribe(channel)
            await eventually(lambda: has_stats(one, channel, 4, 3))
            with pytest.raises(LiveError) as refused:
                await one.command("presence", {"channel": channel})
            assert refused.value.code == 108
        await eventually(lambda: has_stats(one, channel, 3, 3))
        assert (one.news.empty(), two.news.empty()) == (True, True)


@pytest.mark.parametrize("kind", ["presence", "presence_stats"])
async def test_only_who_follows_a_channel_may_ask_who_is_there(home: Node, people: People, kind: str) -> None:
    buyer, agent, channel = await talking(people)
    async with home.live(agent.token) as desk, home.live((await people.buyer()).token) as stranger:
        await watching(desk, channel, agent)
        for asked, code in ((channel, 103), (f"user:{buyer.id}", 103), (stranger.personal, 108), ("nonsense", 103)):
            with pytest.raises(LiveError) as refused:
                await stranger.command(kind, {"channel": asked})
            assert refused.value.code == code


# Redis comes and goes


async def test_who_comes_and_goes_while_a_refresh_is_told_page_by_page(home: Node, people: People) -> None:
    """Who has gone meanwhile would be there again for a minute."""
    first, second, late = await people.buyer(), await people.buyer(), await people.buyer()
    async with home.live(first.token) as one, home.live(second.token) as two:
        places = iter(home.process.sockets._places())
        (begun, leaving) = (one, two) if next(places).room == one.personal else (two, one)
        async with home.live(late.token), home.live(late.token):
            await leaving.socket.close()
            await eventually(lambda: has_sockets(home, 3))
            rest = {place.room for place in places}
        assert not rest & {begun.personal, leaving.personal}


async def has_sockets(node: Node, count: int) -> bool:
    return node.process.sockets.open_sockets == count


async def test_a_refresh_takes_a_page_at_a_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And looks at who is in the next one when its turn has come."""
    monkeypatch.setattr(presence, "MOST_AT_ONCE", 10)
    monkeypatch.setattr(presence, "REFRESH_SECONDS", 0.05)
    ephemeral = Ephemeral(settings.redis, Clock())
    room, told, gone = f"room:{uuid4()}", list[int](), False
    here = [Place(room, Occupant("", str(uuid4()), "{}"), told=bool(number % 2)) for number in range(35)]
    stay = ephemeral.stay

    async def noted(page: Collection[Place], seconds: float) -> None:
        nonlocal gone
        told.append(len(page))
        await stay(page, seconds)
        gone = True

    def ours() -> Iterator[Place]:
        yield from here[:-1]
        if not gone:
            yield here[-1]

    monkeypatch.setattr(ephemeral, "stay", noted)
    refreshing = Presence(ephemeral, lambda _channel, _news: None)
    refreshing.ours = ours
    refreshing.start()
    try:
        await eventually(lambda: refreshed(told))
        assert told[:4] == [10, 10, 10, 4]
        assert set(await ephemeral.occupants(room)) == {place.occupant for place in here[:-1]}
    finally:
        await refreshing.close()
        await ephemeral.close()


async def refreshed(told: list[int]) -> bool:
    return len(told) > 4


async def test_a_redis_that_came_back_empty_knows_everybody_again(
    home: Node, people: People, settings: Settings
) -> None:
    buyer, agent, channel = await talking(people)
    async with home.live(agent.token) as desk, home.live(buyer.token) as phone:
        await watching(desk, channel, agent)
        await phone.subscribe(channel)
        await desk.hear(channel, "join")
        redis: Any = client(settings.redis)
        for key in await redis.keys(f"{settings.redis.prefix}:in:*"):
            await redis.delete(key)
        await redis.aclose()
        await eventually(lambda: has_stats(desk, channel, 2, 2))
        assert desk.news.empty()


async def test_while_redis_is_away_nobody_knows_and_all_else_goes_on(
    settings: Settings, people: People, own_valkey: embedded.Server
) -> None:
    buyer, agent, channel = await talking(people)
    redis = settings.redis.model_copy(update={"url": SecretStr(own_valkey.url)})
    node = await Node.start(settings.model_copy(update={"redis": redis}))
    async with node.live(agent.token) as desk:
        await watching(desk, channel, agent)
        own_valkey.stop()
        await eventually(lambda: is_unknown(desk, channel))
        async with node.live(buyer.token) as phone:
            await phone.subscribe(channel)
            with pytest.raises(LiveError) as refused:
                await phone.command("presence_stats", {"channel": channel})
            assert (refused.value.code, refused.value.message) == (100, "internal server error")
            said = {"conversation_id": channel.partition(":")[2], "client_id": "while-away", "message": "Selam"}
            await phone.rpc("chat.send", **said)
            assert (await desk.event("message.new"))["data"]["message"] == "Selam"
        with pytest.raises(Unavailable):
            await node.process.sockets._commands.presence.people(channel)  # type: ignore[arg-type]
    await node.stop()


async def test_who_came_while_redis_was_away_is_announced_when_it_is_back(
    settings: Settings, people: People, own_valkey: embedded.Server
) -> None:
    buyer, agent, channel = await talking(people)
    redis = settings.redis.model_copy(update={"url": SecretStr(own_valkey.url)})
    node = await Node.start(settings.model_copy(update={"redis": redis}))
    async with node.live(agent.token) as desk:
        await watching(desk, channel, agent)
        os.kill(own_valkey.pid, SIGSTOP)
        await eventually(lambda: is_unknown(desk, channel))
        async with node.live(buyer.token) as phone:
            await phone.subscribe(channel)
            await asyncio.sleep(1)
            assert desk.news.empty()
            os.kill(own_valkey.pid, SIGCONT)
            assert (await desk.hear(channel, "join"))["info"]["user"] == str(buyer.id)
            await eventually(lambda: has_stats(desk, channel, 2, 2))
        assert (await desk.hear(channel, "leave"))["info"]["user"] == str(buyer.id)
    await node.stop()


async def test_who_came_and_went_while_redis_was_away_is_not_announced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ephemeral, said = Ephemeral(settings.redis, Clock()), list[Any]()
    places = [Place(f"room:{uuid4()}", Occupant(str(uuid4()), str(uuid4()), "{}"), told=True) for _ in range(2)]
    here = Presence(ephemeral, lambda channel, _: said.append(channel))

    async def away(place: Place, seconds: float) -> int:
        raise Unavailable

    with monkeypatch.context() as while_away:
        while_away.setattr(ephemeral, "enter", away)
        for place in places:
            here.enter(place)
        await asyncio.sleep(0)
        here.leave(places[0])
    here.start()
    try:
        await eventually(lambda: announced(said))
        assert said == [places[1].room]
    finally:
        await here.close()
        await ephemeral.close()


async def announced(said: list[Any]) -> bool:
    return bool(said)


async def is_unknown(live: Live, channel: str) -> bool:
    try:
        await stats(live, channel)
    except LiveError as error:
        return error.code == 100
    return False
