"""Connecting, staying, being sent away and coming back, with the official SDKs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from k2k.core.ids import Channel
from k2k.core.settings import Settings
from k2k.live import wire
from k2k.live.command import Commands
from tests.live.conformance.app import App
from tests.live.conformance.relay import Relay
from tests.live.conformance.stories import noted, personal_of, session_of, token_for, with_live
from tests.support import Node, People, eventually

COME_BACK = [
    wire.SHUTDOWN,
    wire.SERVER_ERROR,
    wire.EXPIRED,
    wire.SLOW,
    wire.INSUFFICIENT_STATE,
    wire.NO_PONG,
    wire.NOT_CONNECTED,
    wire.TOO_MANY_COMMANDS,
]
STAY_AWAY = [wire.INVALID_TOKEN, wire.BAD_REQUEST, wire.CONNECTION_LIMIT]


# Tokens


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps are told that their token ends twenty seconds before it does: it is good however slow the machine."""
    told = Commands.ttl
    monkeypatch.setattr(Commands, "ttl", lambda self, principal: max(1, told(self, principal) - 20))


async def test_an_expired_token_is_replaced_and_what_waited_behind_it_is_subscribed(
    app: App, relay: Relay, node: Node, people: People
) -> None:
    """The JavaScript SDK sends connect and subscribes in one frame, of which the server answers the connect alone."""
    agent, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(agent)
    conversation = (await people.enquire(buyer, listing))["conversation_id"]
    channels = {f"listing:{listing}", f"conversation:{conversation}", "map:12/2500/2000"}
    await app.open(relay.address, token_for(node, buyer, seconds=-60), tokens=[buyer.token])
    for channel in channels:
        await app.subscribe(channel)
    await app.connect()
    await app.hear("token")
    await app.hear("connected")
    subscribed = [await app.hear("subscribed") for _ in range(4)]
    assert {one.channel for one in subscribed} == channels | {personal_of(buyer)}
    assert relay.opened == 2
    assert app.unheard("disconnected", "unsubscribed", "token") == 0


async def test_a_wrong_token_ends_the_app(app: App, relay: Relay) -> None:
    await app.open(relay.address, "nonsense")
    await app.connect()
    assert (await app.hear("disconnected")).code == 101
    assert (app.unheard("connected"), relay.opened) == (0, 1)


async def test_a_token_is_refreshed_on_the_open_socket(
    app: App, relay: Relay, node: Node, people: People, early: None
) -> None:
    buyer = await people.buyer()
    await app.open(relay.address, token_for(node, buyer, seconds=20), tokens=[buyer.token])
    await app.connect()
    await app.hear("connected")
    await app.hear("token")
    session = session_of(node, buyer)

    async def is_refreshed() -> bool:
        assert session.principal is not None
        return session.principal.expires_at > node.process.db.clock.now() + timedelta(minutes=20)

    await eventually(is_refreshed)
    assert (await app.rpc("me.get", {}))["id"] == str(buyer.id)
    assert (relay.opened, app.unheard("connected", "disconnected", "error")) == (1, 0)


@pytest.mark.parametrize(("has", "code"), [([], 1), (["nonsense"], 101)])
async def test_an_app_without_a_good_token_left_ends(
    app: App, relay: Relay, node: Node, people: People, early: None, has: list[str], code: int
) -> None:
    """Code 1 is the SDKs' own: their app says it is not authorized."""
    buyer = await people.buyer()
    await app.open(relay.address, token_for(node, buyer, seconds=20), tokens=has)
    await app.connect()
    await app.hear("connected")
    assert (await app.hear("disconnected")).code == code
    assert relay.opened == 1


# Closes


async def test_apps_come_back_after_the_closes_that_are_not_final(
    app: App, relay: Relay, node: Node, people: People
) -> None:
    buyer = await people.buyer()
    await app.open(relay.address, buyer.token)
    await app.connect()
    await app.hear("connecting")
    await app.hear("connected")
    for close in COME_BACK:
        session_of(node, buyer).cut(close)
        assert (await app.hear("connecting")).code == close.code
        await app.hear("connected")
        await eventually(lambda: has_sockets(node, buyer.id, 1))
    assert app.unheard("disconnected") == 0
    assert (await app.rpc("me.get", {}))["id"] == str(buyer.id)


async def has_sockets(node: Node, person: object, count: int) -> bool:
    return len(node.process.hub.members(Channel(f"user:{person}"))) == count


@pytest.mark.parametrize("close", STAY_AWAY, ids=lambda close: str(close.code))
async def test_apps_stay_away_after_the_closes_that_are_final(
    app: App, relay: Relay, node: Node, people: People, close: wire.Close
) -> None:
    buyer = await people.buyer()
    await app.open(relay.address, buyer.token)
    await app.connect()
    await app.hear("connected")
    session_of(node, buyer).cut(close)
    assert (await app.hear("disconnected")).code == close.code
    assert relay.opened == 1


async def test_signing_out_ends_the_app_on_every_device(
    start_app: Callable[[], Awaitable[App]], relay: Relay, node: Node, people: People
) -> None:
    buyer = await people.buyer()
    apps = [await start_app(), await start_app()]
    for app in apps:
        await app.open(relay.address, buyer.token, tokens=[buyer.token])
        await app.connect()
        await app.hear("connected")
    await node.api.post("/auth/logout", token=buyer.token)
    assert [(await app.hear("disconnected")).code for app in apps] == [3500, 3500]
    assert [app.unheard("token") for app in apps] == [0, 0]


async def test_a_process_that_stops_hands_its_apps_to_another_without_loss(
    app: App, relay: Relay, node: Node, settings: Settings, people: People
) -> None:
    buyer, leaving = await people.buyer(), await Node.start(settings)
    relay.mend(leaving)
    await app.open(relay.address, buyer.token)
    await app.connect()
    await app.hear("connecting")
    await app.hear("subscribed")
    await noted(leaving, personal_of(buyer), 1)
    assert await app.hear_numbers(personal_of(buyer), 1) == [1]
    relay.mend(node)
    await leaving.stop()
    assert (await app.hear("connecting")).code == 3001
    again = await app.hear("subscribed")
    await noted(node, personal_of(buyer), 2)
    assert (again.was_recovering, again.recovered) == (True, True)
    assert await app.hear_numbers(personal_of(buyer), 2) == [2]


async def test_pings_are_answered_and_keep_the_app(
    app: App, relay: Relay, settings: Settings, people: People, request: pytest.FixtureRequest
) -> None:
    """The server closes whoever owes it a pong; the SDK leaves a server whose pings stay away."""
    buyer, node = await people.buyer(), await Node.start(with_live(settings, ping_seconds=0.1, pong_seconds=1.0))
    relay.mend(node)
    ping = b"\x82\x01\x00" if "protobuf" in request.node.name else b"\x81\x02{}"

    async def answered() -> bool:
        """The next ping follows an answered one only."""
        return relay.received.count(ping) >= 3

    await app.open(relay.address, buyer.token)
    await app.connect()
    await app.hear("connected")
    await eventually(answered)
    assert (await app.rpc("me.get", {}))["id"] == str(buyer.id)
    assert (relay.opened, app.unheard("connected", "disconnected")) == (1, 0)
    await node.stop()


async def test_compressed_messages_are_understood(app: App, relay: Relay, settings: Settings, people: People) -> None:
    """Both SDKs offer compression by themselves; a frame of text that stands plain on the wire would be seen."""
    buyer, node = await people.buyer(), await Node.start(with_live(settings, compression=True))
    relay.mend(node)
    await app.open(relay.address, buyer.token)
    await app.connect()
    channel = (await app.hear("subscribed")).channel
    assert channel is not None
    await noted(node, channel, *range(300))
    assert await app.hear_numbers(channel, *range(300)) == list(range(1, 301))
    relay.cut()
    await noted(node, channel, *range(300, 500))
    relay.mend()
    assert await app.hear_numbers(channel, *range(300, 500)) == list(range(301, 501))
    assert b"permessage-deflate" in relay.received
    assert relay.received.count(b"test.noted") == 0
    assert (await app.rpc("me.get", {}))["id"] == str(buyer.id)
    assert app.unheard("publication", "disconnected") == 0
    await node.stop()


# Being away


@pytest.mark.parametrize("missed", [0, 250])
async def test_what_an_app_missed_comes_from_another_process(
    app: App, relay: Relay, node: Node, second_node: Node, people: People, missed: int
) -> None:
    buyer = await people.buyer()
    channel = personal_of(buyer)
    await app.open(relay.address, buyer.token)
    await app.connect()
    await app.hear("subscribed", channel)
    await noted(node, channel, -2, -1)
    await app.hear_numbers(channel, -2, -1)
    relay.cut()
    await noted(node, channel, *range(missed))
    relay.mend(second_node)
    again = await app.hear("subscribed", channel)
    assert (again.was_recovering, again.recovered) == (True, True)
    assert await app.hear_numbers(channel, *range(missed)) == list(range(3, missed + 3))
    await noted(node, channel, missed)
    assert await app.hear_numbers(channel, missed) == [missed + 3]
    assert app.unheard("publication", "disconnected") == 0


@pytest.mark.parametrize("because", ["too many", "no longer kept"])
async def test_an_app_that_missed_too_much_is_told_so(
    app: App, relay: Relay, node: Node, second_node: Node, people: People, because: str
) -> None:
    buyer, missed = await people.buyer(), 1001 if because == "too many" else 50
    channel = personal_of(buyer)
    await app.open(relay.address, buyer.token)
    await app.connect()
    await app.hear("subscribed", channel)
    await noted(node, channel, -1)
    await app.hear_numbers(channel, -1)
    relay.cut()
    await noted(node, channel, *range(missed))
    if because == "no longer kept":
        await forget(node, channel, 20)
    relay.mend(second_node)
    again = await app.hear("subscribed", channel)
    assert (again.was_recovering, again.recovered, again.offset) == (True, False, missed + 1)
    await noted(node, channel, missed)
    assert await app.hear_numbers(channel, missed) == [missed + 2]
    assert app.unheard("publication", "disconnected") == 0


async def forget(node: Node, channel: str, offset: int) -> None:
    """The events of a channel up to `offset` are no longer kept."""
    await node.process.db.records(
        'delete from events using streams where streams.id = stream_id and channel = $1 and "offset" <= $2',
        (channel, offset),
    )


async def test_an_app_that_comes_and_goes_hears_everything_once(
    app: App, relay: Relay, node: Node, second_node: Node, people: People
) -> None:
    """Events go on while the connection breaks off again and again, now to the one process, now to the other."""
    buyer = await people.buyer()
    channel = personal_of(buyer)
    await app.open(relay.address, buyer.token)
    await app.connect()
    await app.hear("subscribed", channel)

    async def write() -> None:
        for number in range(150):
            await noted(node, channel, number)

    writing = asyncio.create_task(write())
    for turn in range(4):
        relay.cut()
        relay.mend((second_node, node)[turn % 2])
        again = await app.hear("subscribed", channel)
        assert again.recovered
    await writing
    assert await app.hear_numbers(channel, *range(150)) == list(range(1, 151))
    assert app.unheard("publication") == 0


def test_every_close_is_told_of() -> None:
    """CLOSED goes with a refused connect, whose own code decides."""
    closes = {close for close in vars(wire).values() if isinstance(close, wire.Close)}
    assert closes == {*COME_BACK, *STAY_AWAY, wire.CLOSED}
