"""The queue: what waits and for how long, who is at it, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from k2k.core.settings import Settings
from tests.features.moderation.desk import Desk, claimed_meanwhile, inspected, submitted
from tests.support import Api, Live, Node, People, Person, a_property, a_vehicle, eventually, moment


async def test_what_waits_for_review_is_in_the_queue_and_gone_when_it_does_not(
    api: Api, desk: Desk, seller: Person
) -> None:
    listing = await submitted(api, seller, title="ቤት ለኪራይ")
    item = await desk.item(listing, "review")
    assert (item["listing_kind"], item["listing_title"], item["claimed_by"]) == ("property", "ቤት ለኪራይ", None)
    assert (await desk.get(f"/queue/{item['id']}")).json == item
    assert item in await desk.queue(kind="review")
    assert item not in await desk.queue(kind="reports")
    await api.put(f"/properties/{listing}", json={"status": "draft"}, token=seller.token)
    await desk.waits(listing)
    gone = await desk.get(f"/queue/{item['id']}")
    assert (gone.status, gone.json["code"]) == (404, "moderation-item-not-found")
    await api.put(f"/properties/{listing}", json={"status": "pending_review"}, token=seller.token)
    assert (await desk.item(listing, "review"))["id"] != item["id"]


async def test_what_its_owner_deletes_does_not_wait(api: Api, desk: Desk, seller: Person) -> None:
    listing = await submitted(api, seller)
    item = await desk.item(listing, "review")
    await api.delete(f"/properties/{listing}", token=seller.token)

    async def gone() -> bool:
        return (await desk.get(f"/queue/{item['id']}")).status == 404

    await eventually(gone)


async def test_the_oldest_comes_first_page_by_page_and_everything_once(api: Api, desk: Desk, seller: Person) -> None:
    listings = [await submitted(api, seller) for _ in range(5)]
    mine = [(await desk.item(listing, "review"))["id"] for listing in listings]
    whole = await desk.queue(limit=100)
    births = [moment(item["created_at"]) for item in whole]
    assert births == sorted(births)
    assert set(mine) <= {item["id"] for item in whole}
    for limit in (1, 2, 3):
        pages = await desk.queue(limit=limit)
        assert [item["id"] for item in pages] == [item["id"] for item in whole]


async def test_a_page_is_continued_where_it_ended_whatever_is_done_meanwhile(
    api: Api, desk: Desk, seller: Person
) -> None:
    listings, items = [], []
    for _ in range(3):
        listings.append(await submitted(api, seller))
        items.append((await desk.item(listings[-1], "review"))["id"])
    page = (await desk.get("/queue", params={"kind": "review", "limit": 1})).json
    while page["items"][0]["id"] != items[0]:
        page = (await desk.get("/queue", params={"kind": "review", "limit": 1, "cursor": page["next"]})).json
    for listing in listings[:2]:
        await desk.post(f"/listings/{listing}/reject", json={"reason": "No pictures"})
    rest = {item["id"] for item in await desk.queue(kind="review", cursor=page["next"])}
    assert rest & set(items) == {items[2]}


async def test_a_forged_cursor_is_refused(api: Api, desk: Desk, seller: Person) -> None:
    for _ in range(2):
        await desk.item(await submitted(api, seller), "review")
    cursor = (await desk.get("/queue", params={"limit": 1})).json["next"]
    forged = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    for query in ({"cursor": forged}, {"cursor": "x"}, {"cursor": cursor, "kind": "reports"}):
        refused = await desk.get("/queue", params=query)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/cursor")
    refused = await api.get("/users/me/listings", params={"cursor": cursor}, token=seller.token)
    assert refused.status == 422


# Claims


@pytest.fixture
async def item(api: Api, desk: Desk, seller: Person) -> dict[str, Any]:
    return await desk.item(await submitted(api, seller), "review")


async def test_of_two_moderators_one_has_it(
    desk: Desk, other_desk: Desk, second_node: Node, item: dict[str, Any]
) -> None:
    other_desk = Desk(second_node.api, other_desk.moderator)
    answers = await asyncio.gather(
        *(each.post(f"/queue/{item['id']}/claim") for each in (desk, other_desk) for _ in range(5))
    )
    won = {answer.json["claimed_by"] for answer in answers if answer.status == 200}
    assert len(won) == 1
    assert sorted(answer.status for answer in answers) == [200] * 5 + [409] * 5
    assert {answer.json["code"] for answer in answers if answer.status == 409} == {"moderation-item-taken"}


async def test_the_other_one_decides_nothing_meanwhile(desk: Desk, other_desk: Desk, item: dict[str, Any]) -> None:
    listing = item["listing_id"]
    assert (await desk.post(f"/queue/{item['id']}/claim")).status == 200
    for path, sent in (("approve", {}), ("reject", {"json": {"reason": "No"}})):
        refused = await other_desk.post(f"/listings/{listing}/{path}", **sent)
        assert (refused.status, refused.json["code"]) == (409, "moderation-item-taken")
    assert (await desk.post(f"/listings/{listing}/approve")).status == 200


async def test_a_claim_runs_out_and_claiming_again_makes_it_longer(
    node: Node, desk: Desk, other_desk: Desk, item: dict[str, Any]
) -> None:
    claimed = (await desk.post(f"/queue/{item['id']}/claim")).json
    left = moment(claimed["claimed_until"]) - node.process.db.clock.now()
    assert 14 * 60 < left.total_seconds() <= 15 * 60
    assert (await other_desk.post(f"/queue/{item['id']}/claim")).status == 409
    again = (await desk.post(f"/queue/{item['id']}/claim")).json
    assert again["claimed_until"] > claimed["claimed_until"]
    await node.process.db.records(
        "update moderation_items set claimed_until = now() - interval '1 ms' where id = $1", [UUID(item["id"])]
    )
    taken = await other_desk.post(f"/queue/{item['id']}/claim")
    assert (taken.status, taken.json["claimed_by"]) == (200, str(other_desk.moderator.id))
    assert (await desk.post(f"/queue/{item['id']}/claim")).status == 409


async def test_a_claim_made_while_somebody_decides_counts(
    node: Node, desk: Desk, other_desk: Desk, item: dict[str, Any]
) -> None:
    deciding = desk.post(f"/listings/{item['listing_id']}/approve")
    refused = await claimed_meanwhile(node, other_desk.moderator, item, deciding)
    assert (refused.status, refused.json["code"]) == (409, "moderation-item-taken")
    assert (await desk.about(item["listing_id"]))["listing"]["status"] == "pending_review"


async def test_what_does_not_wait_cannot_be_claimed(desk: Desk, item: dict[str, Any]) -> None:
    await desk.post(f"/listings/{item['listing_id']}/approve")
    for nothing in (item["id"], uuid4()):
        refused = await desk.post(f"/queue/{nothing}/claim")
        assert (refused.status, refused.json["code"]) == (404, "moderation-item-not-found")


# Decisions


async def test_an_approved_listing_is_public_and_its_owner_hears_so(
    api: Api, node: Node, desk: Desk, seller: Person
) -> None:
    listing = await submitted(api, seller)
    await desk.item(listing, "review")
    async with node.live(seller.token) as live:
        approved = await desk.post(f"/listings/{listing}/approve")
        assert approved.status == 200
        assert (await live.event("listing.approved"))["data"] == {"listing_id": str(listing)}
    assert (approved.json["listing"]["status"], approved.json["items"]) == ("active", [])
    seen = (await api.get(f"/properties/{listing}")).json
    assert moment(seen["published_at"]) >= moment(seen["created_at"])
    assert moment(seen["expires_at"]) > moment(seen["published_at"])


async def test_a_rejected_listing_disappears_and_its_owner_can_read_why(
    api: Api, node: Node, people: People, desk: Desk, seller: Person
) -> None:
    listing = await people.listing(seller)
    why = 'The pictures are of\nanother "house"'
    async with node.live(seller.token) as owner, Live.open(node.api.base) as visitor:
        await visitor.command("connect", {})
        await visitor.subscribe(f"listing:{listing}")
        rejected = await desk.post(f"/listings/{listing}/reject", json={"reason": why})
        assert rejected.status == 200
        assert (await owner.event("listing.rejected"))["data"] == {"listing_id": str(listing)}
        heard = (await visitor.hear(f"listing:{listing}", "pub"))["data"]
        assert (heard["type"], heard["data"]["status"]) == ("listing.status_changed", "withdrawn")
    assert (rejected.json["listing"]["status"], rejected.json["review_reason"]) == ("rejected", why)
    assert (await api.get(f"/properties/{listing}")).status == 404
    mine = await api.get("/users/me/listings", params={"status": "rejected"}, token=seller.token)
    assert [(one["id"], one["review_reason"]) for one in mine.json["items"]] == [(str(listing), why)]
    assert b"another" not in (await api.get(f"/properties/{listing}", token=seller.token)).raw


async def test_deciding_the_same_again_changes_nothing_and_is_no_news(
    api: Api, people: People, desk: Desk, seller: Person
) -> None:
    listing = await people.listing(seller)
    first = await desk.post(f"/listings/{listing}/reject", json={"reason": "No"})
    before = (await api.get("/sync", token=seller.token)).json["next"]
    again = await desk.post(f"/listings/{listing}/reject", json={"reason": "Still no"})
    assert (again.status, again.json) == (200, first.json)
    synced = await api.get("/sync", params={"since": before, "wait": 0}, token=seller.token)
    assert synced.json["events"] == []


async def test_a_rejected_listing_comes_back_only_by_a_moderator_s_word(
    api: Api, people: People, desk: Desk, seller: Person
) -> None:
    listing = await people.listing(seller)
    address = f"/properties/{listing}"
    await desk.post(f"/listings/{listing}/reject", json={"reason": "No pictures"})
    for steps in (["draft"], ["pending_review", "withdrawn"]):
        for step in steps:
            assert (await api.put(address, json={"status": step}, token=seller.token)).status == 200
        for goal in ("active", "coming_soon"):
            refused = await api.put(address, json={"status": goal}, token=seller.token)
            assert (refused.status, refused.json["code"]) == (409, "status-not-possible")
    assert (await api.put(address, json={"status": "pending_review"}, token=seller.token)).status == 200
    approved = await desk.post(f"/listings/{listing}/approve")
    assert (approved.json["listing"]["status"], approved.json["review_reason"]) == ("active", None)
    for step in ("paused", "active"):
        assert (await api.put(address, json={"status": step}, token=seller.token)).status == 200


async def test_a_rejection_can_be_taken_back(api: Api, people: People, desk: Desk, seller: Person) -> None:
    listing = await people.listing(seller)
    await desk.post(f"/listings/{listing}/reject", json={"reason": "A mistake"})
    assert (await desk.post(f"/listings/{listing}/approve")).json["listing"]["status"] == "active"
    assert (await api.get(f"/properties/{listing}")).status == 200


async def test_what_is_on_offer_anew_is_not_published_a_second_time(api: Api, desk: Desk, seller: Person) -> None:
    vin = f"JTD{uuid4().hex[:14].upper()}"
    first = (await api.post("/vehicles", json=a_vehicle(vin=vin), token=seller.token)).json["id"]
    await desk.post(f"/listings/{first}/reject", json={"reason": "No"})
    assert (await api.post("/vehicles", json=a_vehicle(vin=vin), token=seller.token)).status == 201
    refused = await desk.post(f"/listings/{first}/approve")
    assert (refused.status, refused.json["code"]) == (409, "unit-on-offer")
    bulk = await desk.post("/listings/approve", json={"listing_ids": [first]})
    assert [one["error"] for one in bulk.json] == ["unit-on-offer"]


async def test_of_two_rejected_ones_of_a_unit_the_first_is_approved(api: Api, desk: Desk, seller: Person) -> None:
    vin, made = f"JTD{uuid4().hex[:14].upper()}", []
    for _ in range(2):
        made.append((await api.post("/vehicles", json=a_vehicle(vin=vin), token=seller.token)).json["id"])
        await desk.post(f"/listings/{made[-1]}/reject", json={"reason": "No"})
    answer = await desk.post("/listings/approve", json={"listing_ids": made[::-1]})
    assert {one["listing_id"]: one["error"] for one in answer.json} == {made[0]: None, made[1]: "unit-on-offer"}


@pytest.mark.parametrize("step", ["withdrawn", "expired"])
async def test_what_its_owner_could_put_back_can_be_rejected(
    api: Api, node: Node, people: People, desk: Desk, seller: Person, step: str
) -> None:
    listing = await people.listing(seller)
    if step == "withdrawn":
        await api.put(f"/properties/{listing}", json={"status": "withdrawn"}, token=seller.token)
    else:
        sql = "update listings set status = 'expired', version = version + 1 where id = $1"
        await node.process.db.records(sql, [listing])
    assert (await desk.post(f"/listings/{listing}/reject", json={"reason": "A fraud"})).status == 200
    back = await api.put(f"/properties/{listing}", json={"status": "active"}, token=seller.token)
    assert (back.status, back.json["code"]) == (409, "status-not-possible")
    assert (await api.post(f"/properties/{listing}/renew", token=seller.token)).status == 409


async def test_what_is_sold_is_not_reviewed(api: Api, people: People, desk: Desk, seller: Person) -> None:
    listing = await people.listing(seller)
    await api.put(f"/properties/{listing}", json={"status": "rented"}, token=seller.token)
    for path, sent in (("approve", {}), ("reject", {"json": {"reason": "No"}})):
        refused = await desk.post(f"/listings/{listing}/{path}", **sent)
        assert (refused.status, refused.json["code"]) == (409, "status-not-possible")


async def test_of_many_at_once_each_has_its_own_outcome(
    api: Api, people: People, desk: Desk, other_desk: Desk, seller: Person
) -> None:
    waiting, claimed = [await submitted(api, seller) for _ in range(3)], await submitted(api, seller)
    item = await desk.item(claimed, "review")
    await other_desk.post(f"/queue/{item['id']}/claim")
    rented, nothing = await people.listing(seller), uuid4()
    await api.put(f"/properties/{rented}", json={"status": "rented"}, token=seller.token)
    asked = [str(one) for one in (waiting[0], nothing, claimed, waiting[1], rented, waiting[2])]
    answer = await desk.post("/listings/approve", json={"listing_ids": asked})
    assert answer.status == 200
    assert [one["listing_id"] for one in answer.json] == asked
    errors = [None, "listing-not-found", "moderation-item-taken", None, "status-not-possible", None]
    assert [one["error"] for one in answer.json] == errors
    for listing in waiting:
        assert (await api.get(f"/properties/{listing}")).status == 200
    assert (await desk.about(claimed))["listing"]["status"] == "pending_review"
    rejected = await desk.post("/listings/reject", json={"listing_ids": asked[:1], "reason": "After all, no"})
    assert [one["error"] for one in rejected.json] == [None]
    assert (await desk.about(waiting[0]))["review_reason"] == "After all, no"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("approve", {"listing_ids": []}, "/listing_ids"),
        ("approve", {"listing_ids": [str(uuid4()) for _ in range(101)]}, "/listing_ids"),
        ("approve", {"listing_ids": ["x"]}, "/listing_ids/0"),
        ("approve", {"listing_ids": [str(UUID(int=1))] * 2}, ""),
        ("approve", {"listing_ids": [str(UUID(int=1))], "reason": "No"}, "/reason"),
        ("reject", {"listing_ids": [str(UUID(int=1))]}, "/reason"),
        ("reject", {"listing_ids": [str(UUID(int=1))], "reason": "x" * 5000}, "/reason"),
        (f"{UUID(int=1)}/reject", {"reason": "  "}, "/reason"),
        (f"{UUID(int=1)}/reject", {"reason": "x" * 1001}, "/reason"),
        (f"{UUID(int=1)}/reject", {}, "/reason"),
    ],
)
async def test_a_decision_that_makes_no_sense_is_refused(
    desk: Desk, path: str, body: dict[str, Any], pointer: str
) -> None:
    refused = await desk.post(f"/listings/{path}", json=body)
    assert refused.status == 422
    assert {fault["pointer"] for fault in refused.json["errors"]} == {pointer}


async def test_a_hundred_are_decided_at_once(api: Api, people: People, desk: Desk, seller: Person) -> None:
    listings = [str(await people.listing(seller)) for _ in range(100)]
    answer = await desk.post("/listings/reject", json={"listing_ids": listings, "reason": "Copied"})
    assert [one["error"] for one in answer.json] == [None] * 100


async def test_moderators_alone_decide(api: Api, people: People, seller: Person, item: dict[str, Any]) -> None:
    listing = item["listing_id"]
    for person in (seller, await people.buyer()):
        for method, path in (
            ("GET", "/queue"),
            ("GET", f"/queue/{item['id']}"),
            ("POST", f"/queue/{item['id']}/claim"),
            ("GET", f"/listings/{listing}"),
            ("POST", f"/listings/{listing}/approve"),
            ("GET", f"/listings/{listing}/duplicates"),
        ):
            refused = await api.request(method, f"/moderation{path}", token=person.token)
            assert (refused.status, refused.json["code"]) == (403, "denied")
        refused = await api.put(f"/properties/{listing}", json={"status": "active"}, token=seller.token)
        assert refused.status == 409


# Where everything is looked at first


@pytest.fixture
async def strict(settings: Settings) -> AsyncIterator[Node]:
    """A node where offers are reviewed."""
    reviewed = settings.listings.model_copy(update={"review": True})
    node = await Node.start(settings.model_copy(update={"listings": reviewed}))
    yield node
    await node.stop()


async def test_with_reviews_on_nobody_goes_round_them(strict: Node, desk: Desk, seller: Person) -> None:
    api = strict.api
    made = await api.post("/properties", json=a_property(), token=seller.token)
    assert made.json["status"] == "pending_review"
    listing = UUID(made.json["id"])
    await desk.waits(listing, "review")
    for step, status in (("withdrawn", 200), ("active", 409), ("coming_soon", 409), ("pending_review", 200)):
        moved = await api.put(f"/properties/{listing}", json={"status": step}, token=seller.token)
        assert moved.status == status, step
    assert (await desk.post(f"/listings/{listing}/approve")).status == 200
    for step in ("withdrawn", "active"):
        assert (await api.put(f"/properties/{listing}", json={"status": step}, token=seller.token)).status == 200
    await inspected(strict)
    assert await desk.kinds(listing) == []
