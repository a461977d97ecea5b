"""The native clients of the live bench against a real serving process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from aiohttp.test_utils import unused_port

from bench.harness.machine import Cores
from bench.live.people import Person as Known
from bench.live.publisher import content
from bench.live.stacks import Key2Key
from bench.live.swarm import FIRST, Client, Swarm, SwarmError, swarm
from k2k.core.ids import Channel
from k2k.core.settings import Settings
from k2k.infra.streams import Event
from tests.support import Node, People, Person

pytestmark = pytest.mark.needs("C compiler")

OURS = Key2Key()


class Ticked(Event):
    type: ClassVar[str] = "bench.ticked"
    mark: str
    text: str


def known(person: Person) -> Known:
    return Known(person.id, person.token)


def client(node: Node, person: Person, rooms: Sequence[str] = (), *, role: str = "r", message: str = "") -> Client:
    port = urlsplit(node.api.base).port
    assert port is not None
    one = known(person)
    return Client(port, OURS.path, OURS.hellos(one, rooms), role, message, OURS.again(one))


@contextlib.asynccontextmanager
async def running(clients: Sequence[Client]) -> AsyncIterator[Swarm]:
    """The clients' process is waited for in a thread: the node serves in this one."""
    entered = swarm(OURS.dialect, clients, Cores())
    found = await asyncio.to_thread(entered.__enter__)
    try:
        yield found
    finally:
        await asyncio.to_thread(entered.__exit__, None, None, None)


async def tick(node: Node, number: int, channel: str) -> None:
    async with node.process.db.transaction() as tx:
        tx.emit(Ticked(**content(number, 300)), [Channel(channel)])


async def test_every_delivery_is_counted_once_and_timed(node: Node, people: People) -> None:
    person, other = await people.buyer(), await people.buyer()
    async with running([client(node, one) for one in (person, person, other)]) as found:
        assert (await asyncio.to_thread(found.connect))["ready"] == 3
        listening = asyncio.create_task(asyncio.to_thread(found.listen, 0.7))
        await asyncio.sleep(0.2)  # an arrival before the window begins is nobody's
        for number in range(5):
            await tick(node, FIRST + number, f"user:{person.id}")
        counted, samples = await listening
        assert (counted["deliveries"], counted["losses"]) == (10, 0)
        assert sorted(one.number - FIRST for one in samples) == sorted([*range(5)] * 2)
        assert all(0 < one.late < 0.7 for one in samples)


async def test_a_writer_writes_again_at_its_echo(node: Node, people: People) -> None:
    buyer, agent = await people.buyer(), await people.agent()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    claim = await node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=agent.token)
    assert claim.status == 200, claim.json
    message = OURS.message(enquiry["conversation_id"], "")
    clients = [client(node, buyer, role="w", message=message), client(node, agent)]
    async with running(clients) as found:
        await asyncio.to_thread(found.connect)
        counted, samples = await asyncio.to_thread(found.chat, 0.1, 0.5, 1)
        assert counted["deliveries"] > 3
        assert abs(counted["deliveries"] - counted["echoes"]) <= 1
        assert len({one.number for one in samples}) == len(samples) == counted["deliveries"]


async def test_who_comes_back_has_what_was_missed(settings: Settings, node: Node, people: People) -> None:
    person, missed, port = await people.buyer(), FIRST + 7, unused_port()
    before = await Node.start(settings, port)
    async with running([client(before, person)]) as found:
        await asyncio.to_thread(found.connect)
        await before.stop()
        await tick(node, missed, f"user:{person.id}")
        found.begin(f"connect 10 {missed}")
        after = await Node.start(settings, port)
        told = await asyncio.to_thread(found.answer, 10.0)
        await after.stop()
        assert (told["ready"], told["caught_up"]) == (1, 1)


async def test_a_refusal_ends_the_bench(node: Node, people: People) -> None:
    person = await people.buyer()
    stranger = Person(person.id, person.email, "no token", person.refresh_token, person.sign_in_id)
    async with running([client(node, stranger)]) as found:
        with pytest.raises(SwarmError, match="refusals"):
            await asyncio.to_thread(found.connect, 0.5)
