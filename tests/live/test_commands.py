"""What becomes of commands: in which order they run, how many at once, and what a fault of ours does to a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest
from structlog.testing import capture_logs

from k2k.core.errors import Unavailable
from k2k.core.ids import UserId, user_channel
from k2k.core.settings import Settings
from k2k.live.door import PATH
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Operation, Routes
from k2k.ops.validation import Answer
from tests.support import Live, LiveError, Node, People, Person, eventually


class Done(Answer):
    number: int


class Slow:
    """An rpc `test.slow` that ends when told, and what it saw."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.running = 0
        self.most = 0
        self.ended = 0

    def operation(self) -> Operation:
        routes = Routes("test")

        @routes.post("/test/slow", may=Permission.own_account, rpc="test.slow")
        async def slow(call: Call) -> Done:
            self.running += 1
            self.most = max(self.most, self.running)
            await self.may_end.wait()
            self.running -= 1
            self.ended += 1
            return Done(number=self.ended)

        return routes.operations[0]


@pytest.fixture
def slow(node: Node, monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setitem(node.process.sockets._commands.operations, "test.slow", slow.operation())
    return slow


async def runs(slow: Slow, count: int) -> bool:
    return slow.running == count


@asynccontextmanager
async def bare(node: Node, person: Person) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A connected socket without a reader."""
    async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
        await say(socket, {"id": 1, "connect": {"token": person.token}})
        assert (await lines(socket, 1))[0]["id"] == 1
        yield socket


async def say(socket: aiohttp.ClientWebSocketResponse, *commands: Any) -> None:
    await socket.send_str("\n".join(json.dumps(command) for command in commands))


async def lines(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[Any]:
    """The next `count` replies."""
    found: list[Any] = []
    while len(found) < count:
        frame = await asyncio.wait_for(socket.receive_str(), 10)
        found += [line for line in map(json.loads, frame.split("\n")) if line]
    assert len(found) == count
    return found


# Order, and how many at once


async def test_commands_of_one_frame_are_each_answered_by_their_id(node: Node, people: People) -> None:
    person = await people.buyer()
    async with bare(node, person) as socket:
        await say(
            socket,
            {"id": 4_294_967_295, "subscribe": {"channel": "nobody:1"}},
            {"id": 7, "rpc": {"method": "me.get"}},
            {"send": {"data": 1}},
            {"id": 7, "rpc": {"method": "me.get", "data": None}},
            {},
            {"id": 3, "unsubscribe": {"channel": "nobody:1"}},
        )
        replies = await lines(socket, 4)
        assert sorted(reply["id"] for reply in replies) == [3, 7, 7, 4_294_967_295]
        for reply in replies:
            if reply["id"] == 7:
                assert reply.keys() == {"id", "rpc"}
                assert reply["rpc"]["data"]["id"] == str(person.id)
        assert {"id": 3, "unsubscribe": {}} in replies


async def test_connect_and_what_follows_may_come_in_one_frame(node: Node, people: People) -> None:
    """Optimistic clients do not wait for the answer."""
    person = await people.buyer()
    async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
        await say(
            socket,
            {"id": 1, "connect": {"token": person.token, "data": None, "subs": None, "name": None}},
            {"id": 2, "rpc": {"method": "me.get", "data": {}}},
            {"id": 3, "subscribe": {"channel": f"user:{person.id}", "flag": 1}},
        )
        replies = await lines(socket, 3)
        assert replies[0]["id"] == 1
        assert {reply["id"]: set(reply) - {"id"} for reply in replies} == {1: {"connect"}, 2: {"rpc"}, 3: {"error"}}


async def test_eight_rpcs_run_at_once_and_the_ninth_waits(node: Node, people: People, slow: Slow) -> None:
    person = await people.buyer()
    async with bare(node, person) as socket:
        await say(socket, *({"id": id_, "rpc": {"method": "test.slow"}} for id_ in range(1, 13)))
        await eventually(lambda: runs(slow, 8))
        async with node.live(person.token) as other:  # another socket of the same person has its own eight
            assert (await other.rpc("me.get"))["id"] == str(person.id)
        assert (slow.running, slow.ended) == (8, 0)
        slow.may_end.set()
        assert sorted(reply["id"] for reply in await lines(socket, 12)) == list(range(1, 13))
        assert (slow.most, slow.ended) == (8, 12)


async def test_a_quick_rpc_overtakes_a_slow_one(node: Node, people: People, slow: Slow) -> None:
    person = await people.buyer()
    async with bare(node, person) as socket:
        await say(socket, {"id": 1, "rpc": {"method": "test.slow"}}, {"id": 2, "rpc": {"method": "me.get"}})
        assert (await lines(socket, 1))[0]["id"] == 2
        slow.may_end.set()
        assert await lines(socket, 1) == [{"id": 1, "rpc": {"data": {"number": 1}}}]


# Sockets that close in the middle


async def test_what_was_started_ends_though_the_socket_closes(
    node: Node, people: People, database_url: str, slow: Slow
) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    conversation = UUID(enquiry["conversation_id"])
    outside = await asyncpg.connect(database_url)
    held = outside.transaction()
    await held.start()
    await outside.execute("select from conversations where id = $1 for update", conversation)
    said = {"conversation_id": str(conversation), "client_id": uuid4().hex, "message": "The line breaks here"}
    async with bare(node, buyer) as socket:
        commands = [{"id": 2, "rpc": {"method": "test.slow"}}, {"id": 3, "rpc": {"method": "chat.send", "data": said}}]
        await say(socket, *commands)
        await eventually(lambda: runs(slow, 1))
        await eventually(lambda: waits(outside))
    await held.rollback()
    slow.may_end.set()
    await eventually(lambda: is_stored(outside, said["client_id"]))
    await eventually(lambda: runs(slow, 0))
    await outside.close()


async def waits(outside: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Whether some statement waits for the lock that this connection holds."""
    waiting: bool = await outside.fetchval(
        "select exists (select from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid)))"
    )
    return waiting


async def is_stored(outside: asyncpg.Connection[asyncpg.Record], client_id: str) -> bool:
    found: bool = await outside.fetchval("select exists (select from messages where client_id = $1)", client_id)
    return found


async def test_a_socket_that_closes_amid_many_rpcs_leaves_nothing_behind(
    node: Node, people: People, slow: Slow
) -> None:
    person = await people.buyer()
    channel = user_channel(UserId(person.id))
    async with bare(node, person) as socket:
        await say(socket, *({"id": id_, "rpc": {"method": "test.slow"}} for id_ in range(1, 9)))
        await eventually(lambda: runs(slow, 8))
        sockets = len(node.process.sockets._open)
    await eventually(lambda: has_members(node, person, 0))
    slow.may_end.set()
    await eventually(lambda: runs(slow, 0))
    assert slow.ended == 8
    assert node.process.hub.members(channel) == []
    assert len(node.process.sockets._open) < sockets


async def has_members(node: Node, person: Person, count: int) -> bool:
    return len(node.process.hub.members(user_channel(UserId(person.id)))) == count


async def test_a_revoked_socket_starts_no_further_rpcs(node: Node, people: People, slow: Slow) -> None:
    """What still waits for room when the sign-in ends is not begun, though it came in the same frame."""
    person = await people.buyer()
    async with bare(node, person) as socket:
        await say(socket, *({"id": id_, "rpc": {"method": "test.slow"}} for id_ in range(1, 13)))
        await eventually(lambda: runs(slow, 8))
        assert (await node.api.post("/auth/logout", token=person.token)).status == 200
        slow.may_end.set()
        await eventually(lambda: has_members(node, person, 0))
    assert slow.ended == 8


# Faults that are ours


async def test_an_unforeseen_fault_in_an_rpc_tells_its_request_id_and_nothing_inner(
    node: Node, people: People, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(call: Call) -> Done:
        raise RuntimeError("inner words")

    operations: Any = node.process.sockets._commands.operations
    monkeypatch.setitem(operations, "test.slow", replace(operations["test.slow"], handler=broken))
    person = await people.buyer()
    with capture_logs() as logged:
        async with node.live(person.token) as live:
            with pytest.raises(LiveError) as refused:
                await live.rpc("test.slow")
            assert (refused.value.code, refused.value.problem["status"]) == (1011, 500)
            assert "inner" not in refused.value.message
            assert (await live.rpc("me.get"))["id"] == str(person.id)
    (line,) = [line for line in logged if line["event"] == "unforeseen"]
    assert line["rpc"] == "test.slow"


async def test_an_unforeseen_fault_in_connect_sends_the_client_to_try_again(
    node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()

    async def broken(*_: Any) -> Any:
        raise RuntimeError("inner words")

    with capture_logs() as logged:
        async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
            with monkeypatch.context() as patched:
                patched.setattr(node.process.hub, "catch_up", broken)
                await say(socket, {"id": 1, "connect": {"token": person.token}})
                told = await asyncio.wait_for(socket.receive_json(), 5)
                message = await asyncio.wait_for(socket.receive(), 5)
            assert told == {"push": {"disconnect": {"code": 3004, "reason": "internal server error"}}}
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 3004
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["unforeseen"]
    async with node.live(person.token) as live:
        assert (await live.rpc("me.get"))["id"] == str(person.id)


@pytest.mark.parametrize("away", ["sign-ins", "streams"])
async def test_connecting_while_the_database_is_away_is_to_be_tried_again(
    node: Node, people: People, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    person = await people.buyer()

    async def unavailable(*_: Any, **__: Any) -> Any:
        raise Unavailable

    with monkeypatch.context() as patched:
        if away == "sign-ins":
            patched.setattr(node.process.sockets._commands.authenticator, "authenticate", unavailable)
        else:
            patched.setattr(node.process.hub._streams, "read", unavailable)
        async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
            await say(socket, {"id": 1, "connect": {"token": person.token}}, {"id": 2, "subscribe": {"channel": "x"}})
            (reply,) = await lines(socket, 1)
            assert reply == {"id": 1, "error": {"code": 100, "message": "internal server error", "temporary": True}}
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 3000
    assert node.process.hub.members(user_channel(UserId(person.id))) == []
    async with node.live(person.token) as live:
        assert (await live.rpc("me.get"))["id"] == str(person.id)


# Tokens


async def test_a_refused_refresh_leaves_the_socket_as_it_was(node: Node, people: People) -> None:
    person, other, gone = await people.buyer(), await people.buyer(), await people.buyer()
    await node.api.post("/auth/logout", token=gone.token)
    async with node.live(person.token) as live:
        for token in (other.token, gone.token, person.refresh_token, "", "x" * 3000, "\x00", None):
            with pytest.raises(LiveError) as refused:
                await live.command("refresh", {"token": token})
            assert (refused.value.code, refused.value.message) == (101, "unauthorized")
        answer = await live.command("refresh", {"token": person.token})
        assert answer.keys() == {"client", "version", "expires", "ttl"}
        assert (await live.rpc("me.get"))["id"] == str(person.id)


async def test_what_asks_for_channels_that_are_not_ones_own_learns_nothing_of_them(node: Node, people: People) -> None:
    """Neither connect nor subscribe tells whether somebody else's channel exists, or where it stands."""
    person, other = await people.buyer(), await people.buyer()
    async with node.live(other.token):
        pass
    strange = {"recover": True, "epoch": "", "offset": 0}
    foreign = [f"user:{other.id}", f"user:{uuid4()}", f"listing:{uuid4()}", f"conversation:{uuid4()}", "staff"]
    nonsense = ["x" * 300, "", "\x00", "user:*", f"USER:{person.id}", f"user:{person.id}".upper(), "staff:1"]
    channels = foreign + nonsense
    async with Live.open(node.api.base) as live:
        result = await live.command(
            "connect", {"token": person.token, "subs": dict.fromkeys(channels, strange), "data": {"follow": foreign}}
        )
        assert set(result["subs"]) == {f"user:{person.id}"}
        assert "recovered" not in result["subs"][f"user:{person.id}"]
        for channel in channels:
            with pytest.raises(LiveError) as refused:
                await live.command("subscribe", {"channel": channel, "recover": True, "epoch": "", "offset": 0})
            told = (103, "permission denied") if channel in foreign else (102, "unknown channel")
            assert (refused.value.code, refused.value.message) == told


@pytest.fixture
async def hasty(settings: Settings) -> AsyncIterator[Node]:
    """A node that takes a client for dead after 0.15 seconds."""
    live = settings.live.model_copy(update={"ping_seconds": 0.15, "pong_seconds": 0.15})
    node = await Node.start(settings.model_copy(update={"live": live}))
    yield node
    await node.stop()


async def test_pings_go_on_while_rpcs_fill_the_room(
    hasty: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose pongs are not read, because eight slow answers are ours to give first, is not taken for dead."""
    person, slow = await people.buyer(), Slow()
    operations: Any = hasty.process.sockets._commands.operations
    monkeypatch.setitem(operations, "test.slow", slow.operation())
    async with hasty.live(person.token) as live:
        await live.send(*({"id": id_, "rpc": {"method": "test.slow"}} for id_ in range(101, 110)))
        answers = [live._replies.setdefault(id_, asyncio.get_running_loop().create_future()) for id_ in range(101, 110)]
        await eventually(lambda: runs(slow, 8))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(live.closed.wait(), 0.8)
        slow.may_end.set()
        async with asyncio.timeout(5):
            assert len(await asyncio.gather(*answers)) == 9
