"""The protocol as stock SDKs speak it, and what happens to whoever speaks it badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from centrifuge import Client, ClientEventHandler
from centrifuge.contexts import ServerPublicationContext, ServerSubscribedContext

from k2k.core.settings import Settings
from k2k.features.accounts.tokens import Tokens
from k2k.live.door import PATH
from tests.support import Live, LiveError, Node, People, Person


def expired_token(node: Node, person: Person) -> str:
    tokens = Tokens(node.settings.auth)
    return tokens.access(person.id, person.sign_in_id, node.process.db.clock.now() - timedelta(hours=1))  # type: ignore[arg-type]


def patient(settings: Settings, **live: Any) -> Settings:
    return settings.model_copy(update={"live": settings.live.model_copy(update=live)})


@pytest.fixture
async def impatient(settings: Settings) -> AsyncIterator[Node]:
    """A node that waits for nobody."""
    node = await Node.start(patient(settings, connect_seconds=0.2, ping_seconds=0.2, pong_seconds=0.2))
    yield node
    await node.stop()


async def frames(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """Everything the server says until it closes."""
    return [json.loads(line) async for message in socket for line in message.data.split("\n")]


# Connecting


async def test_a_connect_is_answered_with_all_an_sdk_needs(node: Node, people: People) -> None:
    person = await people.buyer()
    async with Live.open(node.api.base) as live:
        result = await live.connect(person.token)
    subscription = result["subs"][f"user:{person.id}"]
    assert result.keys() == {"client", "version", "ping", "pong", "expires", "ttl", "subs"}
    assert (result["pong"], result["expires"], 1700 < result["ttl"] <= 1800) == (True, True, True)
    assert subscription.keys() == {"recoverable", "positioned", "epoch", "offset"}


async def test_an_expired_token_is_told_from_a_wrong_one(node: Node, people: People) -> None:
    person, gone = await people.buyer(), await people.buyer()
    await node.api.post("/auth/logout", token=gone.token)
    for token, code in ((expired_token(node, person), 109), ("nonsense", 101), (gone.token, 101)):
        async with Live.open(node.api.base) as live:
            with pytest.raises(LiveError) as refused:
                await live.connect(token)
            assert refused.value.code == code
            assert await live.close_code() == 3000


async def test_what_follows_a_failed_connect_in_its_frame_is_not_looked_at(node: Node, people: People) -> None:
    person = await people.buyer()
    connect = {"id": 1, "connect": {"token": expired_token(node, person)}}
    subscribe = {"id": 2, "subscribe": {"channel": "listing:1", "flag": 1}}
    async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
        await socket.send_str(json.dumps(connect) + "\n" + json.dumps(subscribe))
        assert await frames(socket) == [{"id": 1, "error": {"code": 109, "message": "token expired"}}]
        assert socket.close_code == 3000


async def test_who_does_not_connect_in_time_is_sent_away_to_come_back(impatient: Node) -> None:
    async with Live.open(impatient.api.base) as live:
        assert await live.close_code() == 4401


async def test_who_does_not_answer_pings_is_closed_and_who_does_stays(impatient: Node, people: People) -> None:
    person = await people.buyer()
    connect = json.dumps({"id": 1, "connect": {"token": person.token}})
    async with impatient.live(person.token) as live:
        async with aiohttp.ClientSession() as session, session.ws_connect(impatient.api.base + PATH) as silent:
            await silent.send_str(connect)
            said = await frames(silent)
            assert (said[-2], said[-1]["push"]["disconnect"]["code"], silent.close_code) == ({}, 3012, 3012)
        assert (await live.rpc("me.get"))["id"] == str(person.id)


async def test_a_fresh_token_keeps_a_socket_open_and_an_old_one_ends_it(settings: Settings, people: People) -> None:
    node = await Node.start(patient(settings, expiry_grace_seconds=0.3))
    person, other = await people.buyer(), await people.buyer()
    tokens, now = Tokens(settings.auth), node.process.db.clock.now()
    short = tokens.access(person.id, person.sign_in_id, now - tokens.access_lifetime + timedelta(seconds=1.5))  # type: ignore[arg-type]
    async with node.live(short) as dying, node.live(short) as renewed:
        with pytest.raises(LiveError) as refused:
            await renewed.command("refresh", {"token": other.token})
        assert refused.value.code == 101
        answer = await renewed.command("refresh", {"token": person.token})
        assert (answer["expires"], answer["ttl"] > 1700) == (True, True)
        assert await dying.close_code() == 3005
        assert (await renewed.rpc("me.get"))["id"] == str(person.id)
    await node.stop()


# Operations


async def test_an_rpc_answers_what_the_route_answers(node: Node, people: People) -> None:
    person = await people.buyer()
    async with node.live(person.token) as live:
        assert await live.rpc("me.get") == (await node.api.get("/auth/me", token=person.token)).json


async def test_an_rpc_that_is_refused_says_why_in_full(node: Node, people: People) -> None:
    person = await people.buyer()
    async with node.live(person.token) as live:
        with pytest.raises(LiveError) as refused:
            await live.rpc("chat.send", conversation_id="x", client_id="y", text=1)
        assert refused.value.code == 1000
        pointers = {fault["pointer"] for fault in refused.value.problem["errors"]}
        assert pointers == {"/conversation_id", "/client_id", "/message", "/text"}
        with pytest.raises(LiveError) as foreign:
            await live.rpc("chat.send", conversation_id=str(uuid4()), client_id=uuid4().hex, message="Hello")
        assert (foreign.value.code, foreign.value.problem["status"]) == (1500, 404)
        with pytest.raises(LiveError) as denied:
            await live.rpc("lead.list")
        assert (denied.value.code, denied.value.problem["detail"]) == (1002, "Not enough permissions")


async def test_what_there_is_not_is_refused_and_the_socket_stays(node: Node, people: People) -> None:
    person, other = await people.buyer(), await people.buyer()
    async with node.live(person.token) as live:
        for kind, body, code in (
            ("rpc", {"method": "no.such"}, 104),
            ("rpc", {"method": "auth.login"}, 104),
            ("rpc", {"method": "me.get", "data": []}, 1000),
            ("rpc", {"method": "me.get", "data": {"id": 1}}, 1000),
            ("subscribe", {"channel": f"user:{person.id}"}, 105),
            ("subscribe", {"channel": f"user:{other.id}"}, 103),
            ("subscribe", {"channel": "x" * 300}, 102),
            ("publish", {"channel": f"user:{person.id}", "data": {}}, 103),
            ("presence", {"channel": f"user:{person.id}"}, 108),
            ("presence_stats", {"channel": f"user:{person.id}"}, 108),
            ("history", {"channel": f"user:{other.id}", "limit": -1}, 103),
        ):
            with pytest.raises(LiveError) as refused:
                await live.command(kind, body)
            assert refused.value.code == code, (kind, body)
        await live.send({"send": {"data": {}}})
        assert await live.command("unsubscribe", {"channel": "listing:1"}) == {}


# Bad frames

MALFORMED = {
    "half a command": '{"id":1,"rpc":',
    "not json": "hello",
    "an array": "[]",
    "a string": '"connect"',
    "deep": "[" * 100 + "]" * 100,
    "deep data": '{"id":1,"rpc":{"data":' + '{"a":' * 100 + "1" + "}" * 101 + "}",
    "nan": '{"id":1,"rpc":{"method":"me.get","data":{"a":NaN}}}',
    "lone surrogate": '{"id":1,"rpc":{"method":"\\ud800"}}',
    "unknown command": '{"id":1,"dance":{}}',
    "two commands": '{"id":1,"rpc":{},"refresh":{}}',
    "no command": '{"id":1}',
    "no id": '{"rpc":{"method":"me.get"}}',
    "id zero": '{"id":0,"rpc":{"method":"me.get"}}',
    "negative id": '{"id":-1,"rpc":{"method":"me.get"}}',
    "huge id": '{"id":1' + "0" * 400 + ',"rpc":{"method":"me.get"}}',
    "text id": '{"id":"1","rpc":{"method":"me.get"}}',
    "true id": '{"id":true,"rpc":{"method":"me.get"}}',
    "body a list": '{"id":1,"rpc":[1]}',
    "method a number": '{"id":1,"rpc":{"method":1}}',
    "second connect": '{"id":1,"connect":{"token":"x"}}',
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_frame_closes_its_socket_and_no_other(node: Node, people: People, what: str) -> None:
    person = await people.buyer()
    async with node.live(person.token) as bad, node.live(person.token) as good:
        await bad.socket.send_str(MALFORMED[what])
        assert await bad.close_code() == 3501
        assert (await good.rpc("me.get"))["id"] == str(person.id)


@pytest.mark.parametrize(
    "frame",
    [
        '{"id":1,"rpc":{"method":"me.get"}}',
        '{"id":1,"subscribe":{"channel":"x"}}',
        "{}",
        '{"id":1,"connect":{"token":1}}',
        '{"id":1,"connect":{"subs":{"user:1":{"recover":true,"offset":-1}}}}',
        '{"id":1,"connect":{"subs":{"user:1":{"recover":true,"offset":1.5}}}}',
        '{"id":1,"connect":{"subs":{"user:1":{"recover":true,"epoch":7}}}}',
    ],
)
async def test_before_a_good_connect_nothing_is_answered(node: Node, frame: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
        await socket.send_str(frame)
        assert await frames(socket) == []
        assert socket.close_code == 3501


async def test_text_that_cannot_be_stored_is_refused_by_name(node: Node, people: People) -> None:
    person = await people.buyer()
    async with node.live(person.token) as live:
        with pytest.raises(LiveError) as refused:
            await live.rpc("chat.send", conversation_id=str(uuid4()), client_id=uuid4().hex, message="a\x00b")
        assert [fault["code"] for fault in refused.value.problem["errors"]] == ["text-unstorable"]


async def test_frames_over_the_limit_and_binary_ones_are_refused(node: Node, people: People) -> None:
    person = await people.buyer()
    async with node.live(person.token) as large, node.live(person.token) as binary:
        await large.socket.send_str('{"send":{"data":"' + "x" * 65536 + '"}}')
        assert await large.close_code() == 1009
        await binary.socket.send_bytes(b"{}")
        assert await binary.close_code() == 3501


async def test_ten_thousand_commands_in_one_frame_end_the_socket(node: Node, people: People) -> None:
    person = await people.buyer()
    async with node.live(person.token) as other:
        async with node.live(person.token) as live:
            await live.socket.send_str("\n".join(["{}"] * 10_000))
            assert await live.close_code() == 4429
        assert (await other.rpc("me.get"))["id"] == str(person.id)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1"]
)
async def test_pages_of_others_may_not_open_a_socket(node: Node, origin: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(node.api.base + PATH, headers={"Origin": origin})
    assert refused.value.status == 403


async def test_own_pages_and_apps_may(node: Node, people: People) -> None:
    person = await people.buyer()
    async with Live.open(node.api.base, headers={"Origin": node.api.base}) as page:
        await page.connect(person.token)
    assert (await node.api.get(PATH, prefix="")).status == 426


# The official SDK


class Phone(ClientEventHandler):
    """What an app hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.subscribed: asyncio.Queue[ServerSubscribedContext] = asyncio.Queue()

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        self.heard.put_nowait(ctx.pub.data)

    async def on_subscribed(self, ctx: ServerSubscribedContext) -> None:
        self.subscribed.put_nowait(ctx)


async def test_the_official_sdk_refreshes_its_token_and_resumes_on_another_process(
    settings: Settings, node: Node, people: People
) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    first, second = await people.listing(agent), await people.listing(agent)
    other, asked = await Node.start(settings), 0

    async def fresh_token(_: object = None) -> str:
        nonlocal asked
        asked += 1
        return agent.token

    phone = Phone()
    address = other.api.base.replace("http", "ws") + PATH
    client = Client(address, events=phone, token=expired_token(node, agent), get_token=fresh_token)
    await client.connect()
    await client.ready(timeout=10)
    assert (asked, (await client.rpc("me.get", {})).data["id"]) == (1, str(agent.id))
    assert not (await phone.subscribed.get()).was_recovering
    await people.enquire(buyer, first)
    assert (await asyncio.wait_for(phone.heard.get(), 5))["data"]["listing_id"] == str(first)
    port = other.runner.addresses[0][1]
    await other.stop()
    await people.enquire(buyer, second)
    back = await Node.start(settings, port=port)
    resumed = await asyncio.wait_for(phone.subscribed.get(), 15)
    assert (resumed.was_recovering, resumed.recovered) == (True, True)
    assert (await asyncio.wait_for(phone.heard.get(), 5))["data"]["listing_id"] == str(second)
    await client.disconnect()
    await back.stop()
