"""The ready texts of a listing are, after whatever happened to it, those that would be built afresh."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from k2k.features.listings.kinds import PropertyChange, VehicleChange
from tests.samples import sample
from tests.support import Api, Node, People, Person

Happening = Callable[[Api, Person, str], Awaitable[Any]]


async def changed(api: Api, owner: Person, at: str, **change: Any) -> None:
    assert (await api.put(at, json=change, token=owner.token)).status == 200


HAPPENINGS: dict[str, Happening] = {
    "nothing": lambda api, owner, address: api.get(address),
    "another price": lambda api, owner, address: changed(api, owner, address, price=7),
    "another status": lambda api, owner, address: changed(api, owner, address, status="paused"),
    "sold": lambda api, owner, address: changed(api, owner, address, status="sold"),
    "amenities and features": lambda api, owner, address: changed(api, owner, address, amenities=["ሊፍት"], features=[]),
    "everything": lambda api, owner, address: changed(api, owner, address, **everything(address)),
    "deleted": lambda api, owner, address: api.delete(address, token=owner.token),
}


def everything(address: str) -> dict[str, Any]:
    return sample(
        VehicleChange if "vehicles" in address else PropertyChange, 'A "quote" \\ and \n ሰላም', everything=True
    )


async def stored_and_built(node: Node, listing: UUID) -> tuple[Any, Any]:
    stored = await node.process.db.records("select card, document from listing_texts where id = $1", [listing])
    built = await node.process.db.records("select card, document from built_texts(array[$1::uuid])", [listing])
    return [tuple(row) for row in stored], [tuple(row) for row in built]


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("collection", ["properties", "vehicles"])
async def test_texts_are_what_would_be_built(
    api: Api, node: Node, people: People, collection: str, happening: str
) -> None:
    seller = await people.agent()
    listing = await (people.vehicle(seller) if collection == "vehicles" else people.listing(seller))
    await HAPPENINGS[happening](api, seller, f"/{collection}/{listing}")
    stored, built = await stored_and_built(node, listing)
    assert len(stored) == 1
    assert stored == built
    for text in stored[0]:
        json.loads(text.replace("\x01", "") + "}")


async def test_no_writer_can_forget_the_texts(api: Api, node: Node, people: People) -> None:
    listing = await people.listing(await people.agent())
    await node.process.db.records("update listings set title = 'By hand' where id = $1", [listing])
    stored, built = await stored_and_built(node, listing)
    assert stored == built
    assert (await api.get(f"/properties/{listing}")).json["title"] == "By hand"


async def test_a_renamed_agent_rewrites_nothing_and_shows_at_once(api: Api, node: Node, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    before, _ = await stored_and_built(node, listing)
    assert (await api.put("/agents/profile", json={"display_name": "ሰላም ተስፋዬ"}, token=seller.token)).status == 200
    assert (await api.get(f"/listings/{listing}")).json["agent"]["display_name"] == "ሰላም ተስፋዬ"
    assert (await stored_and_built(node, listing))[0] == before


async def test_a_text_cannot_name_the_host_of_the_media(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    sly = "\x01images/evil"
    await changed(api, seller, f"/properties/{listing}", description=f"See {sly} there")
    assert (await api.get(f"/properties/{listing}")).json["description"] == f"See {sly} there"
