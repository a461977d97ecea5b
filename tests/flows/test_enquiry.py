"""The main job: an enquiry reaches agents' sockets, one claims it, and buyer and winner talk."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tests.support import Api, LiveError, Node, People


async def test_an_enquiry_becomes_a_lead_that_one_agent_claims_and_both_sides_talk(node: Node, people: People) -> None:
    owner, agency = await people.agency()
    colleague = await people.agent(agency)
    buyer = await people.buyer()
    listing = await people.listing(owner)
    async with node.live(owner.token) as first, node.live(colleague.token) as second, node.live(buyer.token) as phone:
        enquiry = await people.enquire(buyer, listing, "ሰላም, is it still free?")
        assert (await phone.event("message.new"))["data"]["message"] == "ሰላም, is it still free?"
        for agent in (first, second):
            offered = await agent.event("lead.offered")
            assert offered["data"] == {
                "lead_id": enquiry["lead_id"],
                "listing_id": str(listing),
                "kind": "property",
                "price": 45000,
                "currency": "ETB",
            }

        claims = await asyncio.gather(
            first.rpc("lead.claim", lead_id=enquiry["lead_id"]),
            second.rpc("lead.claim", lead_id=enquiry["lead_id"]),
            return_exceptions=True,
        )
        won = [claim for claim in claims if not isinstance(claim, BaseException)]
        lost = [claim for claim in claims if isinstance(claim, LiveError)]
        assert len(won) == len(lost) == 1
        assert (lost[0].code, lost[0].problem["code"]) == (1401, "lead-taken")
        winner, loser, person = (first, second, owner) if claims[0] is won[0] else (second, first, colleague)
        assert won[0]["buyer"]["id"] == str(buyer.id)
        assert won[0]["conversation_id"] == enquiry["conversation_id"]
        assert (await winner.event("lead.claimed"))["data"]["claimed_by"] == str(person.id)
        assert (await loser.event("lead.taken"))["data"]["lead_id"] == enquiry["lead_id"]
        assert (await phone.event("enquiry.assigned"))["data"]["agent_id"] == str(person.id)

        said = await winner.rpc(
            "chat.send", conversation_id=enquiry["conversation_id"], client_id=uuid4().hex, message="Yes. Tomorrow?"
        )
        assert (said["seq"], said["receiver_id"]) == (2, str(buyer.id))
        for side in (winner, phone):
            heard = await side.event("message.new")
            assert (heard["data"]["message"], heard["data"]["seq"]) == ("Yes. Tomorrow?", 2)
        assert said["position"] == {"epoch": winner.epoch, "offset": winner.offset}


async def test_a_second_enquiry_joins_the_first_conversation(node: Node, people: People) -> None:
    agent = await people.agent()
    buyer, listing = await people.buyer(), await people.listing(agent)
    async with node.live(agent.token) as desk:
        first = await people.enquire(buyer, listing, "Is it free?")
        second = await people.enquire(buyer, listing, "And is there water?")
        assert (second["lead_id"], second["conversation_id"]) == (first["lead_id"], first["conversation_id"])
        assert second["message"]["seq"] == 2
        await desk.event("lead.offered")
        await desk.rpc("lead.claim", lead_id=first["lead_id"])
        await desk.event("lead.claimed")
        messages = await desk.rpc("chat.messages", conversation_id=first["conversation_id"])
        assert [message["message"] for message in messages] == ["Is it free?", "And is there water?"]


async def test_a_repeated_enquiry_answers_the_first_result_and_tells_nobody_twice(api: Api, people: People) -> None:
    agent = await people.agent()
    buyer, listing = await people.buyer(), await people.listing(agent)
    wish = {"client_id": uuid4().hex, "message": "Is it free?"}
    answers = [await api.post(f"/listings/{listing}/enquiries", json=wish, token=buyer.token) for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 201, 201]
    assert len({answer.json["message"]["id"] for answer in answers}) == 1
    assert answers[1].json["message"]["position"] is None
    changed = await api.post(f"/listings/{listing}/enquiries", json=wish | {"message": "Other"}, token=buyer.token)
    assert (changed.status, changed.json["code"]) == (422, "idempotency-mismatch")


async def test_a_seller_has_nothing_to_ask_about_their_own_listing(api: Api, people: People) -> None:
    owner, agency = await people.agency()
    colleague, listing = await people.agent(agency), await people.listing(owner)
    for seller in (owner, colleague):
        refused = await api.post(
            f"/listings/{listing}/enquiries", json={"client_id": uuid4().hex, "message": "Hm?"}, token=seller.token
        )
        assert (refused.status, refused.json["code"]) == (409, "own-listing")


@pytest.mark.parametrize("status", ["paused", "sold"])
async def test_only_what_is_on_offer_can_be_enquired_about(api: Api, people: People, status: str) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(agent)
    await api.put(f"/properties/{listing}", json={"status": status}, token=agent.token)
    wish = {"client_id": uuid4().hex, "message": "Is it free?"}
    for unknown in (listing, uuid4()):
        refused = await api.post(f"/listings/{unknown}/enquiries", json=wish, token=buyer.token)
        assert (refused.status, refused.json["code"]) == (404, "listing-not-found")
