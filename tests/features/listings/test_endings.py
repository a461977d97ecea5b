"""The time of a listing: warned, ended, renewed; and what was asked for it from first to last."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from k2k.core.settings import ListingSettings, Settings
from k2k.features.listings.service import end_listings
from tests.support import Api, Node, People, Person, a_property


async def ends_in(node: Node, listing: UUID, time: timedelta) -> None:
    await node.process.db.records("update listings set expires_at = now() + $2 where id = $1", [listing, time])


async def told(node: Node, person: Person) -> list[tuple[str, str]]:
    """What the person's stream says of listings."""
    rows = await node.process.db.records(
        """select type, data ->> 'listing_id' as listing from events join streams on streams.id = stream_id
           where channel = 'user:' || $1::text and type like 'listing.%' order by "offset" """,
        [str(person.id)],
    )
    return [(row["type"], row["listing"]) for row in rows]


async def test_the_owner_is_warned_once_and_told_when_it_ends(api: Api, people: People, node: Node) -> None:
    seller, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(seller)
    settings = node.settings.listings
    await ends_in(node, listing, timedelta(days=settings.warn_days, minutes=1))
    await end_listings(node.process.db, settings)
    assert await told(node, seller) == []
    await ends_in(node, listing, timedelta(days=settings.warn_days, minutes=-1))
    for _ in range(2):
        await end_listings(node.process.db, settings)
    assert await told(node, seller) == [("listing.expiring", str(listing))]
    assert (await api.get(f"/properties/{listing}")).json["status"] == "active"
    await ends_in(node, listing, timedelta(seconds=-1))
    async with node.live(buyer.token) as live:
        await live.subscribe(f"listing:{listing}")
        await end_listings(node.process.db, settings)
        said = await live.hear(f"listing:{listing}", "pub")
        assert said["data"]["data"]["status"] == "expired"
    assert await told(node, seller) == [("listing.expiring", str(listing)), ("listing.expired", str(listing))]
    assert (await api.get(f"/properties/{listing}")).status == 404
    refused = await api.put(f"/properties/{listing}", json={"status": "active"}, token=seller.token)
    assert (refused.status, refused.json["code"]) == (409, "status-not-possible")


async def test_it_is_renewed_as_often_as_that_is_possible(api: Api, people: People, node: Node) -> None:
    seller, stranger = await people.agent(), await people.agent()
    listing = await people.listing(seller)
    address, most = f"/properties/{listing}", node.settings.listings.renewals
    assert (await api.post(f"{address}/renew", token=stranger.token)).status == 403
    await ends_in(node, listing, timedelta(seconds=-1))
    await end_listings(node.process.db, node.settings.listings)
    for _ in range(most):
        renewed = await api.post(f"{address}/renew", token=seller.token)
        assert (renewed.status, renewed.json["status"]) == (200, "active")
        assert renewed.json["expires_at"] > renewed.json["updated_at"]
    refused = await api.post(f"{address}/renew", token=seller.token)
    assert (refused.status, refused.json["code"]) == (409, "no-renewal-left")
    await api.put(address, json={"status": "rented"}, token=seller.token)
    refused = await api.post(f"{address}/renew", token=seller.token)
    assert (refused.status, refused.json["code"]) == (409, "status-not-possible")


async def test_hundreds_end_in_one_go(api: Api, people: People, node: Node) -> None:
    listing = await people.listing(await people.agent())
    copies = await node.process.db.records(
        """insert into listings (kind, owner_id, title, listing_type, price, city, published_at, expires_at)
           select kind, owner_id, title, 'sale', price, city, published_at, now() - interval '1 day'
           from listings, generate_series(1, 230) where id = $1 returning id""",
        [listing],
    )
    await end_listings(node.process.db, node.settings.listings)
    (left,) = await node.process.db.records(
        "select count(*) as count from listings where id = any ($1::uuid[]) and status <> 'expired'",
        [[row["id"] for row in copies]],
    )
    assert left["count"] == 0


async def test_what_was_asked_for_it_is_there_from_the_first_price_on(api: Api, people: People) -> None:
    seller = await people.agent()
    address = f"/listings/{await people.listing(seller)}"
    changes: list[dict[str, Any]] = [
        {"price": 50000}, {"title": "Other words"}, {"currency": "USD"}, {"price": 900, "currency": "ETB"},
    ]  # fmt: skip
    for change in changes:
        assert (await api.put(address, json=change, token=seller.token)).status == 200
    prices = (await api.get(f"{address}/prices")).json
    assert [(one["price"], one["currency"]) for one in prices] == [
        (45000, "ETB"), (50000, "ETB"), (50000, "USD"), (900, "ETB"),
    ]  # fmt: skip
    assert [one["at"] for one in prices] == sorted(one["at"] for one in prices)


async def test_what_was_thought_of_before_it_was_public_is_nobody_s_business(api: Api, people: People) -> None:
    seller = await people.agent()
    made = (await api.post("/properties", json=a_property(status="draft", price=100), token=seller.token)).json
    address = f"/listings/{made['id']}"
    for change in ({"price": 200}, {"price": 300, "currency": "USD"}, {"status": "active"}, {"price": 400}):
        changed = await api.put(address, json=change, token=seller.token)
    prices = (await api.get(f"{address}/prices")).json
    assert [(one["price"], one["currency"]) for one in prices] == [(300, "USD"), (400, "USD")]
    assert prices[0]["at"] == changed.json["published_at"]


async def test_of_many_prices_the_last_are_told(api: Api, people: People, node: Node) -> None:
    """And quickly, however many there are."""
    seller = await people.agent()
    listing = await people.listing(seller)
    await node.process.db.records(
        """insert into listing_history (listing_id, version, at, field, before, after)
           select $1, n + 1, now(), 'price', to_jsonb(n), to_jsonb(n + 1) from generate_series(1, 20000) as n""",
        [listing],
    )
    prices = (await api.get(f"/listings/{listing}/prices")).json
    assert [one["price"] for one in prices] == list(range(19802, 20002))


async def test_what_is_on_offer_anew_is_not_renewed(api: Api, people: People, node: Node) -> None:
    seller = await people.agent()
    unit = {"unit": "Bole 03, plot 12"}
    first = (await api.post("/properties", json=a_property(**unit), token=seller.token)).json["id"]
    await ends_in(node, UUID(first), timedelta(seconds=-1))
    await end_listings(node.process.db, node.settings.listings)
    assert (await api.post("/properties", json=a_property(**unit), token=seller.token)).status == 201
    refused = await api.post(f"/properties/{first}/renew", token=seller.token)
    assert (refused.status, refused.json["code"]) == (409, "unit-on-offer")


async def test_the_history_is_for_the_owner_and_the_agency(api: Api, people: People) -> None:
    owner, agency = await people.agency()
    colleague, stranger = await people.agent(agency), await people.agent()
    address = f"/listings/{await people.listing(owner)}"
    await api.put(address, json={"price": 7, "description": "New"}, token=owner.token)
    seen = await api.get(f"{address}/history", token=colleague.token)
    assert [(one["field"], one["before"], one["after"]) for one in seen.json] == [
        ("price", 45000, 7),
        ("description", None, "New"),
    ]
    assert (await api.get(f"{address}/history", token=stranger.token)).status == 403
    await api.put(address, json={"status": "paused"}, token=owner.token)
    assert (await api.get(f"{address}/history", token=stranger.token)).status == 404


@pytest.fixture
def strict(settings: Settings) -> Settings:
    rules = settings.listings.model_copy(update={"posting_seconds": 30, "review": True})
    return settings.model_copy(update={"listings": rules})


async def test_between_two_offers_of_one_person_some_time_passes(strict: Settings) -> None:
    node = await Node.start(strict)
    try:
        people = People(node)
        seller, other = await people.agent(), await people.agent()
        await people.listing(seller)
        refused = await node.api.post("/properties", json=a_property(), token=seller.token)
        assert (refused.status, refused.json["code"]) == (429, "posted-just-now")
        assert refused.headers["Retry-After"] == "30"
        await people.listing(other)
    finally:
        await node.stop()


async def test_with_reviews_on_an_offer_waits_to_be_looked_at(strict: Settings) -> None:
    node = await Node.start(strict)
    try:
        people = People(node)
        seller = await people.agent()
        made = await node.api.post("/properties", json=a_property(), token=seller.token)
        assert (made.status, made.json["status"], made.json["published_at"]) == (201, "pending_review", None)
        address = f"/properties/{made.json['id']}"
        assert (await node.api.get(address)).status == 404
        assert (await node.api.put(address, json={"status": "active"}, token=seller.token)).status == 409
        assert (await node.api.put(address, json={"status": "draft"}, token=seller.token)).status == 200
        assert (await node.api.put(address, json={"status": "active"}, token=seller.token)).status == 409
        assert (await node.api.put(address, json={"status": "pending_review"}, token=seller.token)).status == 200
    finally:
        await node.stop()


def test_settings_of_the_offers_are_what_the_file_says(settings: Settings) -> None:
    assert isinstance(settings.listings, ListingSettings)
