"""The database is restored, or another server takes over: whoever listens is told that their place is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import asyncpg
import psycopg
import pytest
from pydantic import SecretStr

from k2k.core.errors import Unavailable
from k2k.core.ids import Channel
from k2k.core.settings import Settings
from k2k.infra import migrations
from k2k.infra.streams import Mark, Position
from tests.conftest import TEMPLATE
from tests.live.test_delivery import channel_of, hear, started, tell, well, with_live
from tests.support import Live, Node, People, eventually

LATER = 2**40 + 1000
"""A transaction id that the test's server will never reach."""


@pytest.fixture
async def own(settings: Settings, servers: tuple[str, str]) -> AsyncIterator[Settings]:
    """Settings with a database that a test may renumber."""
    name = f"k2k_tail_{uuid4().hex[:8]}"
    url = await migrations.ensure_database(servers[0], name, template=TEMPLATE)
    database = settings.database.model_copy(update={"url": SecretStr(url)})
    yield with_live(settings, tail_seconds=0.1).model_copy(update={"database": database})
    with psycopg.connect(servers[0], autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
async def outside(own: Settings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(own.database.url.get_secret_value())
    yield connection
    await connection.close()


def remember_the_future(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail has last seen a server that was further on than the one which now answers."""
    streams, tail, seen = node.process.hub._streams, node.process.hub._streams.tail, set[str]()

    async def ahead(mark: Mark) -> tuple[Mark, list[tuple[Channel, Position]]]:
        if seen:
            return await tail(mark)
        seen.add("once")
        return Mark.of(f"{LATER}:{LATER}:", LATER, mark.generation), []

    monkeypatch.setattr(streams, "tail", ahead)


async def lost_and_back(node: Node, live: Live, people: People, person: Any) -> None:
    """The member is sent away, is told to fetch its state afresh, and goes on from there."""
    assert await live.close_code() == 3010
    async with Live.open(node.api.base) as again:
        await again.connect(person.token, since=(live.epoch, live.offset), channel=channel_of(person))
        assert again.subscription["recovered"] is False
        assert again.epoch != live.epoch
        await tell(node, person, 7)
        await hear(again, 7)
        await well(again)


async def test_a_restored_database_is_noticed_though_nothing_happens_in_it(
    own: Settings, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with started(own) as a, started(own) as b:
        people = People(a)
        person, other = await people.buyer(), await people.buyer()
        await tell(a, person, 1, 2)
        async with a.live(person.token) as here, b.live(other.token) as there:
            await outside.execute("update deployment set generation = 'restored'")
            await lost_and_back(a, here, people, person)
            await lost_and_back(b, there, people, other)
        assert await outside.fetchval("select generation from deployment") == "restored"


async def test_a_stream_that_the_restored_database_does_not_have_is_lost_too(
    own: Settings, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with started(own) as node:
        people = People(node)
        person = await people.buyer()
        async with node.live(person.token) as live:
            async with outside.transaction():
                await outside.execute("delete from streams")
                await outside.execute("update deployment set generation = 'restored'")
            await lost_and_back(node, live, people, person)


async def test_a_server_that_lacks_the_last_transactions_ends_the_numbering(
    own: Settings, outside: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby took over that had not yet received events which clients know: their offsets will be given anew."""
    async with started(own) as node:
        people = People(node)
        person = await people.buyer()
        await tell(node, person, 1, 2, 3)
        async with node.live(person.token) as live:
            async with outside.transaction():
                await outside.execute('delete from events where "offset" > 1')
                await outside.execute("update streams set top = 1")
            remember_the_future(node, monkeypatch)
            await lost_and_back(node, live, people, person)


async def test_of_many_processes_that_notice_one_ends_the_numbering(
    own: Settings, outside: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await outside.fetchval("select generation from deployment")
    renumbered: list[str] = []
    async with started(own) as a, started(own) as b:
        people = People(a)
        person = await people.buyer()
        for node in (a, b):
            renumber = node.process.hub._streams.renumber

            async def noted(ended: str, renumber: Any = renumber) -> None:
                await renumber(ended)
                renumbered.append(await outside.fetchval("select generation from deployment"))

            monkeypatch.setattr(node.process.hub._streams, "renumber", noted)
        async with a.live(person.token) as here, b.live(person.token) as there:
            for node in (a, b):
                remember_the_future(node, monkeypatch)
            assert (await here.close_code(), await there.close_code()) == (3010, 3010)
        async with a.live(person.token) as here, b.live(person.token) as there:
            await tell(a, person, 1)
            await hear(here, 1)
            await hear(there, 1)
    assert generation not in renumbered
    assert len(set(renumbered)) == 1


async def test_a_database_that_goes_away_before_it_was_asked_everything_is_asked_again(
    own: Settings, outside: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(own) as node:
        people = People(node)
        person = await people.buyer()
        streams, asked = node.process.hub._streams, list[int]()
        heads = streams.heads

        async def away_at_first(channels: Sequence[Channel]) -> list[tuple[Channel, Position]]:
            asked.append(len(channels))
            if len(asked) < 3:
                raise Unavailable
            return await heads(channels)

        monkeypatch.setattr(streams, "heads", away_at_first)
        async with node.live(person.token) as live:
            await outside.execute("update deployment set generation = 'restored'")
            await lost_and_back(node, live, people, person)
        assert len(asked) == 3


async def test_as_long_as_it_is_the_same_database_heads_are_not_compared(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Mark] = []
    async with started(own) as node:
        person = await People(node).buyer()
        streams = node.process.hub._streams
        tail = streams.tail

        async def noted(mark: Mark) -> Any:
            looks.append(mark)
            return await tail(mark)

        async def never(channels: Sequence[Channel]) -> Any:
            raise AssertionError("compared")

        monkeypatch.setattr(streams, "tail", noted)
        monkeypatch.setattr(streams, "heads", never)
        async with node.live(person.token) as live:
            for number in range(5):
                await tell(node, person, number)
                await hear(live, number)
                looked = len(looks)
                await eventually(lambda: more_than(looks, looked))  # noqa: B023
            await well(live)


async def more_than(looks: list[Mark], count: int) -> bool:
    return len(looks) > count
