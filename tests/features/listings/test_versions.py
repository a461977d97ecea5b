"""Two who change the same listing, and the history of what it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from k2k.core.ids import ListingId
from tests.support import Api, Node, People


@pytest.mark.parametrize("collection", ["properties", "vehicles", "listings"])
async def test_a_change_of_what_somebody_saw_is_not_made_to_something_else(
    api: Api, people: People, collection: str
) -> None:
    seller = await people.agent()
    made = await (people.vehicle(seller) if collection == "vehicles" else people.listing(seller))
    address = f"/{collection}/{made}"
    seen = await api.get(address)
    tag = {"If-Match": seen.headers["ETag"]}
    first = await api.put(address, json={"title": "First"}, token=seller.token, headers=tag)
    assert (first.status, first.json["version"]) == (200, seen.json["version"] + 1)
    wishes: tuple[tuple[str, dict[str, Any]], ...] = (("PUT", {"json": {"title": "Second"}}), ("DELETE", {}))
    for method, sent in wishes:
        late = await api.request(method, address, token=seller.token, headers=tag, **sent)
        assert (late.status, late.json["code"]) == (412, "version-mismatch")
    assert (await api.get(address)).json["title"] == "First"
    fresh = {"If-Match": first.headers["ETag"]}
    assert (await api.put(address, json={"title": "Second"}, token=seller.token, headers=fresh)).status == 200
    assert (
        await api.put(address, json={"title": "Third"}, token=seller.token, headers={"If-Match": "*"})
    ).status == 200


@pytest.mark.parametrize("tag", ["7", '"x"', 'W/"1" , W/"2"', '"-1"', '"99999999999"', "", '"1', "'1'"])
async def test_what_is_no_tag_of_ours_is_refused(api: Api, people: People, tag: str) -> None:
    seller = await people.agent()
    address = f"/properties/{await people.listing(seller)}"
    refused = await api.put(address, json={"title": "New"}, token=seller.token, headers={"If-Match": tag})
    if tag == "":  # a header without a value says nothing
        assert refused.status == 200
        return
    assert refused.status == 422
    assert [(fault["in"], fault["pointer"]) for fault in refused.json["errors"]] == [("header", "/If-Match")]


async def test_of_twenty_changes_to_one_version_one_is_made(api: Api, people: People, second_node: Node) -> None:
    seller = await people.agent()
    address = f"/properties/{await people.listing(seller)}"
    tag = {"If-Match": (await api.get(address)).headers["ETag"]}
    answers = await asyncio.gather(
        *(
            door.put(address, json={"price": 1000 + n}, token=seller.token, headers=tag)
            for n, door in enumerate((api, second_node.api) * 10)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 19
    (made,) = (answer for answer in answers if answer.status == 200)
    assert (await api.get(address)).json["price"] == made.json["price"]


async def test_every_field_is_remembered_as_it_was(api: Api, people: People, node: Node) -> None:
    seller = await people.agent()
    listing = ListingId(await people.listing(seller))
    address = f"/properties/{listing}"
    for change in ({"price": 50000, "bedrooms": 2}, {"price": 48000}, {"amenities": ["Lift", "lift", "Garden"]}):
        assert (await api.put(address, json=change, token=seller.token)).status == 200
    rows = await node.process.db.records(
        "select version, field, before, after, changed_by from listing_history where listing_id = $1 order by id",
        [listing],
    )
    assert [(row["version"], row["field"], row["before"], row["after"]) for row in rows] == [
        (2, "price", b"45000.00", b"50000.00"),
        (2, "bedrooms", None, b"2"),
        (3, "price", b"50000.00", b"48000.00"),
        (4, "amenities", b"[]", b'["Lift", "Garden"]'),
    ]
    assert {row["changed_by"] for row in rows} == {seller.id}
