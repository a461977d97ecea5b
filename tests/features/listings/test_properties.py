"""Offering property, finding it, changing it and taking it away."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from k2k.core.ids import ListingId
from k2k.features.listings import service
from k2k.features.listings.errors import ListingNotFound
from k2k.features.listings.kinds import Property
from k2k.features.listings.models import ListingKind, ListingStatus, Offer
from k2k.features.listings.store import LIST_LISTINGS
from tests.support import Api, Node, People, Person, a_property


def apartment(**more: Any) -> dict[str, Any]:
    return {
        "title": "Two bedrooms near Edna Mall",
        "property_type": "apartment",
        "listing_type": "sale",
        "price": 8_500_000,
        "city": "Addis Ababa",
        **more,
    }


async def published(api: Api, owner: Person, **more: Any) -> dict[str, Any]:
    answer = await api.post("/properties", json=apartment(**more), token=owner.token)
    assert answer.status == 201
    found: dict[str, Any] = answer.json
    return found


async def test_a_seller_publishes_and_everyone_can_read_it(api: Api, people: People) -> None:
    seller = await people.agent()
    wish = apartment(
        title="ሁለት መኝታ ቤት አፓርታማ",
        description="ከኤድና ሞል አጠገብ፣ ጄኔሬተርና ሊፍት ያለው",
        language="am",
        price=8_500_000.5,
        currency="USD",
        bedrooms=2,
        bathrooms=0,
        square_meters=118.25,
        year_built=2019,
        address="Cameroon Street",
        neighborhood="Bole",
        latitude=9,
        longitude=38.7895,
        country="ET",
    )
    answer = await api.post("/properties", json=wish, token=seller.token)
    assert answer.status == 201
    assert set(answer.json) == set(Property.model_fields)
    assert {name: answer.json[name] for name in wish} == wish
    assert answer.json["user_id"] == str(seller.id)
    assert answer.json["agency_id"] is None
    assert (answer.json["status"], answer.json["view_count"], answer.json["is_featured"]) == ("active", 0, False)
    assert answer.headers["Location"] == f"/api/v1/properties/{answer.json['id']}"
    assert (await api.get(f"/properties/{answer.json['id']}")).json == answer.json


async def test_a_little_is_enough_to_publish(api: Api, people: People) -> None:
    found = await published(api, await people.agent())
    assert (found["currency"], found["language"], found["country"]) == ("ETB", "en", "ET")
    for name in ("description", "bedrooms", "square_meters", "year_built", "address", "neighborhood", "latitude"):
        assert found[name] is None


async def test_an_agent_s_listing_belongs_to_the_agency(api: Api, people: People) -> None:
    agent, agency = await people.agency()
    assert (await published(api, agent))["agency_id"] == str(agency)


async def test_buyers_and_strangers_publish_nothing(api: Api, people: People) -> None:
    assert (await api.post("/properties", json=apartment())).status == 401
    refused = await api.post("/properties", json=apartment(), token=(await people.buyer()).token)
    assert (refused.status, refused.json["detail"]) == (403, "Not enough permissions")


FAULTS = [
    ("id", "0198f0f0-0000-7000-8000-000000000000"),
    ("user_id", "0198f0f0-0000-7000-8000-000000000000"),
    ("agency_id", "0198f0f0-0000-7000-8000-000000000000"),
    ("kind", "vehicle"),
    ("view_count", 1000),
    ("is_featured", True),
    ("created_at", "2026-01-01T00:00:00Z"),
    ("title", ""),
    ("title", " \n"),
    ("title", "x" * 201),
    ("title", 5),
    ("title", "Bole\x00"),
    ("description", ""),
    ("description", "x" * 4001),
    ("property_type", "castle"),
    ("listing_type", "swap"),
    ("price", "8500000"),
    ("price", 0),
    ("price", -1),
    ("price", 1.234),
    ("price", 10**12),
    ("price", True),
    ("currency", "EUR"),
    ("bedrooms", -1),
    ("bedrooms", 101),
    ("bedrooms", 2.5),
    ("bathrooms", "2"),
    ("square_meters", 0),
    ("square_meters", "118"),
    ("year_built", 1799),
    ("year_built", 2101),
    ("city", ""),
    ("language", "english"),
    ("country", "Ethiopia"),
]


@pytest.fixture(scope="module")
async def offer(api: Api, people: People) -> tuple[Person, dict[str, Any]]:
    """A published property that nobody changes, and its seller."""
    seller = await people.agent()
    return seller, await published(api, seller)


@pytest.mark.parametrize(("name", "value"), FAULTS)
async def test_bad_offers_are_refused(api: Api, offer: tuple[Person, dict[str, Any]], name: str, value: object) -> None:
    seller, mine = offer
    new = await api.post("/properties", json=apartment(**{name: value}), token=seller.token)
    changed = await api.put(f"/properties/{mine['id']}", json={name: value}, token=seller.token)
    for refused in (new, changed):
        assert refused.status == 422
        assert refused.json["errors"][0]["pointer"] == f"/{name}"
    assert (await api.get(f"/properties/{mine['id']}")).json == mine


HALF_PLACES: list[dict[str, Any]] = [
    {"latitude": 9.01},
    {"longitude": 38.76},
    {"latitude": 9.01, "longitude": None},
    {"latitude": None},
    {"latitude": 90.1, "longitude": 38.76},
    {"latitude": 9.01, "longitude": -180.1},
    {"latitude": "9.01", "longitude": "38.76"},
]


@pytest.mark.parametrize("place", HALF_PLACES)
async def test_a_place_has_two_coordinates_or_none(api: Api, people: People, place: dict[str, Any]) -> None:
    seller = await people.agent()
    mine = await published(api, seller, latitude=9.01, longitude=38.76)
    assert (await api.post("/properties", json=apartment(**place), token=seller.token)).status == 422
    assert (await api.put(f"/properties/{mine['id']}", json=place, token=seller.token)).status == 422


@pytest.mark.parametrize("name", ["title", "property_type", "listing_type", "price", "city"])
async def test_what_every_property_has_must_be_given_and_stay(api: Api, people: People, name: str) -> None:
    seller = await people.agent()
    mine = await published(api, seller)
    wish = apartment()
    del wish[name]
    assert (await api.post("/properties", json=wish, token=seller.token)).status == 422
    assert (await api.put(f"/properties/{mine['id']}", json={name: None}, token=seller.token)).status == 422


async def test_only_what_is_sent_changes_and_null_clears(api: Api, people: People) -> None:
    seller = await people.agent()
    mine = await published(
        api, seller, description="Quiet", bedrooms=2, square_meters=118, latitude=9.01, longitude=38.76
    )
    sent = {"price": 8_000_000.25, "description": None, "bedrooms": 3, "latitude": None, "longitude": None}
    answer = await api.put(f"/properties/{mine['id']}", json=sent, token=seller.token)
    assert answer.status == 200
    assert answer.json == mine | sent | {"version": 2, "updated_at": answer.json["updated_at"]}
    assert answer.json["updated_at"] > mine["updated_at"]
    assert (await api.get(f"/properties/{mine['id']}")).json == answer.json


async def test_a_stranger_may_not_change_a_listing(api: Api, people: People) -> None:
    seller, stranger = await people.agent(), await people.agent()
    mine = await published(api, seller)
    refused = await api.put(f"/properties/{mine['id']}", json={"price": 1}, token=stranger.token)
    assert (refused.status, refused.json["detail"]) == (403, "Not enough permissions")
    refused = await api.delete(f"/properties/{mine['id']}", token=stranger.token)
    assert (refused.status, refused.json["detail"]) == (403, "Not enough permissions")
    assert (await api.put(f"/properties/{mine['id']}", json={"price": 1})).status == 401
    assert (await api.delete(f"/properties/{mine['id']}")).status == 401
    assert (await api.get(f"/properties/{mine['id']}")).json == mine


async def test_what_is_not_active_is_for_the_owner_and_the_agency(api: Api, people: People) -> None:
    owner, agency = await people.agency()
    colleague = await people.agent(agency)
    stranger = await people.agent()
    address = f"/properties/{(await published(api, owner))['id']}"
    paused = await api.put(address, json={"status": "paused"}, token=owner.token)
    assert paused.json["status"] == "paused"
    for reader in (owner, colleague):
        assert (await api.get(address, token=reader.token)).json == paused.json
    hidden = [
        await api.get(address),
        await api.get(address, token=stranger.token),
        await api.put(address, json={"price": 1}, token=stranger.token),
        await api.delete(address, token=stranger.token),
    ]
    for answer in hidden:
        assert (answer.status, answer.json["code"]) == (404, "property-not-found")
        assert answer.json["detail"] == "Property not found"
    assert (await api.put(address, json={"price": 1}, token=colleague.token)).status == 403
    assert (await api.delete(address, token=colleague.token)).status == 403
    assert paused.json["id"] not in [found["id"] for found in (await api.get("/properties")).json]
    back = await api.put(address, json={"status": "active"}, token=owner.token)
    assert (await api.get(address)).json == back.json


@pytest.mark.parametrize("status", ["expired", "rejected", "deleted", "available", None])
async def test_some_states_are_not_the_owner_s_to_give(api: Api, people: People, status: str | None) -> None:
    seller = await people.agent()
    mine = await published(api, seller)
    assert (await api.put(f"/properties/{mine['id']}", json={"status": status}, token=seller.token)).status == 422
    assert (await api.post("/properties", json=apartment(status=status), token=seller.token)).status == 422


async def test_a_deleted_property_is_gone(api: Api, people: People, node: Node) -> None:
    seller = await people.agent()
    mine = await published(api, seller)
    address = f"/properties/{mine['id']}"
    deleted = await api.delete(address, token=seller.token)
    assert (deleted.status, deleted.json) == (200, {"message": "Property deleted successfully"})
    gone = [
        await api.get(address),
        await api.get(address, token=seller.token),
        await api.put(address, json={"price": 1}, token=seller.token),
        await api.delete(address, token=seller.token),
    ]
    assert [answer.status for answer in gone] == [404] * 4
    assert mine["id"] not in [found["id"] for found in (await api.get("/properties")).json]
    with pytest.raises(ListingNotFound):
        await service.get_offer(node.process.db, ListingId(UUID(mine["id"])))


async def test_unknown_properties_are_not_found(api: Api, people: People) -> None:
    token, address = (await people.agent()).token, f"/properties/{uuid4()}"
    missing = [
        await api.get(address),
        await api.put(address, json={"price": 1}, token=token),
        await api.delete(address, token=token),
    ]
    for answer in missing:
        assert (answer.status, answer.json["code"]) == (404, "property-not-found")
        assert answer.json["detail"] == "Property not found"
    assert (await api.get("/properties/near-edna-mall")).status == 422


async def test_the_newest_come_first_in_full(api: Api, people: People) -> None:
    seller = await people.agent()
    before = int((await api.get("/properties", params={"limit": 1})).headers["X-Total-Count"])
    mine = [await published(api, seller, title=f"House {number}", bedrooms=number) for number in range(3)]
    newest = await api.get("/properties", params={"limit": 3})
    assert newest.json == mine[::-1]
    assert newest.headers["X-Total-Count"] == str(before + 3)
    assert "X-Total-Count-Relation" not in newest.headers
    middle = await api.get("/properties", params={"skip": 1, "limit": 1})
    assert middle.json == [mine[1]]
    assert '</api/v1/properties?skip=2&limit=1>; rel="next"' in middle.headers["Link"]
    assert '</api/v1/properties?skip=0&limit=1>; rel="prev"' in middle.headers["Link"]
    assert (await api.get("/properties", params={"skip": 10_000})).json == []


@pytest.mark.parametrize(
    "query", [{"limit": 101}, {"limit": 0}, {"limit": "all"}, {"skip": -1}, {"skip": 10_001}, {"colour": "red"}]
)
async def test_lists_have_their_limits(api: Api, query: dict[str, Any]) -> None:
    refused = await api.get("/properties", params=query)
    assert refused.status == 422
    assert refused.json["errors"][0]["pointer"] == f"/{next(iter(query))}"


async def test_who_goes_too_deep_is_told_the_way_on(api: Api) -> None:
    (fault,) = (await api.get("/properties", params={"skip": 10_001})).json["errors"]
    assert "cursor" in fault["detail"]


@pytest.mark.parametrize("name", ["price_min", "price_max"])
@pytest.mark.parametrize("number", ["1e-20000", "0.001", "1e400", "NaN", "-0.01", "1e13"])
async def test_a_price_that_none_is(api: Api, name: str, number: str) -> None:
    for door in ("properties", "vehicles", "listings"):
        refused = await api.get(f"/{door}", params={name: number})
        assert (refused.status, refused.json["code"]) == (422, "invalid")


async def test_a_unit_without_a_word_names_nothing(api: Api, people: People) -> None:
    seller = await people.agent()
    for _ in range(2):
        assert (await api.post("/properties", json=a_property(unit="---"), token=seller.token)).status == 201


@pytest.mark.parametrize("filters", [{}, {"kind": "property"}, {"kind": "vehicle", "price_max": Decimal(1)}])
async def test_a_list_is_read_in_the_order_of_an_index(node: Node, filters: dict[str, object]) -> None:
    """Among a million listings one that is sorted first would come too late."""
    statement, values = LIST_LISTINGS.of(filters)
    async with node.process.db.transaction() as tx:
        for way in ("sort", "seqscan", "bitmapscan"):  # there are too few listings here for the planner to care
            await tx.records(f"set local enable_{way} = off", [])
        told = await tx.records(f"explain {statement.text}", [0, 20, 10_001, None, "", *values])
    plan = "\n".join(line for (line,) in told)
    page = plan[plan.index("CTE page") : plan.index("InitPlan", plan.index("CTE page") + 1)]
    assert "using listings_newest" in page
    assert "Sort" not in page


async def test_other_features_get_to_know_an_offer_in_any_state(api: Api, people: People, node: Node) -> None:
    seller = await people.agent()
    mine = await published(api, seller, price=12_000.5)
    await api.put(f"/properties/{mine['id']}", json={"status": "sold"}, token=seller.token)
    offer = await service.get_offer(node.process.db, ListingId(UUID(mine["id"])))
    assert isinstance(offer, Offer)
    assert (offer.owner_id, offer.agency_id, offer.city) == (seller.id, None, "Addis Ababa")
    assert (offer.kind, offer.status, offer.currency) == (ListingKind.property, ListingStatus.sold, "ETB")
    assert str(offer.price) == "12000.50"
    with pytest.raises(ListingNotFound):
        await service.get_offer(node.process.db, ListingId(uuid4()))
