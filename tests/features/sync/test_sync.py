"""Events over plain REST, for clients that cannot hold a socket: the same ones, in the same order, from a position."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, ClassVar

import pytest

from k2k.core.ids import UserId, user_channel
from k2k.core.settings import Settings
from k2k.features.sync.polls import MOST_OF_A_PERSON
from k2k.infra.streams import Event
from tests.support import Api, Node, People, Person, eventually


class Noted(Event):
    type: ClassVar[str] = "test.synced"
    to: ClassVar[tuple[str, ...]] = ("user",)
    number: int


async def note(node: Node, person: Person, *numbers: int) -> None:
    async with node.process.db.transaction() as tx:
        for number in numbers:
            tx.emit(Noted(number=number), to=[user_channel(UserId(person.id))])


async def synced(api: Api, person: Person, **query: Any) -> Any:
    answer = await api.get("/sync", token=person.token, params=query)
    assert answer.status == 200, answer.json
    return answer.json


def numbers(answer: Any) -> list[int]:
    return [event["data"]["number"] for event in answer["events"]]


async def test_a_client_without_a_socket_hears_everything_in_order_on_any_process(
    node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    at = await synced(node.api, person)
    assert (at["events"], at["recovered"], at["more"]) == ([], False, False)
    await note(node, person, 1, 2, 3)
    told = await synced(second_node.api, person, since=at["next"])
    assert (numbers(told), told["recovered"], told["offset"]) == ([1, 2, 3], True, at["offset"] + 3)
    assert [event["offset"] for event in told["events"]] == [at["offset"] + n for n in (1, 2, 3)]
    nothing = await synced(node.api, person, since=told["next"], wait=0)
    assert (nothing["events"], nothing["next"]) == ([], told["next"])


async def test_it_waits_for_the_next_event_and_tells_it_at_once(node: Node, second_node: Node, people: People) -> None:
    person = await people.buyer()
    at = await synced(node.api, person)
    waiting = asyncio.create_task(synced(second_node.api, person, since=at["next"], wait=20))
    await eventually(lambda: is_waiting(second_node, person))
    await note(node, person, 7)
    assert numbers(await asyncio.wait_for(waiting, 5)) == [7]
    assert not await is_waiting(second_node, person)


async def is_waiting(node: Node, person: Person) -> bool:
    return await waits(node, person, 1)


async def waits(node: Node, person: Person, count: int) -> bool:
    line = node.process.hub._lines.get(user_channel(UserId(person.id)))
    return line is not None and len(line.live) == count


async def test_what_is_long_missed_comes_in_pages(node: Node, people: People) -> None:
    person = await people.buyer()
    at = await synced(node.api, person)
    await note(node, person, *range(250))
    told: list[int] = []
    since, pages = at["next"], 0
    while True:
        page = await synced(node.api, person, since=since, wait=0)
        told += numbers(page)
        since, pages = page["next"], pages + 1
        if not page["more"]:
            break
    assert told == list(range(250))
    assert pages == 3


@pytest.mark.parametrize("where", ["another numbering", "the future", "too long ago"])
async def test_a_position_that_cannot_be_recovered_says_so_and_where_it_goes_on(
    node: Node, people: People, where: str
) -> None:
    person = await people.buyer()
    at = await synced(node.api, person)
    since = at["next"]
    if where == "another numbering":
        since = f"0000.1:{at['offset']}"
    elif where == "the future":
        since = f"{at['epoch']}:{at['offset'] + 5}"
    else:
        await note(node, person, *range(1001))
    told = await synced(node.api, person, since=since)
    assert (told["recovered"], told["events"], told["more"]) == (False, [], False)
    await note(node, person, 9)
    assert numbers(await synced(node.api, person, since=told["next"])) == [9]


async def test_the_end_of_the_sign_in_ends_the_wait(node: Node, people: People) -> None:
    person = await people.buyer()
    at = await synced(node.api, person)
    waiting = asyncio.create_task(synced(node.api, person, since=at["next"], wait=20))
    await eventually(lambda: is_waiting(node, person))
    await node.api.post("/auth/logout", token=person.token)
    told = await asyncio.wait_for(waiting, 5)
    assert [event["type"] for event in told["events"]] == ["session.revoked"]
    assert (await node.api.get("/sync", token=person.token)).status == 401


async def test_a_process_that_stops_answers_whoever_waits(settings: Settings, people: People) -> None:
    person, home = await people.buyer(), await Node.start(settings)
    at = await synced(home.api, person)
    waiting = asyncio.create_task(synced(home.api, person, since=at["next"], wait=20))
    await eventually(lambda: is_waiting(home, person))
    await asyncio.wait_for(home.stop(), 5)
    assert (await waiting)["events"] == []


async def test_one_too_many_ends_the_one_that_waits_longest(node: Node, people: People) -> None:
    """A phone whose network comes and goes leaves requests behind that nobody reads: they never keep it out."""
    person, other = await people.buyer(), await people.buyer()
    at, theirs = await synced(node.api, person), await synced(node.api, other)
    waiting: list[asyncio.Task[Any]] = []
    neighbour = asyncio.create_task(synced(node.api, other, since=theirs["next"], wait=20))
    for count in range(1, MOST_OF_A_PERSON + 1):
        waiting.append(asyncio.create_task(synced(node.api, person, since=at["next"], wait=20)))
        await eventually(partial(waits, node, person, count))
    for ended in range(3):
        waiting.append(asyncio.create_task(synced(node.api, person, since=at["next"], wait=20)))
        left = await asyncio.wait_for(waiting[ended], 5)
        assert (left["events"], left["next"], left["recovered"], left["more"]) == ([], at["next"], True, False)
    await eventually(lambda: waits(node, person, MOST_OF_A_PERSON))
    await note(node, person, 1)
    told = await asyncio.wait_for(asyncio.gather(*waiting[3:]), 5)
    assert [numbers(one) for one in told] == [[1]] * MOST_OF_A_PERSON
    assert not neighbour.done()
    await note(node, other, 2)
    assert numbers(await asyncio.wait_for(neighbour, 5)) == [2]


@pytest.mark.parametrize(
    "query",
    [{"since": "1"}, {"since": ":1"}, {"since": "a:b"}, {"since": "a:-1"}, {"wait": 31}, {"wait": -1}, {"x": 1}],
)
async def test_what_is_no_position_is_refused(api: Api, people: People, query: dict[str, Any]) -> None:
    person = await people.buyer()
    assert (await api.get("/sync", token=person.token, params=query)).status == 422


async def test_a_device_acknowledges_its_own_channel_over_either_door(node: Node, people: People) -> None:
    person, other = await people.buyer(), await people.buyer()
    await note(node, person, 1, 2, 3)
    at = await synced(node.api, person)
    mine = f"user:{person.id}"
    async with node.live(person.token) as live:
        kept = await live.rpc("ack", channel=mine, offset=at["offset"] - 1, epoch=at["epoch"])
        assert kept == {"epoch": at["epoch"], "offset": at["offset"] - 1}
    again = await node.api.post("/ack", token=person.token, json={"channel": mine, "offset": 1})
    assert again.json == {"epoch": at["epoch"], "offset": at["offset"] - 1}
    beyond = await node.api.post("/ack", token=person.token, json={"channel": mine, "offset": at["offset"] + 1})
    assert (beyond.status, beyond.json["code"]) == (409, "position-unknown")
    foreign = await node.api.post("/ack", token=person.token, json={"channel": f"user:{other.id}", "offset": 0})
    assert (foreign.status, foreign.json["code"]) == (403, "denied")
