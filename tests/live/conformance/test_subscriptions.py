"""Following channels, what they carry, and what clients may do in them, with the official SDKs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from k2k.core.errors import Unavailable
from k2k.core.ids import AgencyId, Channel, UserId, agency_channel
from k2k.features.agents import service as agents
from k2k.features.agents.models import AgencyRole
from k2k.live import presence
from tests.live.conformance.app import App, Refused
from tests.live.conformance.relay import Relay
from tests.live.conformance.stories import noted, personal_of, position_of, talking
from tests.support import Node, People, Person, eventually

StartApp = Callable[[], Awaitable[App]]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes is missed at once."""
    monkeypatch.setattr(presence, "RETURN_SECONDS", 0.1)
    monkeypatch.setattr(presence, "DEPARTURES_SECONDS", 0.1)


async def connected(app: App, relay: Relay, token: str = "", data: Any = None) -> App:
    """The app, once it has connected."""
    await app.open(relay.address, token, data=data)
    await app.connect()
    await app.hear("connecting")
    await app.hear("connected")
    return app


# The personal channel with the app's own state


async def test_an_app_that_keeps_state_follows_from_its_position(
    app: App, relay: Relay, node: Node, people: People
) -> None:
    buyer = await people.buyer()
    channel = personal_of(buyer)
    await noted(node, channel, 1, 2, 3)
    top = await position_of(node, channel)
    await app.open(relay.address, buyer.token, data={"personal": "client"})
    await app.subscribe(channel, states=[(top.epoch, 1)])
    await app.connect()
    await app.hear("state", channel)
    subscribed = await app.hear("subscribed", channel)
    assert (subscribed.recovered, subscribed.epoch, subscribed.offset) == (True, top.epoch, 3)
    assert await app.hear_numbers(channel, 2, 3) == [2, 3]
    relay.cut()
    await noted(node, channel, 4)
    relay.mend()
    assert await app.hear_numbers(channel, 4) == [4]
    assert app.unheard("state", "unsubscribed", "publication") == 0


@pytest.mark.parametrize("because", ["another numbering", "too many missed"])
async def test_an_app_whose_position_cannot_be_recovered_fetches_its_state_again(
    app: App, relay: Relay, node: Node, people: People, because: str
) -> None:
    """Error 112, told only to those who asked for it by having a state."""
    buyer = await people.buyer()
    channel = personal_of(buyer)
    await noted(node, channel, *range(1001))
    top = await position_of(node, channel)
    stale = ("elsewhere", 1000) if because == "another numbering" else (top.epoch, 0)
    await app.open(relay.address, buyer.token, data={"personal": "client"})
    await app.subscribe(channel, states=[stale, (top.epoch, 1000)])
    await app.connect()
    for _ in range(2):
        await app.hear("state", channel)
    assert (await app.hear("subscribed", channel)).offset == 1001
    assert await app.hear_numbers(channel, 1000) == [1001]
    assert app.unheard("state", "subscribed", "unsubscribed", "publication") == 0


# Listings


@pytest.mark.parametrize("signed_in", [True, False])
async def test_whoever_looks_at_a_listing_hears_its_price(
    app: App, relay: Relay, node: Node, people: People, signed_in: bool
) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    channel = f"listing:{listing}"
    await connected(app, relay, seller.token if signed_in else "")
    await app.subscribe(channel)
    subscribed = await app.hear("subscribed") if not signed_in else await second(app, "subscribed")
    assert (subscribed.channel, subscribed.was_recovering) == (channel, False)
    for price in (41000, 42000):
        await node.api.put(f"/properties/{listing}", json={"price": price}, token=seller.token)
        heard = await app.hear("publication", channel)
        assert (heard.data["type"], heard.data["data"]["price"]) == ("listing.price_changed", price)
    relay.cut()
    await node.api.put(f"/properties/{listing}", json={"price": 43000}, token=seller.token)
    relay.mend()
    assert (await app.hear("publication", channel)).data["data"]["price"] == 43000
    assert app.unheard("publication", "unsubscribed") == 0


async def second(app: App, kind: str) -> Any:
    """The next but one: after that of the personal channel."""
    await app.hear(kind)
    return await app.hear(kind)


async def test_a_listing_that_is_withdrawn_ends_its_subscription_for_good(
    app: App, relay: Relay, node: Node, people: People
) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    channel = f"listing:{listing}"
    await connected(app, relay)
    await app.subscribe(channel)
    await app.hear("subscribed", channel)
    await node.api.delete(f"/properties/{listing}", token=seller.token)
    assert (await app.hear("publication", channel)).data["data"]["status"] == "deleted"
    assert (await app.hear("unsubscribed", channel)).code == 2103
    relay.cut()
    relay.mend()
    await app.hear("connected")
    assert app.unheard("subscribed", "unsubscribed", "publication") == 0


async def test_a_subscription_may_end_and_begin_again(app: App, relay: Relay, node: Node, people: People) -> None:
    seller = await people.agent()
    channel = f"listing:{await people.listing(seller)}"
    await connected(app, relay)
    await app.subscribe(channel)
    await app.hear("subscribed", channel)
    await app.unsubscribe(channel)
    assert (await app.hear("unsubscribed", channel)).code == 0
    await eventually(lambda: nobody_follows(node, channel))
    await noted(node, channel, 1)
    await app.subscribe_again(channel)
    again = await app.hear("subscribed", channel)
    if again.recovered:
        await app.hear_numbers(channel, 1)
    await noted(node, channel, 2)
    await app.hear_numbers(channel, 2)
    assert app.unheard("publication", "disconnected", "connecting") == 0


def lose_place(node: Node, channel: Channel) -> None:
    """Everybody who follows the channel on this process loses their place, as when events are no longer stored."""
    line = node.process.hub._lines[channel]
    line._lose([*line.live])


async def test_a_place_that_is_lost_is_taken_up_again(app: App, relay: Relay, node: Node, people: People) -> None:
    """Of a subscription by itself; of what the server granted by a new connection, as SDKs know no other way."""
    seller = await people.agent()
    channel, personal = f"listing:{await people.listing(seller)}", personal_of(seller)
    await connected(app, relay, seller.token)
    await app.hear("subscribed", personal)
    await app.subscribe(channel)
    await app.hear("subscribing", channel)
    await app.hear("subscribed", channel)
    lose_place(node, Channel(channel))
    assert (await app.hear("subscribing", channel)).code == 2500
    again = await app.hear("subscribed", channel)
    assert (again.was_recovering, again.recovered, app.unheard("connecting")) == (True, True, 0)
    await noted(node, channel, 1)
    await app.hear_numbers(channel, 1)
    lose_place(node, personal)
    assert (await app.hear("connecting")).code == 3010
    await app.hear("connected")
    assert [one.recovered for one in (await app.hear("subscribed"), await app.hear("subscribed"))] == [True, True]
    await noted(node, personal, 2)
    await app.hear_numbers(personal, 2)


async def nobody_follows(node: Node, channel: Any) -> bool:
    return not node.process.hub.members(channel)


# What is refused


async def test_what_may_not_be_followed_is_refused_for_good(app: App, relay: Relay, people: People) -> None:
    await connected(app, relay, (await people.buyer()).token)
    for channel, code in {
        "nonsense": 102,
        "listing:not-an-id": 102,
        "map:11/1/1": 102,
        f"listing:{uuid4()}": 103,
        f"conversation:{uuid4()}": 103,
        f"user:{uuid4()}": 103,
        "staff": 103,
    }.items():
        await app.subscribe(channel)
        assert (await app.hear("unsubscribed", channel)).code == code
    assert app.unheard("disconnected", "connecting") == 0


async def test_the_seventeenth_tile_of_the_map_is_one_too_many(app: App, relay: Relay) -> None:
    await connected(app, relay)
    for x in range(17):
        await app.subscribe(f"map:12/{x}/7")
    for x in range(16):
        await app.hear("subscribed", f"map:12/{x}/7")
    assert (await app.hear("unsubscribed", "map:12/16/7")).code == 106


async def test_what_may_not_be_published_is_refused(app: App, relay: Relay, people: People) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(agent)
    conversation = (await people.enquire(buyer, listing))["conversation_id"]
    await connected(app, relay, buyer.token)
    for channel in (f"listing:{listing}", f"conversation:{conversation}"):
        await app.subscribe(channel)
        await app.hear("subscribed")
    await app.hear("subscribed")
    for channel, data, code in (
        (personal_of(buyer), {"typing": True}, 103),
        (f"listing:{listing}", {"typing": True}, 103),
        (f"conversation:{uuid4()}", {"typing": True}, 103),
        (f"conversation:{conversation}", {"shouting": True}, 107),
        (f"conversation:{conversation}", "typing", 107),
    ):
        with pytest.raises(Refused) as refused:
            await app.publish(channel, data)
        assert (refused.value.code, refused.value.temporary) == (code, False)
    await app.publish(f"conversation:{conversation}", {"typing": True})


# Conversations


async def test_two_who_talk_see_each_other_come_type_and_go(
    start_app: StartApp, relay: Relay, people: People, brief: None
) -> None:
    buyer, agent, channel = await talking(people)
    desk = await connected(await start_app(), relay, agent.token, {"device": "desktop"})
    await desk.subscribe(channel, joins=True)
    assert (await desk.hear("join", channel)).user == str(agent.id)
    phone = await connected(await start_app(), relay, buyer.token, {"device": "phone"})
    await phone.subscribe(channel, joins=True)
    came = await desk.hear("join", channel)
    assert came.user == str(buyer.id)

    members = {one.user: one.described for one in await desk.presence(channel)}
    assert members == {str(agent.id): {"device": "desktop"}, str(buyer.id): {"device": "phone"}}
    assert await phone.presence_stats(channel) == (2, 2)

    await phone.publish(channel, {"typing": True})
    typed = await desk.hear("publication", channel)
    assert (typed.data, typed.user, typed.offset) == ({"typing": True}, str(buyer.id), None)

    await phone.disconnect()
    left = await desk.hear("leave", channel)
    assert (left.user, left.client) == (str(buyer.id), came.client)
    await eventually(lambda: counts(desk, channel, (1, 1)))


async def test_a_listing_tells_how_many_look_at_it_and_not_who(app: App, relay: Relay, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    channel = f"listing:{listing}"
    await connected(app, relay)
    await app.subscribe(channel)
    await app.hear("subscribed", channel)
    await eventually(lambda: counts(app, channel, (1, 1)))
    with pytest.raises(Refused) as refused:
        await app.presence(channel)
    assert refused.value.code == 108


async def counts(app: App, channel: str, expected: tuple[int, int]) -> bool:
    return await app.presence_stats(channel) == expected


# What the server grants


async def test_a_channel_is_granted_when_the_permission_comes_and_withdrawn_when_it_goes(
    app: App, relay: Relay, node: Node, people: People
) -> None:
    owner, agency = await people.agency()
    manager = await people.agent()
    channel = agency_channel(AgencyId(agency))
    await connected(app, relay, manager.token, {"follow": [channel]})
    await app.hear("subscribed", personal_of(manager))
    async with node.process.db.transaction() as tx:
        await agents.join_agency(tx, UserId(manager.id), AgencyId(agency), AgencyRole.manager)
    await app.hear("subscribed", channel)
    await noted(node, channel, 1)
    await app.hear("publication", personal_of(manager))
    await app.hear_numbers(channel, 1)
    await remove(node, owner, agency, manager)
    await app.hear("unsubscribed", channel)
    await noted(node, channel, 2)
    assert (await app.rpc("me.get", {}))["id"] == str(manager.id)
    rest = [await app.hear("publication", personal_of(manager)) for _ in range(app.unheard("publication"))]
    assert [one.data["type"] for one in rest] == ["access.lost"]
    assert app.unheard("connecting", "disconnected") == 0


async def remove(node: Node, owner: Person, agency: UUID, member: Person) -> None:
    found = await node.api.get(f"/agencies/{agency}")
    agent = (await node.api.get("/auth/me", token=member.token)).json
    ids = [one["id"] for one in found.json["members"] if one["user_id"] == agent["id"]]
    answer = await node.api.delete(f"/agencies/{agency}/members/{ids[0]}", token=owner.token)
    assert answer.status == 200, answer.json


# History


async def test_history_is_read_in_both_directions(app: App, relay: Relay, node: Node, people: People) -> None:
    buyer = await people.buyer()
    channel = personal_of(buyer)
    await noted(node, channel, *range(5))
    epoch = (await position_of(node, channel)).epoch
    await connected(app, relay, buyer.token)
    for asked, offsets in (
        ({}, []),
        ({"limit": 2}, [1, 2]),
        ({"limit": -1}, [1, 2, 3, 4, 5]),
        ({"limit": 2, "reverse": True}, [5, 4]),
        ({"limit": 10, "since": (epoch, 3)}, [4, 5]),
        ({"limit": 10, "since": (epoch, 3), "reverse": True}, [2, 1]),
        ({"limit": 10, "since": (epoch, 5)}, []),
    ):
        past = await app.history(channel, **asked)
        assert (past.offsets, past.epoch, past.offset) == (offsets, epoch, 5)
    for place, since, code in ((channel, ("elsewhere", 1), 112), (f"listing:{uuid4()}", None, 103)):
        with pytest.raises(Refused) as refused:
            await app.history(place, limit=1, since=since)
        assert refused.value.code == code


# Operations


async def test_operations_answer_or_say_why_not(
    app: App, relay: Relay, node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = await people.buyer()
    await connected(app, relay, buyer.token)
    assert (await app.rpc("me.get", {}))["id"] == str(buyer.id)
    for method, code in (("no.such", 104), ("lead.list", 1002), ("chat.send", 1000)):
        with pytest.raises(Refused) as refused:
            await app.rpc(method, {})
        assert (refused.value.code, refused.value.temporary) == (code, False)

    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable

    monkeypatch.setattr(node.process.sockets._commands.authenticator, "check", away)
    with pytest.raises(Refused) as refused:
        await app.rpc("me.get", {})
    assert (refused.value.code, refused.value.temporary) == (1006, True)


@pytest.mark.lacks(sdk="python", what="a method to send a message without an answer")
async def test_a_message_that_wants_no_answer_gets_none(app: App, relay: Relay, people: People) -> None:
    buyer = await people.buyer()
    await connected(app, relay, buyer.token)
    await app.send({"seen": True})
    assert (await app.rpc("me.get", {}))["id"] == str(buyer.id)
    assert app.unheard("error", "disconnected", "connecting") == 0
