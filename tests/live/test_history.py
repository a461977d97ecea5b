"""Reading a channel's past, and the pages in which a long absence is made up for."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from k2k.core.ids import UserId, user_channel
from k2k.core.settings import Settings
from k2k.infra.streams import PAGE_BYTES, Event
from tests.support import Live, LiveError, Node, People, Person, eventually


class Noted(Event):
    type: ClassVar[str] = "test.noted"
    number: int
    filling: str = ""


async def note(node: Node, person: Person, *numbers: int, filling: str = "") -> None:
    """Events to a person, in one transaction."""
    async with node.process.db.transaction() as tx:
        for number in numbers:
            tx.emit(Noted(number=number, filling=filling), to=[user_channel(UserId(person.id))])


async def past(live: Live, channel: str, **asked: Any) -> list[int]:
    """The offsets that a history command answers."""
    found = await live.command("history", {"channel": channel, **asked})
    offsets = [published["offset"] for published in found["publications"]]
    assert [published["data"]["data"]["number"] for published in found["publications"]] == offsets
    assert found.keys() == {"publications", "epoch", "offset"}
    return offsets


async def test_the_past_is_read_forwards_and_backwards_from_anywhere(node: Node, people: People) -> None:
    person = await people.buyer()
    await note(node, person, *range(1, 11))
    async with node.live(person.token) as live:
        epoch = live.epoch
        for asked, offsets in (
            ({}, []),
            ({"limit": 0}, []),
            ({"limit": 3}, [1, 2, 3]),
            ({"limit": 100}, list(range(1, 11))),
            ({"limit": -1}, list(range(1, 11))),
            ({"limit": 3, "reverse": True}, [10, 9, 8]),
            ({"limit": -1, "reverse": True}, list(range(10, 0, -1))),
            ({"limit": 3, "since": {"epoch": epoch, "offset": 4}}, [5, 6, 7]),
            ({"limit": 3, "since": {"offset": 4}}, [5, 6, 7]),
            ({"limit": 3, "since": {"epoch": epoch, "offset": 4}, "reverse": True}, [3, 2, 1]),
            ({"limit": 3, "since": {"epoch": epoch, "offset": 10}}, []),
            ({"limit": 3, "since": {"epoch": epoch, "offset": 99}}, []),
            ({"limit": 3, "since": {"epoch": epoch, "offset": 99}, "reverse": True}, [10, 9, 8]),
            ({"limit": 3, "since": {"epoch": epoch, "offset": 1}, "reverse": True}, []),
        ):
            assert await past(live, live.personal, **asked) == offsets, asked


async def test_a_page_of_the_past_is_no_longer_than_one_of_recovery(node: Node, people: People) -> None:
    person, most = await people.buyer(), node.settings.live.replay_events
    await note(node, person, *range(1, most + 11))
    async with node.live(person.token) as live:
        first = await past(live, live.personal, limit=-1)
        assert first == list(range(1, most + 1))
        rest = await past(live, live.personal, limit=5000, since={"epoch": live.epoch, "offset": most})
        assert rest == list(range(most + 1, most + 11))


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_of_long_events_ends_where_one_of_recovery_does(
    node: Node, people: People, *, reverse: bool
) -> None:
    """Whoever asks since the last of it has everything in the end."""
    person, size = await people.buyer(), PAGE_BYTES // 4
    await note(node, person, *range(1, 11), filling="x" * size)
    async with node.live(person.token) as live:
        pages = [await past(live, live.personal, limit=-1, reverse=reverse)]
        while pages[-1]:
            since = {"epoch": live.epoch, "offset": pages[-1][-1]}
            pages.append(await past(live, live.personal, limit=-1, reverse=reverse, since=since))
    assert [len(page) for page in pages] == [4, 4, 2, 0]
    assert [offset for page in pages for offset in page] == (list(range(10, 0, -1)) if reverse else list(range(1, 11)))


async def test_the_past_tells_where_the_stream_stands(node: Node, people: People) -> None:
    person = await people.buyer()
    async with node.live(person.token) as live:
        for top in (0, 1):
            found = await live.command("history", {"channel": live.personal})
            assert found == {"publications": [], "epoch": live.epoch, "offset": top}
            await note(node, person, top + 1)
            await live.event("test.noted")


async def test_the_past_of_another_numbering_is_not_mixed_with_this_one(node: Node, people: People) -> None:
    person = await people.buyer()
    async with node.live(person.token) as live:
        with pytest.raises(LiveError) as refused:
            await past(live, live.personal, limit=1, since={"epoch": "elsewhere", "offset": 1})
        assert refused.value.code == 112


async def test_what_is_no_longer_kept_is_not_in_the_past(node: Node, people: People) -> None:
    person = await people.buyer()
    await note(node, person, *range(1, 11))
    channel = user_channel(UserId(person.id))
    await node.process.db.records(
        'delete from events using streams where streams.id = stream_id and channel = $1 and "offset" <= 4', (channel,)
    )
    async with node.live(person.token) as live:
        assert await past(live, channel, limit=100) == list(range(5, 11))
        assert await past(live, channel, limit=100, reverse=True) == list(range(10, 4, -1))


async def test_only_who_follows_a_channel_with_a_past_may_read_it(node: Node, people: People) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    await node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=agent.token)
    conversation = f"conversation:{enquiry['conversation_id']}"
    async with node.live(buyer.token) as live:
        await live.subscribe(conversation)
        for channel, code in (
            (f"user:{agent.id}", 103),
            (f"listing:{uuid4()}", 103),
            ("nonsense", 103),
            (conversation, 108),
        ):
            with pytest.raises(LiveError) as refused:
                await live.command("history", {"channel": channel, "limit": 10})
            assert refused.value.code == code


async def test_messages_in_the_past_have_their_text(node: Node, people: People) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    await people.enquire(buyer, await people.listing(agent), "ሰላም, is it still free?")
    async with node.live(buyer.token) as live:
        found = await live.command("history", {"channel": live.personal, "limit": 10})
        said = [one["data"]["data"] for one in found["publications"] if one["data"]["type"] == "message.new"]
        assert [one["message"] for one in said] == ["ሰላም, is it still free?"]


# Pages


async def test_a_client_that_reads_slowly_gets_every_page_and_what_happens_meanwhile(
    node: Node, second_node: Node, people: People
) -> None:
    """Far more than may wait for one socket: a page is sent when the client has taken the one before."""
    person, missed = await people.buyer(), 900
    filling = "ሰ" * 5000
    async with node.live(person.token) as left:
        pass
    await note(node, person, *range(missed), filling=filling)
    since = (left.epoch, left.offset)
    async with Live.open(second_node.api.base) as live:
        result = await live.connect(person.token, since=since, channel=f"user:{person.id}")
        first = [one["data"]["data"]["number"] for one in result["subs"][f"user:{person.id}"]["publications"]]
        for turn in range(4):
            pause(live)
            await note(node, person, missed + turn)
            await wait_for_backlog(second_node)
            read_on(live)
        rest = [(await live.event("test.noted"))["data"]["number"] for _ in range(missed + 4 - len(first))]
        assert first + rest == list(range(missed + 4))
        assert len(first) < 100
        assert (await live.rpc("me.get"))["is_active"] is True
        assert (live.events.empty(), live.disconnect) == (True, None)


def pause(live: Live) -> None:
    """The client stops reading for now."""
    connection = live.socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    transport: Any = connection.transport
    transport.pause_reading()


def read_on(live: Live) -> None:
    connection = live.socket._response.connection
    assert connection is not None
    transport: Any = connection.transport
    transport.resume_reading()


async def wait_for_backlog(node: Node) -> None:
    """Until the client's connection takes no more, or everything is through."""
    (connection,) = node.process.sockets._open
    socket = connection.socket
    before = -1
    while (now := socket._transport.get_write_buffer_size()) != before:
        before = now
        await asyncio.sleep(0.1)


async def test_a_client_that_never_reads_is_sent_no_more_than_may_wait_for_it(
    settings: Settings, people: People
) -> None:
    """It holds one page and its connection's buffers, not its whole absence; it is closed for owing a pong."""
    person = await people.buyer()
    quick = settings.live.model_copy(update={"ping_seconds": 0.5, "pong_seconds": 1.0})
    patient = settings.database.model_copy(update={"deadline_seconds": 20.0})  # for writing thirteen megabytes at once
    node = await Node.start(settings.model_copy(update={"live": quick, "database": patient}))
    async with node.live(person.token) as left:
        pass
    await note(node, person, *range(900), filling="x" * 15_000)
    async with Live.open(node.api.base) as live:
        await live.connect(person.token, since=(left.epoch, left.offset), channel=f"user:{person.id}")
        pause(live)
        (connection,) = node.process.sockets._open
        socket = connection.socket
        highest = 0

        async def is_gone() -> bool:
            nonlocal highest
            highest = max(highest, socket._size + socket._transport.get_write_buffer_size())
            return not node.process.sockets.open_sockets

        await eventually(is_gone, seconds=10)
        assert cuts(node, 3012) == 1
        assert highest < (settings.live.queue_kib + 3 * 128) * 1024
    await node.stop()


def cuts(node: Node, code: int) -> float:
    """How many sockets this process has closed with the code."""
    counted: float = node.process.metrics.cuts.labels(code)._value.get()
    return counted
