"""Messages: numbered without holes, said once however often they are sent, and read by those who take part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from k2k.core.errors import DomainError, IdempotencyMismatch
from k2k.core.ids import ConversationId, UserId
from k2k.features.accounts.store import SIGN_IN_STATES
from k2k.features.chat.errors import ConversationNotFound
from k2k.features.chat.models import Message, Send
from k2k.features.chat.service import Sent, send_many
from k2k.features.chat.store import SEND_MANY
from k2k.infra.streams import TAIL
from tests.support import Api, Node, People, Person, Response, eventually


def alike(answer: Response) -> Any:
    """The status and body without what differs between any two requests."""
    return answer.status, {name: value for name, value in answer.json.items() if name != "request_id"}


async def execute(node: Node, statement: str, *arguments: object) -> list[Any]:
    async with node.process.db.transaction() as tx:
        return [tuple(record) for record in await tx.records(statement, arguments)]


@dataclass
class Talk:
    """A conversation of a buyer and the agent who claimed the lead; the buyer's enquiry is its first message."""

    id: str
    lead: str
    buyer: Person
    agent: Person

    async def say(self, api: Api, person: Person, text: str, client_id: str | None = None) -> Response:
        body = {"conversation_id": self.id, "client_id": client_id or uuid4().hex, "message": text}
        return await api.post("/chat/messages", json=body, token=person.token)

    async def read(self, api: Api, person: Person, **query: Any) -> Response:
        return await api.get("/chat/messages", params={"conversation_id": self.id, **query}, token=person.token)

    async def texts(self, api: Api, person: Person, **query: Any) -> list[tuple[int, str]]:
        answer = await self.read(api, person, **query)
        assert answer.status == 200
        return [(message["seq"], message["message"]) for message in answer.json]

    def send(self, text: str, client_id: str | None = None) -> Send:
        return Send(ConversationId(UUID(self.id)), UserId(self.buyer.id), client_id or uuid4().hex, text)

    async def heard(self, node: Node, person: Person) -> list[int]:
        """The seqs in the person's own stream, in the order they stand there."""
        told = (
            "select (data->>'seq')::int from events join streams on streams.id = stream_id where channel = $1 "
            "and type = 'message.new' and data->>'conversation_id' = $2 order by \"offset\""
        )
        return [seq for (seq,) in await execute(node, told, f"user:{person.id}", self.id)]


async def opened(people: People, *, agent: Person | None = None) -> Talk:
    """An enquiry that nobody has claimed yet."""
    seller = agent or await people.agent()
    buyer = await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(seller), "Is it still free?")
    return Talk(enquiry["conversation_id"], enquiry["lead_id"], buyer, seller)


@pytest.fixture
async def talk(api: Api, people: People) -> Talk:
    talk = await opened(people)
    assert (await api.post(f"/leads/{talk.lead}/claim", token=talk.agent.token)).status == 200
    return talk


@pytest.fixture(scope="module")
async def quiet(people: People) -> Talk:
    """A conversation in which nobody says anything more; the stories that are refused share it."""
    return await opened(people)


# Saying something once


async def test_a_message_is_stored_numbered_and_told_to_both(api: Api, node: Node, talk: Talk) -> None:
    client_id = uuid4().hex
    said = await talk.say(api, talk.buyer, "  ሰላም 🙂\nand more ", client_id)
    assert said.status == 201
    assert {name: said.json[name] for name in ("conversation_id", "seq", "sender_id", "receiver_id", "client_id")} == {
        "conversation_id": talk.id,
        "seq": 2,
        "sender_id": str(talk.buyer.id),
        "receiver_id": str(talk.agent.id),
        "client_id": client_id,
    }
    assert said.json["message"] == "ሰላም 🙂\nand more"
    assert said.json["position"]["offset"] > 0
    listed = (await talk.read(api, talk.agent, after_seq=1)).json
    assert listed == [{name: value for name, value in said.json.items() if name != "position"}]
    assert await talk.heard(node, talk.buyer) == [1, 2]
    assert await talk.heard(node, talk.agent) == [2]


async def test_the_same_client_id_again_answers_the_same_message_and_says_nothing_twice(
    api: Api, node: Node, second_node: Node, talk: Talk
) -> None:
    client_id = uuid4().hex
    first = await talk.say(api, talk.buyer, "Tomorrow?", client_id)
    for door, text in ((api, "Tomorrow?"), (second_node.api, " Tomorrow? ")):
        again = await talk.say(door, talk.buyer, text, client_id)
        assert (again.status, again.json) == (201, first.json | {"position": None})
    assert await talk.texts(api, talk.buyer, after_seq=1) == [(2, "Tomorrow?")]
    assert await talk.heard(node, talk.buyer) == [1, 2]
    assert await talk.heard(node, talk.agent) == [2]
    assert (await talk.say(api, talk.buyer, "Next")).json["seq"] == 3


async def test_the_same_client_id_with_another_text_is_a_mismatch(api: Api, talk: Talk) -> None:
    client_id = uuid4().hex
    assert (await talk.say(api, talk.buyer, "Tomorrow?", client_id)).status == 201
    other = await talk.say(api, talk.buyer, "Today?", client_id)
    assert (other.status, other.json["code"]) == (422, "idempotency-mismatch")
    assert await talk.texts(api, talk.buyer, after_seq=1) == [(2, "Tomorrow?")]


async def test_two_texts_under_one_client_id_at_once_are_one_message_and_one_mismatch(
    api: Api, second_node: Node, talk: Talk
) -> None:
    for seq, doors in enumerate(((api, api), (api, second_node.api)), 2):
        client_id = uuid4().hex
        answers = await asyncio.gather(
            *(talk.say(door, talk.buyer, text, client_id) for door, text in zip(doors, "ab", strict=True))
        )
        assert sorted(answer.status for answer in answers) == [201, 422]
        (stored,) = await talk.texts(api, talk.buyer, after_seq=seq - 1)
        assert stored[0] == seq


async def test_a_client_id_belongs_to_one_person_in_one_conversation(api: Api, people: People, talk: Talk) -> None:
    client_id = uuid4().hex
    other = await opened(people, agent=talk.agent)
    first = await talk.say(api, talk.buyer, "One", client_id)
    second = await talk.say(api, talk.agent, "Two", client_id)
    third = await other.say(api, other.buyer, "Three", client_id)
    assert [answer.status for answer in (first, second, third)] == [201] * 3
    assert len({answer.json["id"] for answer in (first, second, third)}) == 3


async def test_two_hundred_sends_at_once_on_two_processes_are_numbered_without_holes(
    api: Api, node: Node, second_node: Node, talk: Talk
) -> None:
    doors, sides = [api, second_node.api], [talk.buyer, talk.agent]
    same = uuid4().hex
    sends = [
        *(talk.say(doors[number % 2], sides[number // 2 % 2], f"message {number}") for number in range(180)),
        *(talk.say(doors[number % 2], talk.buyer, "the same", same) for number in range(20)),
    ]
    answers = await asyncio.gather(*sends)
    assert {answer.status for answer in answers} == {201}, [one.json for one in answers if one.status != 201]
    repeats = answers[180:]
    assert len({(answer.json["id"], answer.json["seq"]) for answer in repeats}) == 1
    assert len([answer for answer in repeats if answer.json["position"] is not None]) == 1
    seqs = sorted({answer.json["seq"] for answer in answers})
    assert seqs == list(range(2, 183))
    pages = [await talk.texts(api, talk.agent, after_seq=seq) for seq in (0, 100)]
    assert [seq for page in pages for seq, _ in page] == list(range(1, 183))
    assert [text for page in pages for _, text in page].count("the same") == 1
    assert await talk.heard(node, talk.buyer) == list(range(1, 183))
    assert await talk.heard(node, talk.agent) == list(range(2, 183))
    for sender in sides:
        own = [answer.json for answer in answers if answer.json["sender_id"] == str(sender.id)]
        places = [(one["position"]["offset"], one["seq"]) for one in own if one["position"] is not None]
        assert sorted(places) == sorted(places, key=lambda place: place[1])


async def test_many_conversations_at_once_do_not_get_in_each_other_s_way(
    api: Api, second_node: Node, people: People
) -> None:
    """Sets that want the same conversations in different orders."""
    agent = await people.agent()
    talks = [await opened(people, agent=agent) for _ in range(5)]
    doors = [api, second_node.api]
    answers = await asyncio.gather(
        *(talk.say(doors[number % 2], talk.buyer, f"{number}") for number in range(10) for talk in talks),
        *(talk.say(doors[number % 2], talk.buyer, f"{number}") for number in range(10) for talk in talks[::-1]),
    )
    assert {answer.status for answer in answers} == {201}
    for talk in talks:
        assert [seq for seq, _ in await talk.texts(api, talk.buyer)] == list(range(1, 22))


@asynccontextmanager
async def statements(node: Node) -> AsyncIterator[list[str]]:
    """What this process sends to the database, but for what runs by itself: the tail, and who asks (once a second)."""
    seen: list[str] = []

    def note(query: asyncpg.connection.LoggedQuery) -> None:
        if query.query not in {TAIL.text, SIGN_IN_STATES.text}:
            seen.append(query.query)

    pool = node.process.db.pool
    connections = [await pool.acquire() for _ in range(pool.get_max_size())]
    for connection in connections:
        await connection.fetch("select '{}'::jsonb[], '{}'::bigint[], '{}'::uuid[]")  # looked up once a connection
        connection.add_query_logger(note)
        await pool.release(connection)
    yield seen
    connections = [await pool.acquire() for _ in range(pool.get_max_size())]
    for connection in connections:
        connection.remove_query_logger(note)
        await pool.release(connection)


async def test_a_send_is_one_statement_and_nothing_around_it(api: Api, node: Node, people: People, talk: Talk) -> None:
    client_id, stranger = uuid4().hex, await people.buyer()
    async with statements(node) as seen:
        for person, text, status in (
            (talk.buyer, "One", 201),
            (talk.buyer, "One", 201),
            (talk.buyer, "Another", 422),
            (stranger, "One", 404),
        ):
            seen.clear()
            assert (await talk.say(api, person, text, client_id)).status == status
            assert seen == [SEND_MANY.announcing]


@asynccontextmanager
async def busy(node: Node, talk: Talk) -> AsyncIterator[None]:
    """Somebody holds the conversation while the block runs."""
    pool = node.process.db.pool
    holder = await pool.acquire()
    held = holder.transaction()
    await held.start()
    await holder.execute("select from conversations where id = $1 for no key update", UUID(talk.id))
    try:
        yield
    finally:
        await held.rollback()
        await pool.release(holder)


async def waiting(node: Node) -> int:
    """How many statements wait for a lock in this database."""
    locked_out = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    ((count,),) = await execute(node, locked_out)
    return int(count)


async def one_waits(node: Node) -> bool:
    return await waiting(node) == 1


async def test_two_processes_that_send_at_once_take_turns_instead_of_trying_again(
    api: Api, node: Node, second_node: Node, talk: Talk
) -> None:
    async def both_wait() -> bool:
        return await waiting(node) == 2

    async with statements(node) as first, statements(second_node) as second:
        async with busy(second_node, talk):
            first.clear()
            second.clear()
            sends = [asyncio.ensure_future(talk.say(door, talk.buyer, "At once")) for door in (api, second_node.api)]
            await eventually(both_wait)
        answers = await asyncio.gather(*sends)
        sent = [statement for statement in (*first, *second) if statement == SEND_MANY.announcing]
    assert sorted(answer.json["seq"] for answer in answers) == [2, 3]
    assert len(sent) == 2


# One set, many fates


async def test_in_one_set_everyone_gets_their_own_outcome(node: Node, people: People, talk: Talk) -> None:
    twice = uuid4().hex
    stranger = UserId((await people.buyer()).id)
    sends = [
        talk.send("one"),
        talk.send("twice", twice),
        Send(ConversationId(UUID(talk.id)), stranger, uuid4().hex, "let me in"),
        talk.send("twice", twice),
        talk.send("other", twice),
        Send(ConversationId(uuid4()), UserId(talk.buyer.id), uuid4().hex, "nowhere"),
        talk.send("two"),
    ]
    async with node.process.db.single() as tx:
        outcomes = await send_many(tx, sends)
    one, first, foreign, repeat, other, nowhere, two = outcomes
    assert isinstance(foreign, ConversationNotFound)
    assert isinstance(nowhere, ConversationNotFound)
    assert isinstance(other, IdempotencyMismatch)
    assert seqs(one, first, repeat, two) == [2, 3, 3, 4]
    assert isinstance(first, Sent)
    assert isinstance(repeat, Sent)
    assert first.answer().position is not None
    assert repeat.answer() == first.answer().model_copy(update={"position": None})
    assert await talk.heard(node, talk.agent) == [2, 3, 4]


def seqs(*outcomes: Sent | DomainError | BaseException) -> list[int]:
    messages: list[Message] = []
    for outcome in outcomes:
        assert isinstance(outcome, Sent), outcome
        messages.append(outcome.message)
    return [message.seq for message in messages]


@pytest.mark.parametrize("poison", ["x" * 5000, "a\x00b", "\ud800", ""])
async def test_poison_in_a_set_harms_nobody_else(node: Node, api: Api, talk: Talk, poison: str) -> None:
    db = node.process.db
    texts = ["one", "two", "three", poison, "four", "five", "six"]
    outcomes = await asyncio.gather(
        *(db.together(send_many, talk.send(text)) for text in texts), return_exceptions=True
    )
    refused = outcomes.pop(3)
    assert isinstance(refused, Exception)
    assert not isinstance(refused, DomainError)
    assert seqs(*outcomes) == [2, 3, 4, 5, 6, 7]
    assert [text for _, text in await talk.texts(api, talk.buyer, after_seq=1)] == [
        text for text in texts if text != poison
    ]
    assert await talk.heard(node, talk.agent) == [2, 3, 4, 5, 6, 7]


# Who takes part


async def test_a_stranger_cannot_tell_a_foreign_conversation_from_none(api: Api, people: People, talk: Talk) -> None:
    stranger = await people.agent()
    nowhere = Talk(str(uuid4()), talk.lead, talk.buyer, talk.agent)
    for person in (stranger, await people.buyer()):
        for foreign, none in (
            (await talk.say(api, person, "Hm?"), await nowhere.say(api, person, "Hm?")),
            (await talk.read(api, person), await nowhere.read(api, person)),
        ):
            assert alike(foreign) == alike(none)
            assert (foreign.status, foreign.json["code"]) == (404, "conversation-not-found")
    assert (await api.get("/chat/conversations", token=stranger.token)).json == []
    assert [seq for seq, _ in await talk.texts(api, talk.buyer)] == [1]


async def test_an_agent_takes_part_from_the_claim_on_and_the_others_never(api: Api, people: People) -> None:
    owner, agency = await people.agency()
    colleague = await people.agent(agency)
    talk = await opened(people, agent=owner)
    before = await talk.say(api, talk.buyer, "Hello?")
    assert (before.status, before.json["receiver_id"]) == (201, None)
    for agent in (owner, colleague):
        assert (await talk.say(api, agent, "Yes?")).status == 404
        assert (await talk.read(api, agent)).status == 404
        assert (await api.get("/chat/conversations", token=agent.token)).json == []
    assert (await api.post(f"/leads/{talk.lead}/claim", token=owner.token)).status == 200
    assert await talk.texts(api, owner) == [(1, "Is it still free?"), (2, "Hello?")]
    answer = await talk.say(api, owner, "Yes!")
    assert (answer.json["seq"], answer.json["receiver_id"]) == (3, str(talk.buyer.id))
    assert (await talk.say(api, colleague, "Me too")).status == 404
    assert (await talk.read(api, colleague)).status == 404


async def test_what_is_said_while_the_lead_is_claimed_reaches_the_agent(
    api: Api, node: Node, second_node: Node, people: People
) -> None:
    """The agent fetches the conversation after the claim and follows their stream: nothing lies between the two."""
    talk = await opened(people)

    async def claim_and_fetch() -> list[int]:
        assert (await api.post(f"/leads/{talk.lead}/claim", token=talk.agent.token)).status == 200
        return [seq for seq, _ in await talk.texts(api, talk.agent)]

    async def claimed_or_waiting() -> bool:
        return fetched.done() or await waiting(second_node) == 2

    async with busy(second_node, talk):
        said = asyncio.ensure_future(talk.say(api, talk.buyer, "In between"))
        await eventually(lambda: one_waits(second_node))
        fetched = asyncio.ensure_future(claim_and_fetch())
        await eventually(claimed_or_waiting)
    assert (await said).json["seq"] == 2
    assert sorted({*await fetched, *await talk.heard(node, talk.agent)}) == [1, 2]


async def test_nobody_reads_or_talks_without_signing_in(api: Api, talk: Talk) -> None:
    assert (await api.get("/chat/conversations")).status == 401
    assert (await api.get("/chat/messages", params={"conversation_id": talk.id})).status == 401
    assert (await api.post("/chat/messages", json={})).status == 401


# Reading


async def test_messages_are_read_in_pages_after_a_seq(api: Api, talk: Talk) -> None:
    for number in range(2, 8):
        await talk.say(api, talk.buyer if number % 2 else talk.agent, f"message {number}")
    every = await talk.texts(api, talk.agent)
    assert [seq for seq, _ in every] == list(range(1, 8))
    assert await talk.texts(api, talk.agent, limit=3) == every[:3]
    assert await talk.texts(api, talk.agent, after_seq=3, limit=3) == every[3:6]
    assert await talk.texts(api, talk.agent, after_seq=6) == every[6:]
    assert await talk.texts(api, talk.agent, after_seq=7) == []
    assert await talk.texts(api, talk.agent, after_seq=2**63 - 1) == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "all"},
        {"limit": "1.5"},
        {"after_seq": "-1"},
        {"after_seq": str(2**63)},
        {"after_seq": "9" * 5000},
        {"after_seq": ""},
        {"conversation_id": "1"},
        {"before_seq": "3"},
    ],
)
async def test_a_page_has_its_limits(api: Api, quiet: Talk, query: dict[str, str]) -> None:
    refused = await quiet.read(api, quiet.buyer, **query)
    assert refused.status == 422
    assert [(fault["pointer"], fault["in"]) for fault in refused.json["errors"]] == [(f"/{next(iter(query))}", "query")]


async def test_conversations_stand_in_the_order_they_last_moved(api: Api, people: People) -> None:
    agent = await people.agent()
    talks = [await opened(people, agent=agent) for _ in range(3)]
    for talk in talks:
        await api.post(f"/leads/{talk.lead}/claim", token=agent.token)
    await talks[1].say(api, talks[1].buyer, "Me first")
    listed = (await api.get("/chat/conversations", token=agent.token)).json
    assert [one["id"] for one in listed] == [talks[1].id, talks[2].id, talks[0].id]
    assert (listed[0]["top_seq"], listed[0]["last_message"]["message"]) == (2, "Me first")
    assert (listed[0]["buyer_id"], listed[0]["agent_id"]) == (str(talks[1].buyer.id), str(agent.id))
    limited = await api.get("/chat/conversations", params={"limit": 1}, token=agent.token)
    assert limited.json == listed[:1]
    (own,) = (await api.get("/chat/conversations", token=talks[0].buyer.token)).json
    assert own["id"] == talks[0].id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message", ""),
        ("message", " \n\t "),
        ("message", "x" * 4001),
        ("message", 7),
        ("message", None),
        ("message", "a\x00b"),
        ("client_id", "short"),
        ("client_id", "x" * 65),
        ("client_id", "with space"),
        ("client_id", "newline1\n"),
        ("client_id", 12345678),
        ("conversation_id", "1"),
        ("conversation_id", 1),
        ("sender_id", "018f0000-0000-7000-8000-000000000000"),
        ("seq", 7),
        ("created_at", "2020-01-01T00:00:00Z"),
    ],
)
async def test_bad_messages_are_refused_and_nothing_is_said(api: Api, quiet: Talk, name: str, value: object) -> None:
    body = {"conversation_id": quiet.id, "client_id": uuid4().hex, "message": "Hello", name: value}
    refused = await api.post("/chat/messages", json=body, token=quiet.buyer.token)
    assert refused.status == 422
    assert {fault["pointer"] for fault in refused.json["errors"]} == {f"/{name}"}
    assert [seq for seq, _ in await quiet.texts(api, quiet.buyer)] == [1]


async def test_the_longest_message_is_four_thousand_characters_of_any_kind(api: Api, talk: Talk) -> None:
    said = await talk.say(api, talk.buyer, "ሰ🙂" * 2000)
    assert (said.status, said.json["message"]) == (201, "ሰ🙂" * 2000)
