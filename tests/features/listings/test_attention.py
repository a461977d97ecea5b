"""Views, what is trending, featured and similar."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from tests.support import Api, Node, People, a_property, a_vehicle


async def test_a_viewer_counts_once_an_hour_and_everybody_counts(
    api: Api, people: People, node: Node, second_node: Node
) -> None:
    listing = await people.listing(await people.agent())
    viewers = [await people.buyer() for _ in range(5)]
    for door in (node.api, second_node.api):
        await asyncio.gather(*(door.post(f"/properties/{listing}/view", token=viewer.token) for viewer in viewers * 4))
    again = await api.post(f"/properties/{listing}/view", token=viewers[0].token)
    assert (again.status, again.json) == (200, {"view_count": 5})
    nobody = await api.post(f"/listings/{listing}/view")
    assert nobody.json == {"view_count": 6}
    assert (await api.post(f"/listings/{listing}/view")).json == {"view_count": 6}, "an address is one viewer"
    assert (await api.get(f"/properties/{listing}")).json["view_count"] == 6


async def test_a_view_changes_no_version_and_no_text(api: Api, people: People, node: Node) -> None:
    listing = await people.listing(await people.agent())
    before = await node.process.db.records("select xmin::text from listing_texts where id = $1", [listing])
    await api.post(f"/properties/{listing}/view", token=(await people.buyer()).token)
    assert (await api.get(f"/properties/{listing}")).json["version"] == 1
    assert before == await node.process.db.records("select xmin::text from listing_texts where id = $1", [listing])


async def test_what_is_not_there_is_not_looked_at(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    await api.put(f"/properties/{listing}", json={"status": "paused"}, token=seller.token)
    viewer = await people.buyer()
    for path, code in (
        (f"/properties/{listing}/view", "property-not-found"),
        (f"/vehicles/{listing}/view", "vehicle-not-found"),
        (f"/listings/{uuid4()}/view", "listing-not-found"),
    ):
        for _ in range(2):
            refused = await api.post(path, token=viewer.token)
            assert (refused.status, refused.json["code"]) == (404, code)


async def test_what_people_look_at_and_save_is_trending(api: Api, people: People) -> None:
    seller = await people.agent()
    quiet, seen, loved = [str(await people.vehicle(seller)) for _ in range(3)]
    viewers = [await people.buyer() for _ in range(4)]
    for viewer in viewers[:3]:
        await api.post(f"/vehicles/{seen}/view", token=viewer.token)
    for viewer in viewers:
        await api.post(f"/vehicles/{loved}/save", token=viewer.token)
    found = [one["id"] for one in (await api.get("/vehicles/trending?limit=50")).json]
    assert found.index(loved) < found.index(seen)
    assert quiet not in found
    await api.put(f"/vehicles/{loved}", json={"status": "sold"}, token=seller.token)
    assert loved not in [one["id"] for one in (await api.get("/vehicles/trending?limit=50")).json]
    assert loved not in [one["id"] for one in (await api.get("/properties/trending?limit=50")).json]


async def test_an_older_crowd_weighs_less_than_today_s(node: Node) -> None:
    (row,) = await node.process.db.records(
        """select more_heat('-infinity', 100, now() - interval '7 days') as old,
                  more_heat('-infinity', 5, now()) as new,
                  more_heat(more_heat('-infinity', 3, now()), 4, now()) as summed,
                  more_heat('-infinity', 7, now()) as at_once""",
        (),
    )
    assert row["old"] < row["new"]
    assert row["summed"] == pytest.approx(row["at_once"])


async def test_featured_is_what_somebody_put_forward(api: Api, people: People, node: Node) -> None:
    seller = await people.agent()
    house, car = await people.listing(seller), await people.vehicle(seller)
    for listing in (house, car):
        await node.process.db.records("update listings set is_featured = true where id = $1", [listing])

    async def featured(collection: str) -> list[UUID]:
        return [UUID(one["id"]) for one in (await api.get(f"/{collection}/featured?limit=50")).json]

    assert house in await featured("properties")
    assert car not in await featured("properties")
    assert car in await featured("vehicles")
    assert {house, car} <= set(await featured("listings"))


async def test_similar_is_near_in_price_place_and_kind(api: Api, people: People) -> None:
    seller = await people.agent()
    city = f"Similar {seller.id}"

    async def offered(collection: str, body: dict[str, object]) -> str:
        answer = await api.post(f"/{collection}", json=body, token=seller.token)
        assert answer.status == 201, answer.json
        return str(answer.json["id"])

    asked, near, far, dear, elsewhere, room = [
        await offered("properties", a_property(city=where, price=price, property_type=type_))
        for where, price, type_ in (
            (city, 1000, "apartment"), (city, 1100, "apartment"), (city, 1900, "apartment"), (city, 9000, "apartment"),
            ("Nowhere else", 1000, "apartment"), (city, 1000, "room"),
        )
    ]  # fmt: skip
    found = [one["id"] for one in (await api.get(f"/properties/{asked}/similar")).json]
    assert found == [near, far, room]
    assert not {dear, elsewhere} & set(found)
    car = await offered("vehicles", a_vehicle(price=1000))
    assert (await api.get(f"/properties/{car}/similar")).status == 404
    assert (await api.get(f"/vehicles/{uuid4()}/similar")).json["code"] == "vehicle-not-found"


@pytest.mark.parametrize("query", ["limit=0", "limit=51", "limit=x", "skip=1"])
async def test_a_few_are_fifty_at_most(api: Api, query: str) -> None:
    for word in ("featured", "trending"):
        assert (await api.get(f"/listings/{word}?{query}")).status == 422
