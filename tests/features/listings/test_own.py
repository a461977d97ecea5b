"""One's own listings, whatever their status, with what is for their owner alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support import Api, Node, People, Person, a_property, a_vehicle


async def mine(api: Api, person: Person, **query: Any) -> list[dict[str, Any]]:
    """All pages."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        asked = query | ({"cursor": cursor} if cursor else {})
        page = await api.get("/users/me/listings", params=asked, token=person.token)
        assert page.status == 200, page.json
        items += page.json["items"]
        cursor = page.json["next"]
        if cursor is None:
            return items


@pytest.fixture
async def seller(people: People) -> Person:
    return await people.agent()


async def test_everything_is_there_newest_first_and_everything_once(api: Api, people: People, seller: Person) -> None:
    made: list[str] = []
    for number in range(5):
        collection, sent = ("vehicles", a_vehicle()) if number % 2 else ("properties", a_property())
        answer = await api.post(f"/{collection}", json=sent | {"status": "draft"}, token=seller.token)
        made.insert(0, answer.json["id"])
    await people.listing(await people.agent())
    for limit in (1, 2, 5, 100):
        assert [one["id"] for one in await mine(api, seller, limit=limit)] == made
    assert {one["kind"] for one in await mine(api, seller)} == {"property", "vehicle"}


async def test_what_is_shown_is_the_listing_and_why_it_was_rejected(
    api: Api, node: Node, people: People, seller: Person
) -> None:
    listing = await people.listing(seller)
    (shown,) = await mine(api, seller)
    assert shown.pop("review_reason") is None
    assert shown == (await api.get(f"/properties/{listing}", token=seller.token)).json
    why = 'Not "yours"\nat all \\'
    await node.process.db.records("update listings set review_reason = $2 where id = $1", [listing, why])
    assert [one["review_reason"] for one in await mine(api, seller)] == [why]


async def test_the_reason_is_in_no_text_that_others_get(api: Api, node: Node, people: People, seller: Person) -> None:
    listing = await people.listing(seller)
    await node.process.db.records("update listings set review_reason = 'Secret words' where id = $1", [listing])
    for path in (f"/properties/{listing}", f"/listings/{listing}", "/properties", f"/users/{seller.id}/properties"):
        assert b"Secret words" not in (await api.get(path)).raw
    for table, key in (("listing_texts", "id"), ("listing_history", "listing_id")):
        rows = await node.process.db.records(f"select t::text from {table} t where {key} = $1", [listing])  # noqa: S608
        assert "Secret words" not in str([tuple(row) for row in rows])


async def test_one_status_is_asked_for(api: Api, people: People, seller: Person) -> None:
    active, paused, gone = [await people.listing(seller) for _ in range(3)]
    await api.put(f"/properties/{paused}", json={"status": "paused"}, token=seller.token)
    await api.delete(f"/properties/{gone}", token=seller.token)
    assert [UUID(one["id"]) for one in await mine(api, seller, status="paused")] == [paused]
    assert [UUID(one["id"]) for one in await mine(api, seller)] == [paused, active]
    assert await mine(api, seller, status="sold") == []
    refused = await api.get("/users/me/listings", params={"status": "deleted"}, token=seller.token)
    assert refused.status == 422


async def test_a_cursor_is_one_s_own(api: Api, people: People, seller: Person) -> None:
    other = await people.agent()
    for _ in range(2):
        await people.listing(seller)
    cursor = (await api.get("/users/me/listings", params={"limit": 1}, token=seller.token)).json["next"]
    for person, query in ((other, {}), (seller, {"status": "active"}), (seller, {"cursor": cursor[:-1]})):
        asked = {"cursor": cursor} | query
        refused = await api.get("/users/me/listings", params=asked, token=person.token)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/cursor")
    assert (await api.get("/users/me/listings")).status == 401
