"""Where a listing may go from where, and what is to be seen of it there."""

from __future__ import annotations

from typing import Any

import pytest

from k2k.features.listings.lifecycle import MOVES, Mover, first, may_come_from
from k2k.features.listings.models import ListingStatus as Status
from tests.support import Api, People, Person, a_property


async def offered(api: Api, owner: Person, **more: Any) -> str:
    answer = await api.post("/properties", json=a_property(**more), token=owner.token)
    assert answer.status == 201, answer.json
    return f"/properties/{answer.json['id']}"


async def moved(api: Api, owner: Person, address: str, status: str) -> int:
    return (await api.put(address, json={"status": status}, token=owner.token)).status


@pytest.mark.parametrize("mover", Mover)
def test_nobody_leaves_the_end_but_by_being_offered_anew(mover: Mover) -> None:
    ended = {Status.sold, Status.rented, Status.leased, Status.cancelled}
    for goal, starts in MOVES[mover].items():
        assert not starts & ended, f"{mover} may go from {starts & ended} to {goal}"


def test_with_reviews_on_nobody_publishes_what_was_not_looked_at() -> None:
    assert Status.draft in may_come_from(Mover.owner, Status.active, review=False)
    assert Status.draft not in may_come_from(Mover.owner, Status.active, review=True)
    assert Status.rejected not in may_come_from(Mover.owner, Status.active, review=False)
    assert first(Status.active, review=True) is Status.pending_review
    assert first(Status.draft, review=True) is Status.draft


async def test_a_draft_is_its_owner_s_until_it_is_published(api: Api, people: People) -> None:
    seller = await people.agent()
    address = await offered(api, seller, status="draft")
    assert (await api.get(address)).status == 404
    mine = (await api.get(address, token=seller.token)).json
    assert (mine["status"], mine["published_at"], mine["expires_at"]) == ("draft", None, None)
    assert await moved(api, seller, address, "active") == 200
    seen = (await api.get(address)).json
    assert seen["status"] == "active"
    assert seen["published_at"] is not None
    assert seen["expires_at"] > seen["published_at"]


async def test_a_house_is_reserved_and_sold_and_stays_sold(api: Api, people: People) -> None:
    seller = await people.agent()
    address = await offered(api, seller, listing_type="sale")
    for status in ("under_offer", "reserved", "active", "sold"):
        assert await moved(api, seller, address, status) == 200
    sold = (await api.get(address, token=seller.token)).json
    assert sold["standard_status"] == "Closed"
    assert sold["closed_at"] is not None
    for status in ("active", "draft", "paused", "withdrawn"):
        assert await moved(api, seller, address, status) == 409
    assert await moved(api, seller, address, "sold") == 200, "where it stands it may stay"


async def test_what_is_active_is_no_draft_again(api: Api, people: People) -> None:
    seller = await people.agent()
    address = await offered(api, seller)
    refused = await api.put(address, json={"status": "draft", "price": 1}, token=seller.token)
    assert (refused.status, refused.json["code"]) == (409, "status-not-possible")
    assert (await api.get(address)).json["price"] == 45000
