"""Claiming: one winner however many try wherever, one statement each, and the buyer stays hidden from all others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from k2k.features.accounts.store import SIGN_IN_STATES
from k2k.features.leads.store import CLAIM_MANY
from k2k.infra.streams import TAIL
from tests.support import Api, Node, People, Person, Response, eventually


def alike(answer: Response) -> Any:
    """The status and body without what differs between any two requests."""
    return answer.status, {name: value for name, value in answer.json.items() if name != "request_id"}


async def execute(node: Node, statement: str, *arguments: object) -> list[Any]:
    async with node.process.db.transaction() as tx:
        return [tuple(record) for record in await tx.records(statement, arguments)]


async def claim(api: Api, lead: object, person: Person) -> Response:
    return await api.post(f"/leads/{lead}/claim", token=person.token)


@dataclass
class Story:
    """A buyer has enquired about what an agency offers."""

    buyer: Person
    agents: list[Person]
    lead: str
    conversation: str
    secrets: list[str]
    """What nobody but the winner may learn."""


async def a_story(node: Node, people: People, agents: int) -> Story:
    owner, agency = await people.agency()
    colleagues = [await people.agent(agency) for _ in range(agents - 1)]
    buyer, listing = await people.buyer(), await people.listing(owner)
    name, phone = f"Buyer {uuid4().hex}", f"+2519{uuid4().int % 10**8:08}"
    await execute(node, "update users set full_name = $1, phone = $2 where id = $3", name, phone, buyer.id)
    enquiry = await people.enquire(buyer, listing, f"Secret {uuid4().hex}")
    conversation = enquiry["conversation_id"]
    secrets = [name, phone, buyer.email, str(buyer.id), conversation, enquiry["message"]["message"]]
    return Story(buyer, [owner, *colleagues], enquiry["lead_id"], conversation, secrets)


@pytest.fixture
async def story(node: Node, people: People) -> Story:
    return await a_story(node, people, agents=3)


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


async def test_of_fifty_claims_on_two_processes_one_wins(node: Node, second_node: Node, people: People) -> None:
    story = await a_story(node, people, agents=50)
    doors = [node.api, second_node.api]
    answers = await asyncio.gather(
        *(claim(doors[number % 2], story.lead, agent) for number, agent in enumerate(story.agents))
    )
    assert Counter(answer.status for answer in answers) == {200: 1, 409: 49}
    (won,) = [answer.json for answer in answers if answer.status == 200]
    (winner,) = [agent for agent, answer in zip(story.agents, answers, strict=True) if answer.status == 200]
    assert (won["id"], won["status"], won["claimed_by"]) == (story.lead, "claimed", str(winner.id))
    assert won["buyer"]["id"] == str(story.buyer.id)
    assert won["conversation_id"] == story.conversation
    for answer in answers:
        if answer.status == 409:
            assert answer.json["code"] == "lead-taken"
            assert not [secret for secret in story.secrets if secret in str(answer.json)]

    repeats = await asyncio.gather(*(claim(doors[number % 2], story.lead, winner) for number in range(6)))
    assert [repeat.json for repeat in repeats] == [won] * 6
    assert (await node.api.get(f"/leads/{story.lead}", token=winner.token)).json == won

    told = (
        "select type, count(*), count(distinct streams.channel) from events "
        "join streams on streams.id = stream_id where data->>'lead_id' = $1 and type <> 'lead.offered' group by type"
    )
    assert sorted(await execute(node, told, story.lead)) == [
        ("enquiry.assigned", 1, 1),
        ("lead.claimed", 2, 2),
        ("lead.taken", 49, 49),
    ]
    outcomes = "select outcome, count(*) from lead_offers where lead_id = $1 and settled_at is not null group by 1"
    assert dict(await execute(node, outcomes, UUID(story.lead))) == {"claimed": 1, "taken": 49}


async def test_many_leads_claimed_at_once_each_get_one_winner(node: Node, second_node: Node, people: People) -> None:
    """Sets on two processes that want the same rows in different orders."""
    owner, agency = await people.agency()
    agents = [owner, await people.agent(agency)]
    listings = [await people.listing(owner) for _ in range(6)]
    buyer = await people.buyer()
    leads = [(await people.enquire(buyer, listing))["lead_id"] for listing in listings]
    wishes = [(lead, agent, door) for lead in leads for agent in agents for door in (node.api, second_node.api)]
    wishes = wishes[::2] + wishes[::-2]
    answers = await asyncio.gather(*(claim(door, lead, agent) for lead, agent, door in wishes))
    winners: dict[str, set[Any]] = {}
    for (lead, agent, _), answer in zip(wishes, answers, strict=True):
        assert answer.status in {200, 409}, answer.json
        if answer.status == 200:
            assert answer.json["claimed_by"] == str(agent.id)
            winners.setdefault(lead, set()).add(agent.id)
    assert {lead: len(ids) for lead, ids in winners.items()} == dict.fromkeys(leads, 1)


LOCKED_OUT = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def test_who_waited_for_the_winner_to_commit_learns_that_the_lead_is_taken(
    node: Node, second_node: Node, story: Story
) -> None:
    async def both_wait() -> bool:
        return await execute(node, LOCKED_OUT) == [(2,)]

    pool, (first, second, _) = node.process.db.pool, story.agents
    holder = await pool.acquire()
    held = holder.transaction()
    await held.start()
    await holder.execute("select from leads where id = $1 for no key update", UUID(story.lead))
    claims = [
        asyncio.ensure_future(claim(node.api, story.lead, first)),
        asyncio.ensure_future(claim(second_node.api, story.lead, second)),
    ]
    await eventually(both_wait)
    await held.rollback()
    await pool.release(holder)
    assert sorted(answer.status for answer in await asyncio.gather(*claims)) == [200, 409]


async def test_a_claim_is_one_statement_and_nothing_around_it(node: Node, story: Story) -> None:
    winner, loser, _ = story.agents
    async with statements(node) as seen:
        for agent, lead, status in (
            (winner, story.lead, 200),
            (winner, story.lead, 200),
            (loser, story.lead, 409),
            (loser, str(uuid4()), 404),
        ):
            seen.clear()
            assert (await claim(node.api, lead, agent)).status == status
            assert seen == [CLAIM_MANY.announcing]


async def test_the_statements_that_are_counted_include_begin_and_commit(node: Node) -> None:
    """Or the story above would prove nothing."""
    async with statements(node) as seen:
        await execute(node, "select 1")
    assert [statement.split(";")[0].strip().lower() for statement in seen] == ["begin", "select 1", "commit"]


async def test_the_buyer_is_hidden_until_the_claim_and_from_losers_for_ever(api: Api, story: Story) -> None:
    winner, loser, _ = story.agents

    async def shown(agent: Person) -> tuple[Any, str]:
        lead = await api.get(f"/leads/{story.lead}", token=agent.token)
        desk = await api.get("/leads", token=agent.token)
        assert [one for one in desk.json if one["id"] == story.lead] in ([lead.json], [])
        return lead.json, str((lead.json, desk.json))

    for agent in story.agents:
        lead, everything = await shown(agent)
        assert (lead["status"], lead["buyer"], lead["conversation_id"], lead["claimed_by"]) == (
            "open",
            None,
            None,
            None,
        )
        assert not [secret for secret in story.secrets if secret in everything]
    assert (await claim(api, story.lead, winner)).status == 200
    lead, _everything = await shown(winner)
    assert (lead["buyer"]["full_name"], lead["buyer"]["phone"]) == tuple(story.secrets[:2])
    assert lead["conversation_id"] == story.conversation
    lead, everything = await shown(loser)
    assert (lead["status"], lead["buyer"], lead["conversation_id"]) == ("claimed", None, None)
    assert not [secret for secret in story.secrets if secret in everything]
    for person in (winner, loser):
        assert "email" not in str(lead)
        assert person.email not in everything


async def test_the_buyer_sees_their_own_lead(api: Api, story: Story) -> None:
    lead = (await api.get(f"/leads/{story.lead}", token=story.buyer.token)).json
    assert (lead["buyer"]["id"], lead["conversation_id"]) == (str(story.buyer.id), story.conversation)


async def test_a_desk_holds_what_is_open_or_one_s_own(api: Api, story: Story) -> None:
    winner, loser, _ = story.agents

    async def desk(agent: Person) -> list[str]:
        return [lead["id"] for lead in (await api.get("/leads", token=agent.token)).json]

    assert await desk(winner) == await desk(loser) == [story.lead]
    await claim(api, story.lead, winner)
    assert (await desk(winner), await desk(loser)) == ([story.lead], [])


async def test_a_stranger_cannot_tell_a_foreign_lead_from_none(api: Api, people: People, story: Story) -> None:
    stranger, _ = await people.agency()
    lone = await people.agent()
    for agent in (stranger, lone):
        unknown = uuid4()
        assert alike(await claim(api, story.lead, agent)) == alike(await claim(api, unknown, agent))
        assert alike(await api.get(f"/leads/{story.lead}", token=agent.token)) == alike(
            await api.get(f"/leads/{unknown}", token=agent.token)
        )
        foreign = await claim(api, story.lead, agent)
        assert (foreign.status, foreign.json["code"]) == (404, "lead-not-found")
    await claim(api, story.lead, story.agents[0])
    assert (await claim(api, story.lead, stranger)).status == 404


async def test_buyers_do_not_claim_and_nobody_does_without_signing_in(api: Api, people: People, story: Story) -> None:
    other = await people.buyer()
    for person in (story.buyer, other):
        refused = await claim(api, story.lead, person)
        assert (refused.status, refused.json["code"]) == (403, "denied")
    assert (await api.post(f"/leads/{story.lead}/claim")).status == 401
    assert (await api.get("/leads", token=other.token)).status == 403
    assert (await api.get(f"/leads/{story.lead}", token=other.token)).status == 404


async def test_a_buyer_who_becomes_an_agent_cannot_claim_their_own_lead(api: Api, story: Story) -> None:
    opened = await api.post("/agents/profile", json={"display_name": "Me too"}, token=story.buyer.token)
    assert opened.status == 201
    assert (await claim(api, story.lead, story.buyer)).status == 404


async def test_a_closed_lead_is_nobody_s_to_claim(node: Node, api: Api, story: Story) -> None:
    await execute(node, "update leads set status = 'closed' where id = $1", UUID(story.lead))
    refused = await claim(api, story.lead, story.agents[0])
    assert refused.status in {404, 409}
    assert await execute(node, "select status, claimed_by from leads where id = $1", UUID(story.lead)) == [
        ("closed", None)
    ]


async def test_an_id_that_is_none_is_invalid(api: Api, people: People) -> None:
    agent = await people.agent()
    for lead in ("1", "not-an-id", "%00", "018f0000-0000-7000-8000-00000000000g", "'; drop table leads"):
        refused = await claim(api, lead, agent)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/lead_id")
