"""Reports: one open one a person and listing, nobody tells the owner, and a moderator settles them all at once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from k2k.core.settings import Settings
from k2k.features.moderation.api import REPORT_RATE
from tests.features.moderation.desk import Desk, claimed_meanwhile, submitted
from tests.support import Api, Node, People, Person, Response


async def reported(api: Api, person: Person, listing: UUID, reason: str = "fraud", **more: Any) -> Response:
    return await api.post(f"/listings/{listing}/reports", json={"reason": reason, **more}, token=person.token)


@pytest.fixture
async def listing(people: People, seller: Person) -> UUID:
    return await people.listing(seller)


async def test_a_moderator_sees_who_reported_what_and_why(api: Api, people: People, desk: Desk, listing: UUID) -> None:
    buyer = await people.buyer()
    answer = await reported(api, buyer, listing, "wrong_price", text="ዋጋው ትክክል አይደለም")
    assert answer.status == 201
    assert answer.json.keys() == {"id", "listing_id", "reason", "text", "created_at"}
    seen = await desk.about(listing)
    assert [item["kind"] for item in seen["items"]] == ["reports"]
    (report,) = seen["reports"]
    assert (report["reporter_id"], report["state"], report["text"]) == (str(buyer.id), "open", "ዋጋው ትክክል አይደለም")
    assert report["settled_by"] is None


async def test_a_second_report_by_the_same_person_is_the_first(
    api: Api, people: People, desk: Desk, listing: UUID
) -> None:
    buyer = await people.buyer()
    first = await reported(api, buyer, listing, "spam")
    again = await reported(api, buyer, listing, "fraud", text="Once more")
    assert (again.status, again.raw) == (201, first.raw)
    assert (await reported(api, await people.buyer(), listing, "spam")).json["id"] != first.json["id"]
    seen = await desk.about(listing)
    assert len(seen["reports"]) == 2
    assert len(seen["items"]) == 1


async def test_ten_reports_at_once_by_the_same_person_are_one(
    api: Api, second_node: Node, people: People, desk: Desk, listing: UUID
) -> None:
    buyer = await people.buyer()
    answers = await asyncio.gather(
        *(reported(node, buyer, listing) for node in (api, second_node.api) for _ in range(5))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.raw for answer in answers}) == 1
    assert len((await desk.about(listing))["reports"]) == 1


async def test_the_owner_hears_and_sees_nothing_of_it(api: Api, people: People, seller: Person, listing: UUID) -> None:
    before = (await api.get("/sync", token=seller.token)).json["next"]
    await reported(api, await people.buyer(), listing, text="He asked for money first")
    synced = await api.get("/sync", params={"since": before, "wait": 0}, token=seller.token)
    assert synced.json["events"] == []
    for path in (f"/properties/{listing}", "/users/me/listings", "/me/state"):
        assert b"money first" not in (await api.get(path, token=seller.token)).raw
    assert (await api.get(f"/moderation/listings/{listing}", token=seller.token)).status == 403


async def test_dismissed_reports_stay_on_record_and_the_person_may_report_anew(
    api: Api, people: People, desk: Desk, listing: UUID
) -> None:
    buyer = await people.buyer()
    first = await reported(api, buyer, listing)
    await reported(api, await people.buyer(), listing)
    settled = await desk.post(f"/listings/{listing}/reports/dismiss")
    assert settled.status == 200
    assert settled.json["items"] == []
    assert {(one["state"], one["settled_by"]) for one in settled.json["reports"]} == {
        ("dismissed", str(desk.moderator.id))
    }
    assert (await api.get(f"/properties/{listing}")).status == 200
    assert (await desk.post(f"/listings/{listing}/reports/dismiss")).status == 200, "nothing is left to dismiss"
    again = await reported(api, buyer, listing)
    assert again.json["id"] != first.json["id"]
    assert await desk.kinds(listing) == ["reports"]


async def test_rejecting_a_listing_upholds_its_reports(api: Api, people: People, desk: Desk, listing: UUID) -> None:
    await reported(api, await people.buyer(), listing)
    rejected = await desk.post(f"/listings/{listing}/reject", json={"reason": "This house is not yours"})
    assert [one["state"] for one in rejected.json["reports"]] == ["upheld"]
    assert rejected.json["items"] == []


async def test_what_another_moderator_is_at_is_not_dismissed(
    api: Api, people: People, desk: Desk, other_desk: Desk, listing: UUID
) -> None:
    await reported(api, await people.buyer(), listing)
    item = await desk.item(listing, "reports")
    assert (await other_desk.post(f"/queue/{item['id']}/claim")).status == 200
    refused = await desk.post(f"/listings/{listing}/reports/dismiss")
    assert (refused.status, refused.json["code"]) == (409, "moderation-item-taken")
    assert (await other_desk.post(f"/listings/{listing}/reports/dismiss")).status == 200


async def test_a_claim_made_while_somebody_dismisses_counts(
    api: Api, node: Node, people: People, desk: Desk, other_desk: Desk, listing: UUID
) -> None:
    await reported(api, await people.buyer(), listing)
    item = await desk.item(listing, "reports")
    deciding = desk.post(f"/listings/{listing}/reports/dismiss")
    refused = await claimed_meanwhile(node, other_desk.moderator, item, deciding)
    assert (refused.status, refused.json["code"]) == (409, "moderation-item-taken")
    assert [report["state"] for report in (await desk.about(listing))["reports"]] == ["open"]


async def test_what_is_not_public_cannot_be_reported(api: Api, people: People, seller: Person, listing: UUID) -> None:
    buyer, hidden = await people.buyer(), await submitted(api, seller)
    await api.delete(f"/properties/{listing}", token=seller.token)
    for nothing in (hidden, listing, uuid4()):
        refused = await reported(api, buyer, nothing)
        assert (refused.status, refused.json["code"]) == (404, "listing-not-found")
    assert (await api.post(f"/listings/{hidden}/reports", json={"reason": "spam"})).status == 401


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"reason": "ugly"}, "/reason"),
        ({"reason": "Spam"}, "/reason"),
        ({"reason": None}, "/reason"),
        ({"text": "No reason"}, "/reason"),
        ({"reason": "spam", "text": "x" * 5000}, "/text"),
        ({"reason": "spam", "text": "   "}, "/text"),
        ({"reason": "spam", "text": "a\x00b"}, "/text"),
        ({"reason": "spam", "state": "upheld"}, "/state"),
        ({"reason": "spam", "reporter_id": str(uuid4())}, "/reporter_id"),
    ],
)
async def test_a_report_that_makes_no_sense_is_refused(
    api: Api, people: People, desk: Desk, listing: UUID, body: dict[str, Any], pointer: str
) -> None:
    buyer = await people.buyer()
    refused = await api.post(f"/listings/{listing}/reports", json=body, token=buyer.token)
    assert refused.status == 422
    assert {fault["pointer"] for fault in refused.json["errors"]} == {pointer}
    assert (await desk.about(listing))["reports"] == []


async def test_somebody_who_reports_everything_is_slowed_down(
    settings: Settings, people: People, seller: Person
) -> None:
    counted = settings.limits.model_copy(update={"enabled": True})
    node, buyer = await Node.start(settings.model_copy(update={"limits": counted})), await people.buyer()
    listing = await people.listing(seller)
    answers = [await reported(node.api, buyer, listing) for _ in range(REPORT_RATE.count + 1)]
    await node.stop()
    assert [answer.status for answer in answers] == [201] * REPORT_RATE.count + [429]
    assert answers[-1].json["retry_after"] > 0


async def test_a_report_made_while_the_listing_is_rejected_never_waits_for_nobody(
    api: Api, people: People, desk: Desk, seller: Person
) -> None:
    buyers = [await people.buyer() for _ in range(4)]
    for _ in range(5):
        listing = await people.listing(seller)
        await asyncio.gather(
            *(reported(api, buyer, listing) for buyer in buyers),
            desk.post(f"/listings/{listing}/reject", json={"reason": "No"}),
        )
        seen = await desk.about(listing)
        assert {one["state"] for one in seen["reports"]} <= {"upheld"}
        assert seen["items"] == []
