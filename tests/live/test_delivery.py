"""Whatever dies, lags, doubles or lies on the way: each client hears everything once and in order, or is told."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from k2k.core.errors import Unavailable
from k2k.core.ids import Channel, UserId, user_channel
from k2k.core.settings import Settings
from k2k.features.accounts.events import SessionRevoked
from k2k.features.accounts.service import revoke
from k2k.infra import embedded
from k2k.infra.pubsub import PubSub
from k2k.infra.streams import Event, Mark, Replay
from k2k.live.socket import UNTAKEN_BYTES, Socket
from tests.support import PASSWORD, Live, LiveError, Node, People, Person, Subprocess, eventually


class Told(Event):
    type: ClassVar[str] = "test.told"
    number: int
    filling: str = ""


async def tell(node: Node, person: Person, *numbers: int, filling: str = "") -> None:
    """Events to a person, in one transaction of this node."""
    async with node.process.db.transaction() as tx:
        for number in numbers:
            tx.emit(Told(number=number, filling=filling), to=[channel_of(person)])


def channel_of(person: Person) -> Channel:
    return user_channel(UserId(person.id))


async def hear(live: Live, *numbers: int) -> None:
    """The next events are these."""
    for number in numbers:
        assert (await live.event("test.told"))["data"]["number"] == number


async def well(live: Live) -> None:
    """The client is still served and was handed nothing it did not expect: its reader ends at the first gap."""
    assert (await live.rpc("me.get"))["is_active"] is True
    assert live.events.empty()


async def resumed(live: Live, person: Person, left: Live, token: str | None = None) -> list[dict[str, Any]]:
    """Connect from where `left` was; what was missed."""
    await live.connect(token or person.token, since=(left.epoch, left.offset), channel=channel_of(person))
    assert (live.subscription["was_recovering"], live.subscription["recovered"]) == (True, True)
    offsets = [published["offset"] for published in live.subscription["publications"]]
    assert offsets == list(range(left.offset + 1, left.offset + len(offsets) + 1))
    further = live.subscription["offset"] - left.offset - len(offsets)
    # What does not fit into the answer follows as pushes, whose order the client checks.
    pages = [await live.event() for _ in range(further)]
    return [published["data"] for published in live.subscription["publications"]] + pages


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Node]:
    node = await Node.start(settings)
    await eventually(lambda: is_up(node))
    try:
        yield node
    finally:
        await node.stop()


async def is_up(node: Node) -> bool:
    return node.process.pubsub.up


def with_redis(settings: Settings, server: embedded.Server, **live: Any) -> Settings:
    redis = settings.redis.model_copy(update={"url": SecretStr(server.url)})
    return with_live(settings, **live).model_copy(update={"redis": redis})


def with_live(settings: Settings, **live: Any) -> Settings:
    return settings.model_copy(update={"live": settings.live.model_copy(update=live)})


def kill(server: embedded.Server) -> None:
    """Kill -9, and gone when this returns."""
    os.kill(server.pid, signal.SIGKILL)
    server.stop()


def publish_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Redis silently loses what this node publishes; the list has what was lost."""
    lost: list[tuple[str, bytes]] = []
    monkeypatch.setattr(node.process.pubsub, "publish", lambda channel, message: lost.append((channel, message)))
    return lost


async def talking(people: People) -> tuple[Person, Person, str]:
    """A buyer and an agent who have a conversation; one message has been said."""
    agent, buyer = await people.agent(), await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    node = people._node
    assert (await node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=agent.token)).status == 200
    return buyer, agent, enquiry["conversation_id"]


async def say(live: Live, conversation: str, text: str) -> Any:
    return await live.rpc("chat.send", conversation_id=conversation, client_id=uuid4().hex, message=text)


def drop(live: Live) -> None:
    """The connection is gone, without a word."""
    assert live.socket._response.connection is not None
    transport = live.socket._response.connection.transport
    assert transport is not None
    transport.abort()


# Redis, PostgreSQL and processes that die


async def test_redis_is_killed_between_commit_and_publish_and_the_lead_arrives_on_another_process(
    settings: Settings, own_valkey: embedded.Server, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(agent)
    own = with_redis(settings, own_valkey)
    async with started(own) as a, started(own) as b, b.live(agent.token) as desk:
        publish, died = a.process.pubsub.publish, asyncio.Event()

        def die_first(channel: str, message: bytes) -> None:
            if not died.is_set():
                kill(own_valkey)
                died.set()
            publish(channel, message)

        monkeypatch.setattr(a.process.pubsub, "publish", die_first)
        wish = {"client_id": uuid4().hex, "message": "Is it free?"}
        start = time.monotonic()
        answer = await a.api.post(f"/listings/{listing}/enquiries", json=wish, token=buyer.token)
        assert (answer.status, died.is_set()) == (201, True)
        assert (await desk.event("lead.offered"))["data"]["lead_id"] == answer.json["lead_id"]
        assert time.monotonic() - start < 2
        await tell(a, agent, 1, 2)
        await hear(desk, 1, 2)
        await well(desk)


async def test_what_redis_loses_silently_the_tail_finds(
    node: Node, second_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    lost = publish_nothing(node, monkeypatch)
    async with second_node.live(person.token) as live:
        await tell(node, person, 0)
        await hear(live, 0)  # the tail has just looked: what comes now waits for its next look
        start = time.monotonic()
        await tell(node, person, 1)
        await tell(node, person, 2, 3)
        await hear(live, 1, 2, 3)
        assert time.monotonic() - start < 1.6
        assert len(lost) == 4
        await well(live)


async def test_redis_that_comes_back_is_used_again(
    settings: Settings, own_valkey: embedded.Server, people: People
) -> None:
    """Subscriptions are made anew on the new connection: nothing here could arrive by a tail."""
    person = await people.buyer()
    own = with_redis(settings, own_valkey, tail_seconds=60.0, tail_seconds_without_redis=60.0)
    async with started(own) as a, started(own) as b, b.live(person.token) as live:
        await tell(a, person, 1)
        await hear(live, 1)
        for process in (a.process, b.process):
            async with process.pubsub._redis.client() as client:
                await client.execute_command("CLIENT", "KILL", "USER", "default", "SKIPME", "yes")  # type: ignore[no-untyped-call]
            await eventually(lambda process=process: is_down(process.pubsub))  # type: ignore[misc]
            for both in (a, b):
                await eventually(lambda both=both: is_up(both))  # type: ignore[misc]
        await tell(a, person, 2)
        await hear(live, 2)
        await well(live)


async def is_down(link: PubSub) -> bool:
    return not link.up


async def test_channels_asked_for_while_redis_is_being_reached_are_heard(settings: Settings) -> None:
    link, heard = PubSub(settings.redis), set[str]()
    link.arrived = lambda channel, _message: heard.add(channel)
    link.start()
    asked: list[str] = []
    while not link.up:
        asked.append(f"test:{uuid4()}")
        await link.subscribe(asked[-1])
        await asyncio.sleep(0)

    async def all_heard() -> bool:
        for channel in asked:
            link.publish(channel, b"hello")
        return heard == set(asked)

    try:
        await eventually(all_heard, seconds=2)
    finally:
        await link.close()


async def test_a_message_that_nobody_understands_does_not_end_the_link(
    settings: Settings, node: Node, people: People
) -> None:
    person = await people.buyer()
    async with started(with_live(settings, tail_seconds=60.0)) as b, b.live(person.token) as live:
        arrived, seen = b.process.pubsub.arrived, asyncio.Semaphore(0)

        def counting(channel: str, message: bytes) -> None:
            try:
                arrived(channel, message)
            finally:
                seen.release()

        b.process.pubsub.arrived = counting
        strange = [
            b"",
            b"\n",
            b"no head",
            b"e 1\n{}",
            b"e one t 1.0\n{}",
            b"\xff 1 t 1.0\n{}",
            b"e 1 t t\n{}",
            b"e\n1\nt\n{}",
        ]
        strange += [
            f"{live.epoch} 0 {SessionRevoked.type} 1.0\n{body}".encode() for body in ("{}", "[]", '{"data":1}', "")
        ]
        for message in strange:
            await eventually(lambda: is_up(b))

            async def came(strange: bytes = message) -> bool:
                """Redis may lose what it is given: it is said until it was heard."""
                node.process.pubsub.publish(channel_of(person), strange)
                with suppress(TimeoutError):
                    await asyncio.wait_for(seen.acquire(), 1)
                    return True
                return False

            await eventually(came)
        await eventually(lambda: is_up(b))
        await tell(node, person, 1)
        await hear(live, 1)
        await well(live)


async def test_a_process_is_killed_right_after_its_answer_and_the_client_resumes_on_another(
    settings: Settings, node: Node, people: People, spawn: type[Subprocess]
) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(agent)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    doomed = await spawn.start(settings, port)
    async with Live.open(doomed.api.base) as phone, node.live(agent.token) as tablet:
        await phone.connect(agent.token)
        wish = {"client_id": uuid4().hex, "message": "Is it free?"}
        answer = await doomed.api.post(f"/listings/{listing}/enquiries", json=wish, token=buyer.token)
        assert answer.status == 201
        await doomed.kill()
        assert (await tablet.event("lead.offered"))["data"]["lead_id"] == answer.json["lead_id"]
        await phone.close_code()
        heard = [phone.events.get_nowait() for _ in range(phone.events.qsize())]
        async with Live.open(node.api.base) as again:
            heard += await resumed(again, agent, phone)
            assert [event["data"]["lead_id"] for event in heard] == [answer.json["lead_id"]]
            repeated = await node.api.post(f"/listings/{listing}/enquiries", json=wish, token=buyer.token)
            assert repeated.json["message"]["id"] == answer.json["message"]["id"]
            await well(again)
        await well(tablet)


async def test_a_gap_is_filled_once_the_database_can_be_asked_again(
    node: Node, second_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    lost = publish_nothing(node, monkeypatch)
    async with second_node.live(person.token) as live:
        streams, left = second_node.process.hub._streams, itertools.count(3, -1)
        read, tail = streams.read, streams.tail

        async def away(asking: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
            if next(left) > 0:
                raise Unavailable
            return await asking(*arguments)

        async def flaky_read(channel: Channel, since: int) -> Replay:
            found: Replay = await away(read, channel, since)
            return found

        async def flaky_tail(mark: Mark) -> Any:
            return await away(tail, mark)

        monkeypatch.setattr(streams, "read", flaky_read)
        monkeypatch.setattr(streams, "tail", flaky_tail)
        await tell(node, person, 1, 2, 3)
        second_node.process.pubsub.arrived(*lost[2])
        await hear(live, 1, 2, 3)
        assert next(left) < 0
        await well(live)


async def test_a_transaction_that_commits_late_is_found_though_later_ones_were_seen(
    settings: Settings, node: Node, people: People, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are older than the tail's snapshot by time, number and transaction id."""
    patient, other = await people.buyer(), await people.buyer()
    outside = await asyncpg.connect(database_url)
    async with started(with_live(settings, tail_seconds=0.05)) as b, b.live(patient.token) as live:
        late = outside.transaction()
        await late.start()
        announced = '[{"type": "test.told", "to": ["%s"], "data": {"number": 1, "filling": ""}}]'
        await outside.fetch("select * from emit($1)", announced % channel_of(patient))
        streams, looks = b.process.hub._streams, asyncio.Semaphore(0)
        tail = streams.tail

        async def counted(mark: Mark) -> Any:
            found = await tail(mark)
            looks.release()
            return found

        monkeypatch.setattr(streams, "tail", counted)
        for number in range(3):
            await tell(node, other, number)
            await looks.acquire()
            await looks.acquire()
        assert live.events.empty()
        await late.commit()
        await hear(live, 1)
        await well(live)
    await outside.close()


# Sockets that come and go


async def test_a_dropped_socket_resumes_on_the_other_process_while_messages_keep_coming(
    node: Node, second_node: Node, people: People
) -> None:
    buyer, agent, conversation = await talking(people)
    last_seq = 91
    heard: list[int] = []
    async with node.live(agent.token) as left:
        pass
    async with node.live(buyer.token) as phone:
        sending = asyncio.create_task(send_slowly(phone, conversation, last_seq - 1))
        homes = itertools.cycle((second_node, node))
        while last_seq not in heard:
            async with Live.open(next(homes).api.base) as live:
                heard += [event["data"]["seq"] for event in await resumed(live, agent, left)]
                for _ in range(min(7, last_seq - max(heard, default=1))):
                    heard.append((await live.event("message.new"))["data"]["seq"])
                drop(live)
                await live.close_code()
                heard += [live.events.get_nowait()["data"]["seq"] for _ in range(live.events.qsize())]
                left = live
        await sending
    assert heard == list(range(2, last_seq + 1))


async def send_slowly(phone: Live, conversation: str, many: int) -> None:
    for number in range(many):
        await say(phone, conversation, f"message {number}")


async def test_two_processes_serve_one_conversation_and_both_sides_see_the_same(
    node: Node, second_node: Node, people: People
) -> None:
    buyer, agent, conversation = await talking(people)
    many = 100
    async with node.live(buyer.token) as phone, second_node.live(agent.token) as desk:
        said = await asyncio.gather(
            *(
                say(side, conversation, f"{name} {number}")
                for number in range(many)
                for side, name in ((phone, "buyer"), (desk, "agent"))
            )
        )
        expected = {message["seq"]: (message["id"], message["message"]) for message in said}
        assert sorted(expected) == list(range(2, 2 * many + 2))
        for side in (phone, desk):
            heard = [(await side.event("message.new"))["data"] for _ in range(2 * many)]
            assert [event["seq"] for event in heard] == list(range(2, 2 * many + 2))
            assert {event["seq"]: (event["message_id"], event["message"]) for event in heard} == expected
            await well(side)
        for side, person in ((phone, buyer), (desk, agent)):
            own = [message for message in said if message["sender_id"] == str(person.id)]
            places = [message["position"]["offset"] for message in sorted(own, key=lambda message: message["seq"])]
            assert places == sorted(set(places))
            assert all(message["position"]["epoch"] == side.epoch for message in own)


@pytest.fixture
async def blind_node(settings: Settings) -> AsyncIterator[Node]:
    """A process whose tail never looks: what it hears came by Redis, or by reading its gaps."""
    async with started(with_live(settings, tail_seconds=60.0, tail_seconds_without_redis=60.0)) as node:
        yield node


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_messages_out_of_order_and_doubled_reach_the_client_in_order_and_once(
    node: Node, blind_node: Node, people: People, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    person, chance = await people.buyer(), Random(seed)  # noqa: S311 - shuffles
    lost = publish_nothing(node, monkeypatch)
    async with blind_node.live(person.token) as live:
        await tell(node, person, *range(30))
        messages = lost + chance.choices(lost, k=30)
        chance.shuffle(messages)
        for message in messages:
            blind_node.process.pubsub.arrived(*message)
        await hear(live, *range(30))
        await well(live)


async def test_a_lost_message_is_fetched_before_anything_newer_is_shown(
    node: Node, blind_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    lost = publish_nothing(node, monkeypatch)
    async with blind_node.live(person.token) as live:
        await tell(node, person, *range(10))
        for place, message in enumerate(lost):
            if place not in (0, 4, 5):
                blind_node.process.pubsub.arrived(*message)
        await hear(live, *range(10))
        await well(live)


async def test_a_message_of_an_offset_that_does_not_exist_holds_nobody_up(
    node: Node, blind_node: Node, people: People
) -> None:
    person = await people.buyer()
    async with blind_node.live(person.token) as live:
        nonsense = f"{live.epoch} 5000 test.told 1.0\n" + '{"data": "never happened"}'
        blind_node.process.pubsub.arrived(channel_of(person), nonsense.encode())
        await tell(node, person, 1, 2)
        await hear(live, 1, 2)
        await well(live)
        await eventually(lambda: is_filled(blind_node, person), seconds=2)


async def is_filled(node: Node, person: Person) -> bool:
    """Nothing is being read for the person's channel any more."""
    return channel_of(person) not in node.process.hub._filling


async def test_a_message_of_another_numbering_sends_the_client_to_fetch_its_state(
    node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    async with second_node.live(person.token) as live:
        second_node.process.pubsub.arrived(channel_of(person), b'ffff.1 1 test.told 1.0\n{"data": 1}')
        assert await live.close_code() == 3010
    async with Live.open(second_node.api.base) as again:
        await again.connect(person.token, since=("ffff.1", 1), channel=channel_of(person))
        assert (again.subscription["recovered"], again.subscription["publications"]) == (False, [])
        await tell(node, person, 1)
        await hear(again, 1)
        await well(again)


@pytest.mark.parametrize("home", ["cold", "warm"])
@pytest.mark.parametrize(
    ("missed", "recovered"), [(0, True), (1, True), (64, True), (65, True), (101, True), (1000, True), (1001, False)]
)
async def test_as_many_as_the_settings_say_are_replayed_and_no_more(
    node: Node, second_node: Node, people: People, missed: int, recovered: bool, home: str
) -> None:
    """Whether this process carried them and remembers some, or never heard of them."""
    person = await people.buyer()
    async with node.live(person.token) as left:
        pass
    await tell(node, person, *range(missed))
    async with Live.open((node if home == "warm" else second_node).api.base) as live:
        if recovered:
            told = await resumed(live, person, left)
            assert [event["data"]["number"] for event in told] == list(range(missed))
            assert len(live.subscription["publications"]) == min(missed, 100)
        else:
            await live.connect(person.token, since=(left.epoch, left.offset), channel=channel_of(person))
            assert live.subscription["was_recovering"]
            assert (live.subscription["recovered"], live.subscription["publications"]) == (False, [])
        assert live.offset == left.offset + missed
        await tell(node, person, 7)
        await hear(live, 7)
        await well(live)


@pytest.mark.parametrize("place", ["another numbering", "the future", "the far future"])
@pytest.mark.parametrize("home", ["cold", "warm"])
async def test_a_position_that_there_is_not_is_not_recovered_and_live_goes_on_from_the_top(
    node: Node, second_node: Node, people: People, place: str, home: str
) -> None:
    person = await people.buyer()
    await tell(node, person, 1, 2, 3)
    async with node.live(person.token) as known:
        top = known.offset
    since = {
        "another numbering": ("0000.7", 2),
        "the future": (known.epoch, top + 1),
        "the far future": (known.epoch, 2**63 - 1),
    }[place]
    async with Live.open((node if home == "warm" else second_node).api.base) as live:
        await live.connect(person.token, since=since, channel=channel_of(person))
        assert (live.subscription["was_recovering"], live.subscription["recovered"]) == (True, False)
        assert (live.subscription["publications"], live.epoch, live.offset) == ([], known.epoch, top)
        await tell(node, person, 4)
        await hear(live, 4)
        await well(live)


async def test_a_client_of_another_process_that_is_ahead_of_this_one_misses_nothing(
    node: Node, second_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process has heard nothing of more events than can be recovered when a client joins that knows them all."""
    person = await people.buyer()
    monkeypatch.setattr(second_node.process.hub._streams, "reach", 100)
    publish_nothing(node, monkeypatch)
    streams = second_node.process.hub._streams
    read, tail = streams.read, streams.tail
    async with second_node.live(person.token) as behind, node.live(person.token) as ahead:
        monkeypatch.setattr(streams, "tail", nothing)
        await tell(node, person, *range(150))
        await hear(ahead, *range(150))

        async def read_late(channel: Channel, since: int) -> Replay:
            """The line's own gap is read when three more have been told."""
            if since == behind.offset:
                await tell(node, person, 150, 151, 152)
            return await read(channel, since)

        monkeypatch.setattr(streams, "read", read_late)
        async with Live.open(second_node.api.base) as moved:
            await moved.connect(person.token, since=(ahead.epoch, ahead.offset), channel=channel_of(person))
            assert await behind.close_code() == 3010
            monkeypatch.setattr(streams, "tail", tail)
            await tell(node, person, 153)
            heard = asyncio.create_task(hear(moved, 150, 151, 152, 153))
            closed = asyncio.create_task(moved.close_code())
            await asyncio.wait({heard, closed}, return_when=asyncio.FIRST_COMPLETED)
            # Either it hears all of them, or it is sent to come back from where it is.
            assert (closed.done() and closed.result() == 3010) or (heard.done() and heard.exception() is None)
            for task in (heard, closed):
                task.cancel()
            await asyncio.gather(heard, closed, return_exceptions=True)


async def nothing(mark: Mark) -> tuple[Mark, list[Any]]:
    return mark, []


# Revocation


@pytest.mark.parametrize("redis", ["up", "silent", "killed"])
async def test_signing_out_cuts_the_socket_on_another_process_within_two_seconds(
    settings: Settings, own_valkey: embedded.Server, people: People, monkeypatch: pytest.MonkeyPatch, redis: str
) -> None:
    person, stranger = await people.buyer(), await people.buyer()
    own = with_redis(settings, own_valkey)
    async with started(own) as a, started(own) as b, b.live(person.token) as live, b.live(stranger.token) as other:
        if redis == "killed":
            kill(own_valkey)
        elif redis == "silent":
            publish_nothing(a, monkeypatch)
        start = time.monotonic()
        assert (await a.api.post("/auth/logout", token=person.token)).status == 200
        assert await live.close_code() == 3500
        assert time.monotonic() - start < 2
        await well(other)


async def test_one_sign_in_ends_and_the_persons_other_device_stays(
    node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    token = await sign_in_again(node, person)
    async with second_node.live(person.token) as lost, second_node.live(token) as kept:
        await node.api.post("/auth/logout", token=person.token)
        assert await lost.close_code() == 3500
        assert (await kept.event("session.revoked"))["data"]["sign_in_id"] == str(person.sign_in_id)
        await well(kept)


@pytest.mark.parametrize("home", ["cold", "warm"])
async def test_the_end_of_an_old_sign_in_in_a_replay_does_not_cut_the_new_one(
    node: Node, second_node: Node, people: People, home: str
) -> None:
    person = await people.buyer()
    async with node.live(person.token) as left:
        pass
    token = await sign_in_again(node, person)
    await node.api.post("/auth/logout", token=person.token)
    async with Live.open((node if home == "warm" else second_node).api.base) as live:
        missed = await resumed(live, person, left, token)
        assert [event["type"] for event in missed] == ["session.revoked"]
        await tell(node, person, 1)
        await hear(live, 1)
        await well(live)


async def test_a_sign_in_that_has_just_ended_cannot_connect_where_it_was_just_seen_alive(
    settings: Settings, node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process remembers the sign-in for a second and has no line that would hear of its end."""
    person = await people.buyer()
    async with started(settings) as b:
        assert (await b.api.get("/auth/me", token=person.token)).status == 200
        await node.api.post("/auth/logout", token=person.token)
        async with Live.open(b.api.base) as live:
            start = time.monotonic()
            try:
                await live.connect(person.token)
            except LiveError as error:
                assert error.code == 101  # noqa: PT017 - being refused is one of two right answers
            else:
                assert await live.close_code() == 3500
            assert time.monotonic() - start < 2


async def test_another_devices_replay_does_not_hide_the_end_of_a_sign_in(
    settings: Settings, node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The join of the second device reads the event before Redis or the tail tell of it."""
    person = await people.buyer()
    token = await sign_in_again(node, person)
    publish_nothing(node, monkeypatch)
    async with started(settings) as b, b.live(person.token) as first:
        await tell(node, person, 1)
        await hear(first, 1)  # by the tail, which so has just looked
        await node.api.post("/auth/logout", token=person.token)
        async with Live.open(b.api.base) as second:
            start = time.monotonic()
            # Without an epoch the answer cannot come from the line's memory: the stream is read.
            await second.connect(token, since=("", first.offset), channel=channel_of(person))
            missed = [published["data"]["type"] for published in second.subscription["publications"]]
            assert missed == ["session.revoked"]
            assert await first.close_code() == 3500
            assert time.monotonic() - start < 2
            await well(second)


async def sign_in_again(node: Node, person: Person) -> str:
    """An access token of another sign-in of the same person."""
    answer = await node.api.post("/auth/login", json={"email": person.email, "password": PASSWORD})
    assert answer.status == 200
    return str(answer.json["access_token"])


# Slow readers


def only_socket(node: Node) -> Socket:
    (connection,) = node.process.sockets._open
    return connection.socket


def stall(live: Live) -> None:
    """The client reads nothing any more."""
    assert live.socket._response.connection is not None
    transport = live.socket._response.connection.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()


async def clog(node: Node, person: Person, served: Socket) -> int:
    """Tell so much that the writer waits for the client, and less than what the queue holds. How many were told."""
    for number in range(90):
        await tell(node, person, number, filling="x" * 8000)
        for _ in range(5):
            await asyncio.sleep(0)
        if served._queue and served._transport.get_write_buffer_size() > UNTAKEN_BYTES:
            return number + 1
    raise AssertionError("the client's buffers took everything")


async def test_a_client_that_does_not_read_is_cut_and_others_are_not_held_up(
    settings: Settings, people: People
) -> None:
    person, many = await people.buyer(), 95
    async with started(settings) as home, home.live(person.token) as slow:
        served = only_socket(home)
        stall(slow)
        async with home.live(person.token) as quick:
            highest = 0
            for number in range(many):
                await tell(home, person, number, filling="x" * 8000)
                await hear(quick, number)
                highest = max(highest, served._size + served._transport.get_write_buffer_size())
            await eventually(lambda: has_sockets(home, 1))
            assert highest < (256 + 3 * 64 + 64) * 1024
            await well(quick)
        async with Live.open(home.api.base) as again:
            missed = await resumed(again, person, slow)
            assert [event["data"]["number"] for event in missed] == list(range(many))
            await well(again)


async def has_sockets(node: Node, count: int) -> bool:
    return node.process.sockets.open_sockets == count


@pytest.mark.parametrize("home", ["cold", "warm"])
async def test_a_client_that_missed_long_texts_resumes(
    node: Node, second_node: Node, people: People, home: str
) -> None:
    """As many as a replay holds, each of the length that chat allows, in letters of three bytes."""
    person = await people.buyer()
    async with node.live(person.token) as left:
        pass
    for number in range(60):
        await tell(node, person, number, filling="ሰ" * 4000)
    async with Live.open((node if home == "warm" else second_node).api.base) as live:
        missed = await resumed(live, person, left)
        assert [event["data"]["number"] for event in missed] == list(range(60))
        await tell(node, person, 60)
        await hear(live, 60)
        await well(live)


async def test_many_events_of_one_moment_do_not_make_a_reading_client_a_slow_one(
    node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    async with node.live(person.token) as here, second_node.live(person.token) as there:
        await tell(node, person, *range(400))
        for live in (here, there):
            await hear(live, *range(400))
            await well(live)


@pytest.mark.parametrize("because", ["no pong", "revoked"])
async def test_a_client_that_does_not_read_can_be_sent_away(settings: Settings, people: People, because: str) -> None:
    person = await people.buyer()
    quick = with_live(settings, ping_seconds=0.3, pong_seconds=0.3) if because == "no pong" else settings
    async with started(quick) as home, home.live(person.token) as live:
        served = only_socket(home)
        stall(live)
        await clog(home, person, served)
        if because == "revoked":
            await home.api.post("/auth/logout", token=person.token)
        try:
            await eventually(lambda: has_sockets(home, 0))
        finally:
            drop(live)


async def test_a_client_that_does_not_read_does_not_keep_a_process_from_stopping(
    settings: Settings, people: People
) -> None:
    person = await people.buyer()
    home = await Node.start(settings)
    async with home.live(person.token) as live:
        served = only_socket(home)
        stall(live)
        await clog(home, person, served)
        stopping = asyncio.create_task(home.stop())
        await asyncio.wait({stopping}, timeout=6)
        in_time = stopping.done()
        drop(live)
    await stopping
    assert in_time


async def test_a_process_that_stops_sends_everybody_away_to_come_back(settings: Settings, people: People) -> None:
    first, second = await people.buyer(), await people.buyer()
    home = await Node.start(settings)
    async with home.live(first.token) as one, home.live(second.token) as two, Live.open(home.api.base) as unconnected:
        await home.stop()
        assert [await live.close_code() for live in (one, two, unconnected)] == [3001, 3001, 3001]


async def test_a_socket_that_opens_while_the_process_stops_is_sent_away_too(settings: Settings, people: People) -> None:
    person = await people.buyer()
    async with started(settings) as home, home.live(person.token) as before:
        await home.process.sockets.shut_down()
        assert await before.close_code() == 3001
        async with Live.open(home.api.base) as late, asyncio.timeout(3):
            assert await late.close_code() == 3001


# Texts


@pytest.mark.parametrize("home", ["a process that did not carry it", "the process that carried it"])
@pytest.mark.parametrize(("change", "shown"), [("edited", "Better words"), ("removed", None)])
async def test_a_replayed_message_has_todays_text(
    node: Node, second_node: Node, people: People, database_url: str, home: str, change: str, shown: str | None
) -> None:
    buyer, agent, conversation = await talking(people)
    async with node.live(agent.token) as left:
        pass
    async with node.live(buyer.token) as phone, node.live(agent.token) as witness:
        said = await say(phone, conversation, "First words")
        assert (await witness.event("message.new"))["data"]["message"] == "First words"
    outside = await asyncpg.connect(database_url)
    if change == "edited":
        await outside.execute("update messages set message = $2 where id = $1", UUID(said["id"]), shown)
    else:
        await outside.execute("delete from messages where id = $1", UUID(said["id"]))
    await outside.close()
    async with Live.open((node if home == "the process that carried it" else second_node).api.base) as again:
        (missed,) = await resumed(again, agent, left)
        assert (missed["data"]["message_id"], missed["data"]["message"]) == (said["id"], shown)


async def test_revoking_by_the_service_is_told_like_signing_out(node: Node, second_node: Node, people: People) -> None:
    """A stolen refresh token ends the sign-in wherever it is used: no door of the socket's process is involved."""
    person = await people.buyer()
    async with second_node.live(person.token) as live:
        async with node.process.db.transaction() as tx:
            await revoke(tx, person.sign_in_id, "refresh-token-reused")  # type: ignore[arg-type]
        assert await live.close_code() == 3500
