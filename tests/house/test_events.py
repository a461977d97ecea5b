"""Events are made in SQL as well as in Python: whatever was stored is what its declared model says."""

from __future__ import annotations

import importlib
import pkgutil
from uuid import uuid4

import asyncpg
import pytest
from pydantic import TypeAdapter

import k2k
from k2k.app import LIVE
from k2k.core.ids import AgencyId, UserId
from k2k.features.agents import service as agents
from k2k.features.agents.models import AgencyRole
from k2k.features.listings.service import end_listings
from k2k.infra.streams import Event, declared_events
from tests.features.imports.sheets import imported, rows, sheet
from tests.support import Api, Node, People, Person


def all_events() -> dict[str, type[Event]]:
    """Every event of the house by its type."""
    for found in pkgutil.walk_packages(k2k.__path__, "k2k."):
        importlib.import_module(found.name)
    return {event.type: event for event in declared_events()}


EVENTS = all_events()


@pytest.fixture
async def story(api: Api, people: People) -> None:
    """Something of every type, in channels of every kind that it goes to."""
    owner, agency = await people.agency()
    await manage_and_leave(api, people)
    colleague = await people.agent(agency)
    buyer, listing = await people.buyer(), await people.listing(owner)
    enquiry = await people.enquire(buyer, listing)
    await api.post(f"/leads/{enquiry['lead_id']}/claim", token=colleague.token)
    said = {"conversation_id": enquiry["conversation_id"], "client_id": uuid4().hex, "message": "Secret words"}
    await api.post("/chat/messages", json=said, token=colleague.token)
    for change in ({"price": 41000}, {"status": "rented"}):
        await api.put(f"/properties/{listing}", json=change, token=owner.token)
    await end_some(people)
    await moderate(api, people, buyer)
    await imported(api, owner, sheet(rows(120)))  # more than a chunk
    await api.post("/auth/logout", token=buyer.token)


async def end_some(people: People) -> None:
    """One listing ends soon, another's time is over."""
    seller, node = await people.agent(), people._node
    for days in (1, -1):
        await node.process.db.records(
            "update listings set expires_at = now() + make_interval(days => $2) where id = $1",
            [await people.listing(seller), days],
        )
    await end_listings(node.process.db, node.settings.listings)


async def moderate(api: Api, people: People, buyer: Person) -> None:
    """Somebody reports a listing; a moderator looks at it, rejects it, and thinks better of it."""
    moderator, listing = await people.admin(), await people.listing(await people.agent())
    report = {"reason": "fraud", "text": "Secret words"}
    await api.post(f"/listings/{listing}/reports", json=report, token=buyer.token)
    at = f"/moderation/listings/{listing}"
    (item,) = (await api.get(at, token=moderator.token)).json["items"]
    await api.post(f"/moderation/queue/{item['id']}/claim", token=moderator.token)
    for step, sent in (("reject", {"json": {"reason": "Secret words"}}), ("approve", {})):
        assert (await api.post(f"{at}/{step}", token=moderator.token, **sent)).status == 200


async def manage_and_leave(api: Api, people: People) -> None:
    """Somebody becomes manager of an agency and leaves it."""
    _, agency = await people.agency()
    manager = await people.agent()
    async with people._node.process.db.transaction() as tx:
        await agents.join_agency(tx, UserId(manager.id), AgencyId(agency), AgencyRole.manager)
    members = (await api.get(f"/agencies/{agency}")).json["members"]
    (profile,) = [member["id"] for member in members if member["user_id"] == str(manager.id)]
    assert (await api.delete(f"/agencies/{agency}/members/{profile}", token=manager.token)).status == 200


@pytest.mark.usefixtures("story")
async def test_stored_events_are_what_they_are_declared_to_be(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    stored = await connection.fetch("select distinct type, data::text from events where type !~ '^(test|bench)\\.'")
    await connection.close()
    for type_, data in stored:
        TypeAdapter(EVENTS[type_]).validate_json(data)
    assert {type_ for type_, _ in stored} == set(EVENTS)


@pytest.mark.usefixtures("story")
async def test_events_go_to_channels_of_the_kinds_they_name_and_to_all_of_them(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    gone = await connection.fetch(
        "select distinct type, split_part(channel, ':', 1) from events join streams on streams.id = stream_id"
    )
    await connection.close()
    went = {(type_, kind) for type_, kind in gone if not type_.startswith(("test.", "bench."))}
    assert went == {(type_, kind) for type_, event in EVENTS.items() for kind in event.to}


def test_text_is_joined_to_the_events_that_say_so_and_to_no_other(node: Node) -> None:
    assert set(node.process.hub._streams.joiners) == {type_ for type_, event in EVENTS.items() if event.joined}


def test_the_documents_know_every_event() -> None:
    assert {event.type for event in LIVE.events} == set(EVENTS)


@pytest.mark.usefixtures("story")
async def test_what_people_wrote_is_in_no_event(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    kept = await connection.fetchval("select count(*) from events where data::text like '%Secret words%'")
    await connection.close()
    assert kept == 0
