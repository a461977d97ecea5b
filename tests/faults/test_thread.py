"""The main job while servers die: nothing that was committed is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import aiohttp
import pytest
from pydantic import SecretStr

from k2k.core.settings import Settings
from k2k.infra import embedded
from k2k.infra.streams import Numbered
from tests.support import Live, Node, People, Person, Subprocess, eventually, free_port


@pytest.fixture
async def fragile(settings: Settings, own_valkey: embedded.Server) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes joined by a Valkey that may be killed."""
    redis = settings.redis.model_copy(update={"url": SecretStr(own_valkey.url)})
    nodes = [await Node.start(settings.model_copy(update={"redis": redis})) for _ in range(2)]
    yield nodes[0], nodes[1]
    for node in nodes:
        await node.stop()


async def talk(people: People) -> tuple[Person, Person, str]:
    """A buyer, the agent who claimed, and their conversation."""
    agent, buyer = await people.agent(), await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    async with people._node.live(agent.token) as desk:
        await desk.rpc("lead.claim", lead_id=enquiry["lead_id"])
    return buyer, agent, enquiry["conversation_id"]


async def say(live: Live, conversation: str, text: str) -> None:
    await live.rpc("chat.send", conversation_id=conversation, client_id=uuid4().hex, message=text)


async def heard(live: Live, count: int) -> list[str]:
    """The texts of the next messages; Live itself refuses gaps and duplicates."""
    return [(await live.event("message.new"))["data"]["message"] for _ in range(count)]


async def test_valkey_dies_between_commit_and_publish_and_the_lead_still_arrives(
    fragile: tuple[Node, Node], own_valkey: embedded.Server
) -> None:
    here, there = fragile
    people = People(here)
    agent, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(agent)
    told = here.process.db.told

    def killed_before(events: Sequence[Numbered]) -> None:
        os.kill(own_valkey.pid, signal.SIGKILL)
        told(events)

    async with there.live(agent.token) as desk:
        here.process.db.told = killed_before
        enquiry = await people.enquire(buyer, listing)
        assert (await desk.event("lead.offered"))["data"]["lead_id"] == enquiry["lead_id"]
        assert not here.process.pubsub.up


async def test_without_valkey_and_after_its_return_nothing_is_missing(
    fragile: tuple[Node, Node], own_valkey: embedded.Server
) -> None:
    here, there = fragile
    buyer, agent, conversation = await talk(People(here))
    async with here.live(buyer.token) as phone, there.live(agent.token) as desk:
        os.kill(own_valkey.pid, signal.SIGSTOP)
        for number in range(20):
            await say(phone, conversation, f"frozen {number}")
        assert await heard(desk, 20) == [f"frozen {number}" for number in range(20)]
        os.kill(own_valkey.pid, signal.SIGCONT)
        for number in range(20):
            await say(phone, conversation, f"thawed {number}")
        assert await heard(desk, 20) == [f"thawed {number}" for number in range(20)]


async def test_messages_that_valkey_loses_without_a_word_arrive_by_the_tail(
    node: Node, second_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer, agent, conversation = await talk(people)
    async with node.live(buyer.token) as phone, second_node.live(agent.token) as desk:
        with monkeypatch.context() as losing:
            losing.setattr(node.process.pubsub, "publish", lambda _channel, _message: None)
            await say(phone, conversation, "lost on the way")
        await say(phone, conversation, "came at once")
        assert await heard(desk, 2) == ["lost on the way", "came at once"]


async def test_two_processes_serve_one_conversation(node: Node, second_node: Node, people: People) -> None:
    buyer, agent, conversation = await talk(people)
    async with node.live(buyer.token) as phone, second_node.live(agent.token) as desk:
        await asyncio.gather(
            *(say(phone, conversation, f"buyer {number}") for number in range(50)),
            *(say(desk, conversation, f"agent {number}") for number in range(50)),
        )
        on_phone, on_desk = await heard(phone, 100), await heard(desk, 100)
        stored = await phone.rpc("chat.messages", conversation_id=conversation, after_seq=1)
    assert on_phone == on_desk == [message["message"] for message in stored]
    assert [message["seq"] for message in stored] == list(range(2, 102))


async def test_a_dropped_socket_resumes_on_the_other_process_without_loss(
    node: Node, second_node: Node, people: People
) -> None:
    buyer, agent, conversation = await talk(people)
    channel, sent, received = f"user:{agent.id}", 0, []
    nodes = [node, second_node]
    async with node.live(buyer.token) as phone, nodes[1].live(agent.token) as first:
        epoch, offset = first.epoch, first.offset
        for turn in range(6):
            async with Live.open(nodes[turn % 2].api.base) as desk:
                result = await desk.connect(agent.token, since=(epoch, offset), channel=channel)
                replay = result["subs"][channel]
                assert replay["recovered"] is True
                assert [event["offset"] for event in replay["publications"]] == list(
                    range(offset + 1, replay["offset"] + 1)
                )
                received += [event["data"]["data"]["message"] for event in replay["publications"]]
                sending = asyncio.gather(*(say(phone, conversation, str(sent + number)) for number in range(10)))
                received += await heard(desk, 5)
                while not desk.events.empty():
                    received += await heard(desk, 1)
                epoch, offset = desk.epoch, desk.offset
                # The rest is on its way when the connection breaks without a goodbye.
                desk.socket._response.connection.transport.abort()  # type: ignore[union-attr]
                await sending
                sent += 10
    async with nodes[0].live(agent.token, since=(epoch, offset), channel=channel) as desk:
        received += [event["data"]["data"]["message"] for event in desk.subscription["publications"]]
    stored = await node.api.get(
        "/chat/messages", params={"conversation_id": conversation, "after_seq": "1"}, token=agent.token
    )
    assert received == [message["message"] for message in stored.json]
    assert sorted(received, key=int) == [str(number) for number in range(sent)]


async def test_a_process_killed_right_after_a_commit_loses_nothing(
    spawn: type[Subprocess], settings: Settings, node: Node, people: People
) -> None:
    buyer, agent, conversation = await talk(people)
    process = await spawn.start(settings, free_port())
    channel = f"user:{agent.id}"
    async with Live.open(process.api.base) as desk:
        await desk.connect(agent.token)
        position = desk.epoch, desk.offset
        said = {"conversation_id": conversation, "client_id": uuid4().hex, "message": "Are you there?"}
        assert (await process.api.post("/chat/messages", json=said, token=buyer.token)).status == 201
        await process.kill()
    async with Live.open(node.api.base) as desk:
        await desk.connect(agent.token, since=position, channel=channel)
        replayed = [event["data"]["data"]["message"] for event in desk.subscription["publications"]]
        # What this process had not heard of when it answered, its tail finds.
        assert (replayed or await heard(desk, 1)) == ["Are you there?"]
    repeated = await node.api.post("/chat/messages", json=said, token=buyer.token)
    assert (repeated.status, repeated.json["seq"], repeated.json["position"]) == (201, 2, None)


async def test_a_process_asked_to_stop_says_goodbye_and_ends_in_order(
    spawn: type[Subprocess], settings: Settings, people: People
) -> None:
    person = await people.buyer()
    process = await spawn.start(settings, free_port())
    async with Live.open(process.api.base) as live:
        await live.connect(person.token)
        assert await process.kill(signal.SIGTERM) == 0
        assert await live.close_code() == 3001


async def test_a_process_that_is_about_to_stop_lets_its_connections_go_first(
    settings: Settings, spawn: type[Subprocess]
) -> None:
    process = await spawn.start(settings, free_port())
    base = process.api.base
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{base}/api/v1/properties") as before:
            assert before.headers.get("Connection") != "close"
        process.process.send_signal(signal.SIGTERM)

        async def leaving() -> bool:
            async with http.get(f"{base}/health/ready") as answer:
                return (answer.status, answer.headers.get("Connection")) == (503, "close")

        await eventually(leaving, seconds=1)
        async with http.get(f"{base}/api/v1/properties") as after:
            assert (after.status, after.headers["Connection"]) == (200, "close")
    assert await asyncio.wait_for(process.process.wait(), 10) == 0


@pytest.mark.parametrize("valkey", ["up", "down"])
async def test_signing_out_closes_sockets_on_every_process(
    fragile: tuple[Node, Node], own_valkey: embedded.Server, valkey: str
) -> None:
    here, there = fragile
    person = await People(here).buyer()
    async with there.live(person.token) as live:
        if valkey == "down":
            os.kill(own_valkey.pid, signal.SIGKILL)
        assert (await here.api.post("/auth/logout", token=person.token)).status == 200
        async with asyncio.timeout(2):
            assert await live.close_code() == 3500
        assert (await there.api.get("/auth/me", token=person.token)).status == 401
