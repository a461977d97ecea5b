"""The law of state with position: what there is, and the events after it, make what a fresh fetch answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from k2k.app import CHANNELS, OPERATIONS
from tests.support import Api, Live, Node, People, Person


@dataclass
class Shown:
    """What an app shows, kept in step as docs/live.md says: by id, and what only some may see is fetched."""

    live: Live
    person: Person
    conversations: dict[str, Any] = field(default_factory=dict)
    leads: dict[str, Any] = field(default_factory=dict)

    async def load(self) -> None:
        state = await self.live.rpc("me.state")
        self.conversations = {one["id"]: one for one in state["conversations"]}
        self.leads = {one["id"]: one for one in state["leads"]}
        position = state["position"]
        joined = await self.live.subscribe(f"user:{self.person.id}", recover=True, flag=3, **position)
        assert joined["recovered"]
        self.live.personal = f"user:{self.person.id}"
        for published in joined["publications"]:
            await self.apply(published["data"])

    async def keep_up(self, *types: str) -> None:
        for type_ in types:
            await self.apply(await self.live.event(type_))

    async def apply(self, event: dict[str, Any]) -> None:
        data = event["data"]
        match event["type"]:
            case "lead.offered" | "lead.claimed":
                self.leads[data["lead_id"]] = await self.live.rpc("lead.get", lead_id=data["lead_id"])
                await self.fetch_conversations()
            case "lead.taken":
                self.leads.pop(data["lead_id"], None)
            case "enquiry.assigned":
                await self.fetch_conversations()
            case "message.new":
                if data["conversation_id"] not in self.conversations:
                    await self.fetch_conversations()
                talk = self.conversations[data["conversation_id"]]
                if talk["top_seq"] < data["seq"]:
                    talk["top_seq"] = data["seq"]
                    talk["last_message"] = {name: data[name] for name in ("seq", "sender_id", "client_id", "message")}
            case "session.revoked" | "access.gained" | "access.lost" | "listing.approved" | "listing.rejected":
                pass
            case unknown:
                raise AssertionError(f"{unknown} is not applied here: say how it changes what is shown")

    async def fetch_conversations(self) -> None:
        self.conversations = {one["id"]: one for one in await self.live.rpc("chat.conversations")}

    def same_as(self, state: dict[str, Any]) -> bool:
        """Whether this is what a fresh fetch answers, but for what no event tells: when a row was last touched."""
        fresh = {one["id"]: told(one) for one in state["conversations"]}
        return fresh == {id_: told(one) for id_, one in self.conversations.items()} and {
            lead["id"]: lead["status"] for lead in state["leads"]
        } == {id_: lead["status"] for id_, lead in self.leads.items()}


def told(talk: dict[str, Any]) -> dict[str, Any]:
    last = talk["last_message"]
    return {
        **{name: talk[name] for name in ("id", "lead_id", "listing_id", "buyer_id", "agent_id", "top_seq")},
        "last": last and (last["seq"], last["sender_id"], last["client_id"], last["message"]),
    }


@pytest.fixture
async def thread(people: People) -> tuple[Person, Person, UUID]:
    """The owner of an agency, a colleague, and a listing of the owner's."""
    owner, agency = await people.agency()
    return owner, await people.agent(agency), await people.listing(owner)


@pytest.fixture
async def buyer(people: People) -> Person:
    return await people.buyer()


@pytest.fixture
async def screens(
    node: Node, second_node: Node, thread: tuple[Person, Person, UUID], buyer: Person
) -> AsyncIterator[list[Shown]]:
    owner, colleague, _ = thread
    async with (
        Live.open(node.api.base) as first,
        Live.open(second_node.api.base) as second,
        Live.open(node.api.base) as third,
    ):
        shown = [Shown(first, owner), Shown(second, colleague), Shown(third, buyer)]
        for screen in shown:
            await screen.live.connect(screen.person.token, data={"personal": "client"})
            await screen.load()
        yield shown


async def test_state_and_the_events_after_it_are_what_a_fresh_fetch_answers(
    node: Node, people: People, thread: tuple[Person, Person, UUID], buyer: Person, screens: list[Shown]
) -> None:
    _, colleague, listing = thread
    desk, other, mine = screens
    enquiry = await people.enquire(buyer, listing)
    await desk.keep_up("lead.offered")
    await other.keep_up("lead.offered")
    await mine.keep_up("message.new")
    await same(node.api, screens)
    await node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=colleague.token)
    await other.keep_up("lead.claimed")
    await desk.keep_up("lead.taken")
    await mine.keep_up("enquiry.assigned")
    await same(node.api, screens)
    for person, words in ((colleague, "Yes, come and see"), (buyer, "Tomorrow at ten?")):
        said = {"conversation_id": enquiry["conversation_id"], "client_id": uuid4().hex, "message": words}
        await node.api.post("/chat/messages", json=said, token=person.token)
        await other.keep_up("message.new")
        await mine.keep_up("message.new")
    await same(node.api, screens)


async def same(api: Api, screens: list[Shown]) -> None:
    for screen in screens:
        fresh = await api.get("/me/state", token=screen.person.token)
        assert screen.same_as(fresh.json), (screen.conversations, screen.leads, fresh.json)


async def test_an_agencys_desk_is_for_those_who_run_it_and_has_its_channels_position(
    node: Node, people: People, buyer: Person
) -> None:
    owner, agency = await people.agency()
    member = await people.agent(agency)
    listing = await people.listing(owner)
    desk = (await node.api.get(f"/agencies/{agency}/desk", token=owner.token)).json
    assert desk["leads"] == []
    async with node.live(owner.token) as live:
        joined = await live.subscribe(f"agency:{agency}", recover=True, **desk["position"])
        assert (joined["recovered"], joined["publications"]) == (True, [])
        await live.hear(f"agency:{agency}", "join")
        enquiry = await people.enquire(buyer, listing)
        heard = await live.hear(f"agency:{agency}", "pub")
        assert heard["data"]["data"]["lead_id"] == enquiry["lead_id"]
    later = (await node.api.get(f"/agencies/{agency}/desk", token=owner.token)).json
    assert [lead["id"] for lead in later["leads"]] == [enquiry["lead_id"]]
    assert later["position"]["offset"] == desk["position"]["offset"] + 1
    assert later["leads"][0]["buyer"] is None
    assert (await node.api.get(f"/agencies/{agency}/desk", token=member.token)).status == 403
    assert (await node.api.get(f"/agencies/{uuid4()}/desk", token=owner.token)).status == 404


def test_every_state_that_a_channel_names_is_an_operation() -> None:
    rpcs = {operation.rpc for operation in OPERATIONS}
    assert {kind.state for kind in CHANNELS if kind.state} <= rpcs
