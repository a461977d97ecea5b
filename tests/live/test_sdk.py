"""The official Python SDK as an app uses it: what it hears, what it recovers, and when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from centrifuge import CentrifugeError, Client, ClientEventHandler
from centrifuge.contexts import (
    ConnectedContext,
    DisconnectedContext,
    ErrorContext,
    ServerPublicationContext,
    ServerSubscribedContext,
)
from centrifuge.exceptions import ReplyError

from k2k.core.ids import SignInId, UserId, user_channel
from k2k.features.accounts.tokens import Tokens
from k2k.infra.streams import Event
from k2k.live.door import PATH
from k2k.live.session import Session
from tests.support import Node, People, Person, eventually


class Noted(Event):
    type: ClassVar[str] = "test.noted"
    number: int


async def note(node: Node, person: Person, *numbers: int) -> None:
    """Events to a person, in one transaction."""
    async with node.process.db.transaction() as tx:
        for number in numbers:
            tx.emit(Noted(number=number), to=[user_channel(UserId(person.id))])


class App(ClientEventHandler):
    """What an app is told."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self.connected = 0
        self.subscribed: asyncio.Queue[ServerSubscribedContext] = asyncio.Queue()
        self.disconnected: asyncio.Queue[DisconnectedContext] = asyncio.Queue()
        self.errors: list[ErrorContext] = []

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self.connected += 1

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        self.heard.put_nowait((ctx.pub.offset, ctx.pub.data["data"]))

    async def on_subscribed(self, ctx: ServerSubscribedContext) -> None:
        self.subscribed.put_nowait(ctx)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self.disconnected.put_nowait(ctx)

    async def on_error(self, ctx: ErrorContext) -> None:
        self.errors.append(ctx)

    async def hear(self, *numbers: int) -> list[int]:
        """The next events are these; their offsets."""
        offsets = []
        for number in numbers:
            offset, data = await asyncio.wait_for(self.heard.get(), 10)
            assert data == {"number": number}
            offsets.append(offset)
        return offsets


@asynccontextmanager
async def running(
    node: Node, app: App, token: str, get_token: Callable[[], Awaitable[str]] | None = None
) -> AsyncIterator[Client]:
    """A client of the SDK that has connected."""
    address = node.api.base.replace("http", "ws") + PATH
    client = Client(address, events=app, token=token, get_token=get_token, proxy=None, max_reconnect_delay=0.2)
    await client.connect()
    try:
        await client.ready(timeout=10)
        yield client
    finally:
        await client.disconnect()


def token_for(node: Node, person: Person, *, seconds: float) -> str:
    """An access token that ends in so many seconds, or ended so many ago."""
    tokens, now = Tokens(node.settings.auth), node.process.db.clock.now()
    issued = now - tokens.access_lifetime + timedelta(seconds=seconds)
    return tokens.access(UserId(person.id), SignInId(person.sign_in_id), issued)


async def test_an_app_hears_its_events_and_calls_operations(node: Node, people: People) -> None:
    person, app = await people.buyer(), App()
    async with running(node, app, person.token) as client:
        subscribed = await asyncio.wait_for(app.subscribed.get(), 5)
        assert (subscribed.channel, subscribed.recoverable, subscribed.positioned) == (f"user:{person.id}", True, True)
        assert not subscribed.was_recovering
        await note(node, person, *range(50))
        assert await app.hear(*range(50)) == list(range(1, 51))
        answers = await asyncio.gather(*(client.rpc("me.get", {}) for _ in range(20)))
        assert {answer.data["id"] for answer in answers} == {str(person.id)}
        for method, code in (("no.such", 104), ("lead.list", 1002), ("chat.send", 1000)):
            with pytest.raises(ReplyError) as refused:
                await client.rpc(method, {})
            assert (refused.value.code, refused.value.temporary) == (code, False)
        assert app.errors == []


async def test_an_expired_token_is_replaced_before_anything_is_lost(node: Node, people: People) -> None:
    person, app, asked = await people.buyer(), App(), 0

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        return person.token

    async with running(node, app, token_for(node, person, seconds=-60), get_token) as client:
        assert (asked, app.connected) == (1, 1)
        await note(node, person, 1)
        assert await app.hear(1) == [1]
        assert (await client.rpc("me.get", {})).data["id"] == str(person.id)


async def test_a_token_that_runs_out_is_refreshed_on_the_open_socket(node: Node, people: People) -> None:
    person, app, asked = await people.buyer(), App(), asyncio.Event()

    async def get_token() -> str:
        asked.set()
        return person.token

    async with running(node, app, token_for(node, person, seconds=1.9), get_token) as client:
        await asyncio.wait_for(asked.wait(), 5)
        (socket,) = node.process.hub.members(user_channel(UserId(person.id)))
        assert isinstance(socket, Session)

        async def is_refreshed() -> bool:
            assert socket.principal is not None
            return socket.principal.expires_at > node.process.db.clock.now() + timedelta(minutes=20)

        await eventually(is_refreshed, seconds=3)
        assert (await client.rpc("me.get", {})).data["id"] == str(person.id)
        assert (app.connected, app.errors) == (1, [])


@pytest.mark.parametrize("missed", [0, 30, 101, 1000])
async def test_a_connection_closed_under_the_app_is_made_up_for(node: Node, people: People, missed: int) -> None:
    person, app = await people.buyer(), App()
    async with running(node, app, person.token) as client:
        await asyncio.wait_for(app.subscribed.get(), 5)
        await note(node, person, -2, -1)
        await app.hear(-2, -1)
        assert client._conn is not None
        client._conn.transport.abort()
        await note(node, person, *range(missed))
        again = await asyncio.wait_for(app.subscribed.get(), 10)
        assert (again.was_recovering, again.recovered) == (True, True)
        assert await app.hear(*range(missed)) == list(range(3, missed + 3))
        await note(node, person, 1000)
        assert await app.hear(1000) == [missed + 3]
        assert (app.connected, app.heard.empty()) == (2, True)


async def test_signing_out_ends_the_app_for_good(node: Node, people: People) -> None:
    person, app = await people.buyer(), App()
    async with running(node, app, person.token) as client:
        await node.api.post("/auth/logout", token=person.token)
        ended = await asyncio.wait_for(app.disconnected.get(), 5)
        assert ended.code == 3500
        with pytest.raises(CentrifugeError):
            await client.rpc("me.get", {}, timeout=0.5)
        assert app.connected == 1


async def test_an_app_without_a_good_token_is_told_and_does_not_try_for_ever(node: Node) -> None:
    app = App()
    client = Client(node.api.base.replace("http", "ws") + PATH, events=app, token="nonsense", proxy=None)
    await client.connect()
    ended = await asyncio.wait_for(app.disconnected.get(), 5)
    assert (ended.code, app.connected) == (101, 0)
    await client.disconnect()
