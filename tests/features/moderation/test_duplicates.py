"""What is offered twice: found by its unit, its pictures or its likeness, decided by a moderator, linked to one."""

from __future__ import annotations

import asyncio
import random
import secrets
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from k2k.core.ids import ListingId
from k2k.features.moderation import service, store
from tests.features.moderation.desk import Desk, claimed_meanwhile, inspected
from tests.support import Api, Node, People, Person, a_property, a_vehicle, eventually

METRE = 1 / 111_195
"""Degrees of latitude."""


async def offered(api: Api, seller: Person, collection: str, **more: Any) -> UUID:
    sent = (a_vehicle if collection == "vehicles" else a_property)(**more)
    answer = await api.post(f"/{collection}", json=sent, token=seller.token)
    assert answer.status == 201, answer.json
    return UUID(answer.json["id"])


async def changed(api: Api, seller: Person, listing: UUID, **change: Any) -> None:
    answer = await api.put(f"/listings/{listing}", json=change, token=seller.token)
    assert answer.status == 200, answer.json


def a_vin() -> str:
    return "".join(secrets.choice("ABCDEFGHJKLMNPRSTUVWXYZ0123456789") for _ in range(17))


def somewhere() -> dict[str, float]:
    """A place where nobody else's story is."""
    return {"latitude": random.uniform(4, 14), "longitude": random.uniform(34, 47)}  # noqa: S311


@pytest.fixture
async def rival(people: People) -> Person:
    return await people.agent()


# By the unit


async def test_one_vehicle_of_two_sellers_is_a_candidate(api: Api, desk: Desk, seller: Person, rival: Person) -> None:
    vin = a_vin()
    older = await offered(api, seller, "vehicles", vin=vin)
    younger = await offered(api, rival, "vehicles", vin=vin.lower(), brand="BMW", model="X5")
    item = await desk.item(younger, "duplicate")
    assert (item["listing_id"], item["other_id"]) == (str(younger), str(older))
    for one, other in ((older, younger), (younger, older)):
        pairs = await desk.pairs(one)
        assert pairs.keys() == {other}
        assert (pairs[other]["reasons"], pairs[other]["state"]) == (["unit"], "candidate")
        assert 0.8 < pairs[other]["score"] < 1
        assert await desk.kinds(one) == ["duplicate"]


async def test_two_who_publish_the_same_at_once_are_one_pair(
    api: Api, second_node: Node, node: Node, desk: Desk, people: People
) -> None:
    vin, sellers = a_vin(), [await people.agent() for _ in range(4)]
    made = await asyncio.gather(
        *(
            offered(where, seller, "vehicles", vin=vin)
            for seller, where in zip(sellers, (api, second_node.api) * 2, strict=True)
        )
    )
    await inspected(node)
    for listing in made:
        assert len(await desk.pairs(listing)) == 3
    rows = await node.process.db.records(
        "select count(*), count(distinct id) from moderation_items where done_at is null and listing_id = any ($1)",
        [list(made)],
    )
    assert rows[0][0] == 6


async def test_who_offers_it_first_in_the_agency_and_then_alone_is_found(
    api: Api, people: People, desk: Desk, rival: Person
) -> None:
    owner, _ = await people.agency()
    unit = {"unit": f"Ayat 49, block {uuid4().hex}, flat 5"}
    first = await offered(api, owner, "properties", **unit)
    second = await offered(api, rival, "properties", title="Something else", **unit)
    await desk.waits(second, "duplicate")
    assert (await desk.pairs(first)).keys() == {second}


# By pictures


async def pictured(node: Node, api: Api, seller: Person, listing: UUID, phash: int) -> None:
    """Give the listing a picture with this hash (64 bits, of either sign), and have it looked at."""
    await node.process.db.records(
        """
        with picture as (
            insert into media (owner_id, purpose, state, media_type, bytes, sha256, width, height, color, blurhash,
                               phash, ready_at)
            values ($2, 'image', 'ready', 'image/jpeg', 1000, sha256($3), 640, 480, '#aabbcc', 'LEHV6nWB2yk8',
                    $4, now())
            returning id
        ), image as (
            insert into images (listing_id, media_id, display_order)
            select $1, id, (select count(*) from images where listing_id = $1) from picture
        )
        update listings set version = version + 1, updated_at = now(), changed_by = $2 where id = $1
        """,
        [listing, seller.id, secrets.token_bytes(8), phash - 2**64 if phash >= 2**63 else phash],
    )
    await changed(api, seller, listing, description="Now with pictures")


def a_hash() -> int:
    """Of a picture that shows something."""
    while True:
        found = secrets.randbits(64)
        if 16 <= found.bit_count() <= 48:
            return found


def flipped(hash_: int, *bits: int) -> int:
    for bit in bits:
        hash_ ^= 1 << bit
    return hash_


ALIKE = {
    "the same": (),
    "one bit": (63,),
    "three bits in three bands": (0, 20, 40),
    "four bits in one band": (16, 17, 18, 19),
    "four bits, one in each band": (5, 21, 37, 63),
    "the first bit of each band": (0, 16, 32, 48),
}
UNLIKE = {
    "five bits, one band untouched": (0, 1, 16, 32, 33),
    "five bits in one band": (48, 49, 50, 51, 52),
    "five bits over all bands": (0, 1, 16, 32, 48),
    "the negative": tuple(range(64)),
}


@pytest.mark.parametrize("bits", ALIKE.values(), ids=ALIKE)
async def test_pictures_that_look_alike_are_found(
    api: Api, node: Node, people: People, desk: Desk, seller: Person, rival: Person, bits: tuple[int, ...]
) -> None:
    house, copy, shown = await people.listing(seller), await people.listing(rival), a_hash()
    await pictured(node, api, seller, house, shown)
    await pictured(node, api, rival, copy, flipped(shown, *bits))
    await desk.waits(copy, "duplicate")
    assert [pair["reasons"] for pair in (await desk.pairs(house)).values()] == [["pictures"]]


@pytest.mark.parametrize("bits", UNLIKE.values(), ids=UNLIKE)
async def test_pictures_further_apart_are_not(
    api: Api, node: Node, people: People, desk: Desk, seller: Person, rival: Person, bits: tuple[int, ...]
) -> None:
    house, other, shown = await people.listing(seller), await people.listing(rival), a_hash()
    await pictured(node, api, seller, house, shown)
    await pictured(node, api, rival, other, flipped(shown, *bits))
    await inspected(node)
    assert await desk.pairs(house) == {}


async def test_a_picture_that_many_show_says_nothing(
    api: Api, node: Node, people: People, desk: Desk, seller: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But one that only closed listings show besides does."""
    monkeypatch.setattr(store, "MOST_SHARING", 2)
    brochure = a_hash()
    houses = [await people.listing(seller) for _ in range(4)]
    for house in houses:
        await pictured(node, api, seller, house, brochure)
    await inspected(node)
    assert await desk.pairs(houses[3]) == {}
    await changed(api, seller, houses[0], status="sold")
    await changed(api, seller, houses[3], description="Looked at again")
    await inspected(node)
    assert (await desk.pairs(houses[3])).keys() == {houses[1], houses[2]}


async def test_pictures_that_show_nothing_say_nothing(
    api: Api, node: Node, people: People, desk: Desk, seller: Person, rival: Person
) -> None:
    house, other = await people.listing(seller), await people.listing(rival)
    for blank in (0, 1, 2**64 - 1):
        await pictured(node, api, seller, house, blank)
        await pictured(node, api, rival, other, blank)
    await inspected(node)
    assert await desk.pairs(house) == {}


# By likeness

FLAT = {
    "title": "Two bedrooms near Edna Mall",
    "property_type": "apartment",
    "bedrooms": 2,
    "listing_type": "rent",
    "price": 40_000,
}
CAR = {"title": "Toyota Corolla 2014, one owner", "year": 2014, "price": 1_800_000}
LIKE_IT: dict[str, tuple[str, dict[str, Any], float]] = {
    "the same": ("properties", {}, 0),
    "on the other side of the street": ("properties", {}, 100),
    "a little dearer": ("properties", {"price": 43_900}, 0),
    "a little cheaper": ("properties", {"price": 36_100}, 0),
    "in other words": ("properties", {"title": "2 bedrooms, near EDNA Mall"}, 0),
    "the same car": ("vehicles", {"brand": "toyota", "price": 1_750_000}, 50),
}
UNLIKE_IT: dict[str, tuple[str, dict[str, Any], float]] = {
    "in the next street": ("properties", {}, 200),
    "dearer": ("properties", {"price": 45_000}, 0),
    "cheaper": ("properties", {"price": 35_900}, 0),
    "larger": ("properties", {"bedrooms": 3}, 0),
    "of unknown size": ("properties", {"bedrooms": None}, 0),
    "another kind of house": ("properties", {"property_type": "condo"}, 0),
    "for sale": ("properties", {"listing_type": "sale"}, 0),
    "in other money": ("properties", {"currency": "USD"}, 0),
    "with nothing of the title": ("properties", {"title": "ሁለት መኝታ ቤት"}, 0),
    "another year": ("vehicles", {"year": 2015}, 0),
    "another model": ("vehicles", {"model": "Yaris"}, 0),
}


async def like(api: Api, sellers: tuple[Person, Person], case: tuple[str, dict[str, Any], float]) -> tuple[UUID, UUID]:
    """Two listings, of which the second differs so from the first; so many metres lie between them."""
    collection, differs, metres = case
    place, first = somewhere(), CAR if collection == "vehicles" else FLAT
    there = {**place, "latitude": place["latitude"] + metres * METRE}
    return (
        await offered(api, sellers[0], collection, **first, **place),
        await offered(api, sellers[1], collection, **{**first, **there, **differs}),
    )


@pytest.mark.parametrize("case", LIKE_IT.values(), ids=LIKE_IT)
async def test_the_like_in_the_same_place_is_found(
    api: Api, desk: Desk, seller: Person, rival: Person, case: tuple[str, dict[str, Any], float]
) -> None:
    first, second = await like(api, (seller, rival), case)
    await desk.waits(second, "duplicate")
    assert [pair["reasons"] for pair in (await desk.pairs(first)).values()] == [["alike"]]


@pytest.mark.parametrize("case", UNLIKE_IT.values(), ids=UNLIKE_IT)
async def test_the_unlike_is_not(
    api: Api, node: Node, desk: Desk, seller: Person, rival: Person, case: tuple[str, dict[str, Any], float]
) -> None:
    first, second = await like(api, (seller, rival), case)
    await inspected(node)
    assert await desk.pairs(first) == await desk.pairs(second) == {}


async def test_east_and_west_count_as_much_as_north_and_south(
    api: Api, node: Node, desk: Desk, people: People, seller: Person
) -> None:
    here = somewhere()
    first = await offered(api, seller, "properties", **FLAT, **here)
    near = {**here, "longitude": here["longitude"] + 140 * METRE}
    far = {**here, "longitude": here["longitude"] - 170 * METRE}
    second = await offered(api, await people.agent(), "properties", **FLAT, **near)
    across = {name: degrees - 120 * METRE for name, degrees in here.items()}
    for place in (far, across):
        await offered(api, await people.agent(), "properties", **FLAT, **place)
    await inspected(node)
    assert (await desk.pairs(first)).keys() == {second}


async def test_one_seller_offers_no_flat_twice(
    api: Api, node: Node, desk: Desk, people: People, seller: Person, rival: Person
) -> None:
    """Nor does one agency, whoever of it offers."""
    owner, agency = await people.agency()
    for sellers in ((seller, seller), (owner, await people.agent(agency))):
        first, second = await like(api, sellers, LIKE_IT["the same"])
        await inspected(node)
        assert await desk.pairs(first) == await desk.pairs(second) == {}
    first, second = await like(api, (owner, rival), LIKE_IT["the same"])
    await desk.waits(second, "duplicate")


async def test_of_what_stands_at_one_place_some_are_compared(
    api: Api, node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = somewhere()
    made = [await offered(api, await people.agent(), "properties", **FLAT, **here) for _ in range(4)]
    for most, found in ((200, 3), (2, 2)):
        monkeypatch.setattr(store, "MOST_COMPARED", most)
        assert len(await store.find_duplicates(node.process.db, ListingId(made[0]))) == found


async def test_what_is_looked_at_stays_on_the_market_meanwhile(
    api: Api, node: Node, seller: Person, pair: tuple[UUID, UUID]
) -> None:
    """Also what nothing is like."""
    alone, db = await offered(api, seller, "properties", **somewhere()), node.process.db
    await inspected(node)
    for listing, held in ((alone, [alone]), (pair[0], pair)):
        async with db.transaction() as tx:
            await service.inspect(tx, ListingId(listing), db.clock.now())
            for one in held:
                async with db.transaction() as other:
                    free = "select id from listings where id = $1 for no key update skip locked"
                    assert await other.records(free, [one]) == []


async def test_what_becomes_alike_later_is_found_then(
    api: Api, node: Node, desk: Desk, seller: Person, rival: Person
) -> None:
    first, second = await like(api, (seller, rival), ("properties", {"price": 90_000}, 0))
    await inspected(node)
    assert await desk.pairs(first) == {}
    await changed(api, rival, second, price=40_000)
    await desk.waits(second, "duplicate")


async def test_drafts_and_what_is_off_the_market_are_nobody_s_double(
    api: Api, node: Node, desk: Desk, seller: Person, rival: Person
) -> None:
    first, second = await like(api, (seller, rival), ("properties", {"status": "draft"}, 0))
    await inspected(node)
    assert await desk.pairs(first) == {}
    await changed(api, seller, first, status="withdrawn")
    await changed(api, rival, second, status="active")
    await inspected(node)
    assert await desk.pairs(first) == {}


# Decisions


@pytest.fixture
async def pair(api: Api, desk: Desk, seller: Person, rival: Person) -> tuple[UUID, UUID]:
    """The older and the younger of two that look like one."""
    first, second = await like(api, (seller, rival), LIKE_IT["the same"])
    await desk.waits(second, "duplicate")
    return first, second


async def canonical(api: Api, listing: UUID) -> UUID | None:
    found = (await api.get(f"/listings/{listing}")).json["canonical_id"]
    return UUID(found) if found else None


async def settled(desk: Desk, one: UUID, other: UUID, word: str, **body: Any) -> int:
    sent: dict[str, Any] = {"json": body} if word == "confirm" else {}
    return (await desk.post(f"/listings/{one}/duplicates/{other}/{word}", **sent)).status


@pytest.mark.parametrize("turned", [False, True])
async def test_the_younger_repeats_the_older_whichever_is_named_first(
    api: Api, desk: Desk, pair: tuple[UUID, UUID], turned: bool
) -> None:
    older, younger = pair
    assert await settled(desk, *(pair[::-1] if turned else pair), "confirm") == 200
    assert (await canonical(api, older), await canonical(api, younger)) == (None, older)
    found = (await desk.pairs(older))[younger]
    assert (found["state"], found["settled_by"]) == ("confirmed", str(desk.moderator.id))
    assert await desk.kinds(older) == await desk.kinds(younger) == []


async def test_a_moderator_may_say_which_one_stays(api: Api, desk: Desk, pair: tuple[UUID, UUID]) -> None:
    older, younger = pair
    assert await settled(desk, *pair, "confirm", canonical_id=str(younger)) == 200
    assert (await canonical(api, older), await canonical(api, younger)) == (younger, None)
    assert await settled(desk, *pair, "confirm", canonical_id=str(older)) == 200, "and think better of it"
    assert (await canonical(api, older), await canonical(api, younger)) == (None, older)


async def test_links_lead_to_one_whatever_the_order_and_never_round(
    api: Api, node: Node, desk: Desk, people: People
) -> None:
    vin = a_vin()
    a, b, c, d = [await offered(api, await people.agent(), "vehicles", vin=vin) for _ in range(4)]
    await inspected(node)
    assert await settled(desk, c, d, "confirm") == 200
    assert await settled(desk, b, d, "confirm") == 200
    assert [await canonical(api, one) for one in (a, b, c, d)] == [None, None, b, b]
    assert await settled(desk, a, c, "confirm", canonical_id=str(c)) == 200
    assert [await canonical(api, one) for one in (a, b, c, d)] == [c, c, None, c]
    assert await settled(desk, a, d, "confirm", canonical_id=str(a)) == 200
    assert [await canonical(api, one) for one in (a, b, c, d)] == [None, a, a, a]


async def test_links_made_at_once_make_one_group(api: Api, node: Node, desk: Desk, people: People) -> None:
    vin = a_vin()
    made = [await offered(api, await people.agent(), "vehicles", vin=vin) for _ in range(4)]
    await inspected(node)
    statuses = await asyncio.gather(*(settled(desk, one, other, "confirm") for one, other in pairwise(made)))
    assert statuses == [200] * 3
    assert [await canonical(api, one) for one in made] == [None, made[0], made[0], made[0]]


async def test_when_the_canonical_one_is_deleted_the_oldest_that_is_left_takes_its_place(
    api: Api, node: Node, desk: Desk, people: People
) -> None:
    vin, sellers = a_vin(), [await people.agent() for _ in range(3)]
    a, b, c = [await offered(api, seller, "vehicles", vin=vin) for seller in sellers]
    await inspected(node)
    for other in (b, c):
        assert await settled(desk, a, other, "confirm") == 200
    await api.delete(f"/vehicles/{a}", token=sellers[0].token)

    async def mended() -> bool:
        return [await canonical(api, one) for one in (b, c)] == [None, b]

    await eventually(mended)


async def test_what_was_dismissed_is_found_again_only_for_further_reasons(
    api: Api, node: Node, desk: Desk, seller: Person, rival: Person, pair: tuple[UUID, UUID]
) -> None:
    older, younger = pair
    assert await settled(desk, *pair, "dismiss") == 200
    assert await desk.kinds(younger) == []
    await changed(api, rival, younger, price=40_100)
    await inspected(node)
    assert (await desk.pairs(older))[younger]["state"] == "dismissed"
    assert await desk.kinds(younger) == []
    shown = a_hash()
    await pictured(node, api, seller, older, shown)
    await pictured(node, api, rival, younger, shown)
    await desk.waits(younger, "duplicate")
    found = (await desk.pairs(older))[younger]
    assert (found["reasons"], found["state"], found["settled_at"]) == (["alike", "pictures"], "candidate", None)


async def test_a_pair_waits_only_while_both_are_on_the_market(
    api: Api, desk: Desk, seller: Person, pair: tuple[UUID, UUID]
) -> None:
    older, younger = pair
    for status, kinds in (("withdrawn", []), ("active", ["duplicate"])):
        await changed(api, seller, older, status=status)
        await desk.waits(younger, *kinds)


async def test_rejecting_one_of_them_settles_the_pair(desk: Desk, pair: tuple[UUID, UUID]) -> None:
    older, younger = pair
    assert (await desk.post(f"/listings/{older}/reject", json={"reason": "A copy"})).status == 200
    assert await desk.kinds(younger) == []


async def test_what_another_moderator_is_at_is_not_settled(
    desk: Desk, other_desk: Desk, pair: tuple[UUID, UUID]
) -> None:
    item = await desk.item(pair[1], "duplicate")
    assert (await other_desk.post(f"/queue/{item['id']}/claim")).status == 200
    assert await settled(desk, *pair, "confirm") == 409
    assert await settled(desk, *pair, "dismiss") == 409
    assert await settled(other_desk, *pair, "dismiss") == 200


@pytest.mark.parametrize("word", ["confirm", "dismiss"])
async def test_a_claim_made_meanwhile_counts(
    node: Node, desk: Desk, other_desk: Desk, pair: tuple[UUID, UUID], word: str
) -> None:
    item = await desk.item(pair[1], "duplicate")
    path = f"/listings/{pair[0]}/duplicates/{pair[1]}/{word}"
    deciding = desk.post(path, **({"json": {}} if word == "confirm" else {}))
    refused = await claimed_meanwhile(node, other_desk.moderator, item, deciding)
    assert (refused.status, refused.json["code"]) == (409, "moderation-item-taken")
    assert (await desk.pairs(pair[0]))[pair[1]]["state"] == "candidate"
    assert await canonical(desk.api, pair[1]) is None


async def test_two_that_are_linked_with_a_third_are_not_dismissed(
    api: Api, node: Node, desk: Desk, people: People
) -> None:
    vin = a_vin()
    a, b, c = [await offered(api, await people.agent(), "vehicles", vin=vin) for _ in range(3)]
    await inspected(node)
    for one in (a, b):
        assert await settled(desk, one, c, "confirm") == 200
    refused = await desk.post(f"/listings/{a}/duplicates/{b}/dismiss")
    assert (refused.status, refused.json["code"]) == (409, "duplicate-confirmed")
    assert await settled(desk, a, b, "confirm") == 200
    assert await desk.kinds(b) == []


async def test_what_was_linked_is_not_dismissed(desk: Desk, pair: tuple[UUID, UUID]) -> None:
    assert await settled(desk, *pair, "dismiss") == 200
    assert await settled(desk, *pair, "confirm") == 200, "a moderator may think better of it"
    refused = await desk.post(f"/listings/{pair[0]}/duplicates/{pair[1]}/dismiss")
    assert (refused.status, refused.json["code"]) == (409, "duplicate-confirmed")


async def test_two_that_were_never_alike_are_no_pair(
    api: Api, people: People, desk: Desk, seller: Person, pair: tuple[UUID, UUID]
) -> None:
    stranger = await people.listing(seller)
    for one, other in ((pair[0], stranger), (pair[0], pair[0]), (uuid4(), uuid4())):
        for word in ("confirm", "dismiss"):
            sent: dict[str, Any] = {"json": {}} if word == "confirm" else {}
            refused = await desk.post(f"/listings/{one}/duplicates/{other}/{word}", **sent)
            assert (refused.status, refused.json["code"]) == (404, "duplicate-not-found")
    refused = await desk.post(f"/listings/{pair[0]}/duplicates/{pair[1]}/confirm", json={"canonical_id": str(stranger)})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/canonical_id")
    assert await canonical(api, pair[1]) is None
    assert (await desk.get(f"/listings/{uuid4()}/duplicates")).status == 404
