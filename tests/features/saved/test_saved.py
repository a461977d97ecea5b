"""Keeping listings for later, and the counts of those who do."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.support import Api, Node, People, Person


async def kept(api: Api, person: Person) -> list[str]:
    return [one["id"] for one in (await api.get("/users/me/saved", token=person.token)).json]


@pytest.mark.parametrize("collection", ["properties", "vehicles", "listings"])
async def test_a_listing_is_kept_and_let_go(api: Api, people: People, collection: str) -> None:
    seller, buyer = await people.agent(), await people.buyer()
    listing = await (people.vehicle(seller) if collection == "vehicles" else people.listing(seller))
    address = f"/{collection}/{listing}"
    for _ in range(2):
        saved = await api.post(f"{address}/save", token=buyer.token)
        assert (saved.status, saved.json) == (200, {"message": "Saved", "saved": True, "save_count": 1})
    assert await kept(api, buyer) == [str(listing)]
    mine, others = await api.get(address, token=buyer.token), await api.get(address)
    assert (mine.json["saved"], mine.json["save_count"]) == (True, 1)
    assert (others.json["saved"], others.json["save_count"]) == (False, 1)
    for _ in range(2):
        gone = await api.delete(f"{address}/save", token=buyer.token)
        assert (gone.status, gone.json) == (200, {"message": "No longer saved", "saved": False, "save_count": 0})
    assert await kept(api, buyer) == []


async def test_the_newest_stands_first_and_the_sold_stay(api: Api, people: People) -> None:
    seller, buyer = await people.agent(), await people.buyer()
    first, second, third = [str(await people.listing(seller)) for _ in range(3)]
    for listing in (second, third, first):
        await api.post(f"/listings/{listing}/save", token=buyer.token)
    assert await kept(api, buyer) == [first, third, second]
    await api.put(f"/properties/{third}", json={"status": "rented"}, token=seller.token)
    await api.put(f"/properties/{second}", json={"status": "paused"}, token=seller.token)
    await api.delete(f"/properties/{first}", token=seller.token)
    answer = await api.get("/users/me/saved", token=buyer.token)
    assert [(one["id"], one["status"], one["saved"]) for one in answer.json] == [(third, "rented", True)]
    assert answer.headers["X-Total-Count"] == "1"


async def test_those_who_save_twice_at_once_on_two_processes_are_counted_once(
    api: Api, people: People, second_node: Node
) -> None:
    listing = await people.listing(await people.agent())
    buyers = await asyncio.gather(*(people.buyer() for _ in range(20)))
    doors = (api, second_node.api)
    answers = await asyncio.gather(
        *(doors[n % 2].post(f"/listings/{listing}/save", token=buyer.token) for n, buyer in enumerate(buyers * 2))
    )
    assert {answer.status for answer in answers} == {200}
    assert (await api.get(f"/listings/{listing}")).json["save_count"] == 20


async def test_what_one_may_not_see_one_cannot_keep(api: Api, people: People) -> None:
    seller, buyer = await people.agent(), await people.buyer()
    listing = await people.listing(seller)
    await api.put(f"/properties/{listing}", json={"status": "draft"}, token=seller.token)
    await api.put(f"/properties/{listing}", json={"status": "paused"}, token=seller.token)
    for path, code in (
        (f"/properties/{listing}/save", "property-not-found"),
        (f"/vehicles/{listing}/save", "vehicle-not-found"),
        (f"/listings/{uuid4()}/save", "listing-not-found"),
    ):
        for method in ("POST", "DELETE"):
            refused = await api.request(method, path, token=buyer.token)
            assert (refused.status, refused.json["code"]) == (404, code)
    assert (await api.post(f"/properties/{listing}/save")).status == 401
    assert (await api.post(f"/properties/{listing}/save", token=seller.token)).status == 200, "it is one's own"


async def test_it_is_kept_over_a_socket_too(node: Node, people: People) -> None:
    listing, buyer = await people.listing(await people.agent()), await people.buyer()
    async with node.live(buyer.token) as live:
        saved: Any = await live.rpc("listing.save", listing_id=str(listing))
        assert saved["saved"] is True
        assert (await live.rpc("listing.unsave", listing_id=str(listing)))["save_count"] == 0
