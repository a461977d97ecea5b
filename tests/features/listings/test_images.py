"""Pictures of a listing: one primary at most, each file once, in an order, and in the texts at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.features.listings.test_texts import stored_and_built
from tests.pictures import HTML, form, photo
from tests.support import Api, Node, People, Person, Response


async def add(api: Api, seller: Person, listing: UUID, *seeds: int, collection: str = "properties", **more: Any) -> Any:
    """The listing with these pictures more."""
    sent = form(*(photo(90, 60, seed=seed) for seed in seeds))
    answer = await api.post(f"/{collection}/{listing}/images", data=sent, token=seller.token, **more)
    assert answer.status == 201, answer.json
    return answer.json


async def arrange(api: Api, seller: Person, listing: UUID, *images: str, **more: Any) -> Response:
    return await api.put(f"/listings/{listing}/images", json={"images": list(images)}, token=seller.token, **more)


async def upload(api: Api, person: Person, *seeds: int) -> list[str]:
    sent = form(*(photo(90, 60, seed=seed) for seed in seeds))
    return [one["id"] for one in (await api.post("/uploads/images", data=sent, token=person.token)).json]


def ids(listing: Any) -> list[str]:
    return [image["id"] for image in listing["images"]]


def primary(listing: Any) -> str | None:
    found = [image["id"] for image in listing["images"] if image["is_primary"]]
    assert len(found) == (1 if listing["images"] else 0)
    return found[0] if found else None


def in_order(listing: Any) -> bool:
    return [image["display_order"] for image in listing["images"]] == list(range(len(listing["images"])))


@pytest.mark.parametrize("collection", ["properties", "vehicles", "listings"])
async def test_the_first_picture_becomes_primary_and_the_rest_follow(api: Api, people: People, collection: str) -> None:
    seller = await people.agent()
    listing = await (people.vehicle(seller) if collection == "vehicles" else people.listing(seller))
    first = await add(api, seller, listing, 1, 2, collection=collection)
    second = await add(api, seller, listing, 3, collection=collection)
    assert ids(second)[:2] == ids(first)
    assert len(ids(second)) == 3
    assert primary(second) == ids(first)[0]
    assert in_order(second)
    assert second["version"] == first["version"] + 1
    shown = (await api.get(f"/{collection}/{listing}")).json
    assert shown["images"] == second["images"]
    assert all(image["url"].startswith("/media/images/") for image in shown["images"])


async def test_the_same_file_twice_is_one_picture(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    first = await add(api, seller, listing, 1, 2, 1)
    assert len(ids(first)) == 2
    again = await add(api, seller, listing, 2)
    assert (again["images"], again["version"]) == (first["images"], first["version"])


async def test_another_picture_can_be_primary(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    made = await add(api, seller, listing, 1, 2)
    address = f"/properties/{listing}/images/{ids(made)[1]}/primary"
    chosen = await api.put(address, token=seller.token)
    assert (chosen.status, primary(chosen.json), ids(chosen.json)) == (200, ids(made)[1], ids(made))
    again = await api.put(address, token=seller.token)
    assert again.json["version"] == chosen.json["version"]
    assert chosen.headers["ETag"].startswith(f'W/"{chosen.json["version"]}.')


async def test_when_the_primary_one_goes_the_next_one_is(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    one, two, three = ids(await add(api, seller, listing, 1, 2, 3))
    await api.put(f"/properties/{listing}/images/{two}/primary", token=seller.token)
    left = []
    for gone in (two, three, one):
        answer = await api.delete(f"/properties/{listing}/images/{gone}", token=seller.token)
        assert (answer.status, in_order(answer.json)) == (200, True)
        left.append((ids(answer.json), primary(answer.json)))
    assert left == [([one, three], three), ([one], one), ([], None)]


async def test_the_pictures_of_a_deleted_listing_are_shown_no_more(api: Api, people: People, node: Node) -> None:
    """So their owner can take the uploads away, or they are collected."""
    seller = await people.agent()
    listing, (picture,) = await people.listing(seller), await upload(api, seller, 1)
    await arrange(api, seller, listing, picture)
    assert (await api.delete(f"/uploads/{picture}", token=seller.token)).json["code"] == "upload-in-use"
    assert (await api.delete(f"/properties/{listing}", token=seller.token)).status == 200
    stored, built = await stored_and_built(node, listing)
    assert stored == built
    assert (await api.delete(f"/uploads/{picture}", token=seller.token)).status == 200


async def test_pictures_are_put_in_order_joined_by_uploads_and_taken_away_at_once(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    one, two, three = ids(await add(api, seller, listing, 1, 2, 3))
    (fresh,) = await upload(api, seller, 4)
    answer = await arrange(api, seller, listing, three, fresh, one)
    assert answer.status == 200
    now = ids(answer.json)
    assert (now[0], now[2], len(now), primary(answer.json)) == (three, one, 3, one)
    assert now[1] not in (one, two, three)
    assert in_order(answer.json)
    assert (await arrange(api, seller, listing)).json["images"] == []


async def test_the_same_order_again_changes_nothing(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    made = await add(api, seller, listing, 1, 2)
    same = await arrange(api, seller, listing, *ids(made), ids(made)[0])
    assert same.json["version"] == made["version"]


async def joined(api: Api, seller: Person, listing: UUID, images: list[str]) -> Response:
    return await arrange(api, seller, listing, *await upload(api, seller, 7), *images)


Change = Callable[[Api, Person, UUID, list[str]], Awaitable[Any]]
CHANGES: dict[str, Change] = {
    "added": lambda api, seller, listing, images: add(api, seller, listing, 8, 9, collection="listings"),
    "joined": joined,
    "turned round": lambda api, seller, listing, images: arrange(api, seller, listing, *reversed(images)),
    "another primary": lambda api, seller, listing, images: api.put(
        f"/listings/{listing}/images/{images[1]}/primary", token=seller.token
    ),
    "the primary one gone": lambda api, seller, listing, images: api.delete(
        f"/listings/{listing}/images/{images[0]}", token=seller.token
    ),
    "another one gone": lambda api, seller, listing, images: api.delete(
        f"/listings/{listing}/images/{images[1]}", token=seller.token
    ),
    "all gone": lambda api, seller, listing, images: arrange(api, seller, listing),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("collection", ["properties", "vehicles"])
async def test_texts_are_what_would_be_built_after_every_change(
    api: Api, node: Node, people: People, collection: str, change: str
) -> None:
    seller = await people.agent()
    listing = await (people.vehicle(seller) if collection == "vehicles" else people.listing(seller))
    made = await add(api, seller, listing, 1, 2, 3, collection=collection)
    before, _ = await stored_and_built(node, listing)
    await CHANGES[change](api, seller, listing, ids(made))
    stored, built = await stored_and_built(node, listing)
    assert stored == built
    assert stored != before
    after = (await api.get(f"/listings/{listing}")).json
    assert after["version"] == made["version"] + 1
    primary(after)


# Who may, and what may not be


@pytest.mark.parametrize("doing", ["add", "arrange", "primary", "delete"])
async def test_a_stranger_changes_no_pictures(api: Api, people: People, doing: str) -> None:
    seller, stranger = await people.agent(), await people.agent()
    listing = await people.listing(seller)
    image = ids(await add(api, seller, listing, 1))[0]
    at = f"/properties/{listing}/images"
    asked = {
        "add": lambda: api.post(at, data=form(photo()), token=stranger.token),
        "arrange": lambda: api.put(at, json={"images": []}, token=stranger.token),
        "primary": lambda: api.put(f"{at}/{image}/primary", token=stranger.token),
        "delete": lambda: api.delete(f"{at}/{image}", token=stranger.token),
    }
    answer = await asked[doing]()
    assert (answer.status, answer.json["detail"]) == (403, "Not enough permissions")
    hidden = await api.put(f"/properties/{listing}", json={"status": "paused"}, token=seller.token)
    assert hidden.status == 200
    assert (await asked[doing]()).status == 404


async def test_what_is_not_there_is_not_found(api: Api, people: People) -> None:
    seller = await people.agent()
    listing, vehicle = await people.listing(seller), await people.vehicle(seller)
    image = ids(await add(api, seller, listing, 1))[0]
    for address, code in (
        (f"/properties/{uuid4()}/images/{image}", "property-not-found"),
        (f"/vehicles/{listing}/images/{image}", "vehicle-not-found"),
        (f"/properties/{listing}/images/{uuid4()}", "image-not-found"),
        (f"/vehicles/{vehicle}/images/{image}", "image-not-found"),
    ):
        gone = await api.delete(address, token=seller.token)
        assert (gone.status, gone.json["code"]) == (404, code)


async def test_only_ready_images_of_one_s_own_join(api: Api, people: People) -> None:
    seller, other = await people.agent(), await people.agent()
    listing = await people.listing(seller)
    (foreign,) = await upload(api, other, 1)
    paper = form(b"%PDF-1.4\n", name="deed.pdf", media_type="application/pdf")
    document = (await api.post("/uploads/documents", data=paper, token=seller.token)).json[0]["id"]
    waiting = str(await people.upload(seller))
    for one in (foreign, document, waiting, str(uuid4())):
        answer = await arrange(api, seller, listing, one)
        assert (answer.status, answer.json["code"]) == (404, "upload-not-found")


async def test_a_bad_file_beside_a_good_one_adds_nothing(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    sent = form(photo(seed=1), HTML)
    answer = await api.post(f"/properties/{listing}/images", data=sent, token=seller.token)
    assert (answer.status, answer.json["code"]) == (422, "file-refused")
    assert (await api.get(f"/properties/{listing}")).json["images"] == []


async def test_a_listing_has_fifty_pictures_at_most(api: Api, people: People, node: Node) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    made = await add(api, seller, listing, 1)
    copies = (
        "insert into media (owner_id, purpose, state, media_type, bytes, sha256, width, height, color, blurhash, "
        "phash, ready_at) select owner_id, purpose, state, media_type, bytes, sha256(n::text::bytea), width, height, "
        "color, blurhash, phash, ready_at from media, generate_series(1, 50) as n where owner_id = $1 returning id"
    )
    fresh = [str(row["id"]) for row in await node.process.db.records(copies, [seller.id])]
    assert (await arrange(api, seller, listing, *ids(made), *fresh)).status == 422  # more than a list may be
    full = await arrange(api, seller, listing, *ids(made), *fresh[:49])
    assert (full.status, len(full.json["images"])) == (200, 50)
    answer = await api.post(f"/properties/{listing}/images", data=form(photo(seed=2)), token=seller.token)
    assert (answer.status, answer.json["code"]) == (409, "too-many-images")


async def test_a_change_of_pictures_meant_for_another_version_is_not_made(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    seen = await api.get(f"/properties/{listing}")
    stale = {"If-Match": seen.headers["ETag"]}
    made = await add(api, seller, listing, 1, 2, headers=stale)
    at = f"/properties/{listing}/images"
    late = [
        await api.post(at, data=form(photo(seed=3)), token=seller.token, headers=stale),
        await api.put(at, json={"images": []}, token=seller.token, headers=stale),
        await api.put(f"{at}/{ids(made)[1]}/primary", token=seller.token, headers=stale),
        await api.delete(f"{at}/{ids(made)[0]}", token=seller.token, headers=stale),
    ]
    assert [(answer.status, answer.json["code"]) for answer in late] == [(412, "version-mismatch")] * 4
    assert (await api.get(f"/properties/{listing}")).json["images"] == made["images"]


async def test_many_who_change_pictures_at_once_do_it_one_after_the_other(
    api: Api, people: People, second_node: Node, node: Node
) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    made = ids(await add(api, seller, listing, 1, 2, 3, 4))
    at = f"/properties/{listing}/images"
    fresh = await upload(api, seller, 11, 12)
    answers = await asyncio.gather(
        api.post(at, data=form(photo(90, 60, seed=5)), token=seller.token),
        second_node.api.post(at, data=form(photo(90, 60, seed=6)), token=seller.token),
        second_node.api.post(at, data=form(photo(90, 60, seed=6)), token=seller.token),
        api.put(f"{at}/{made[1]}/primary", token=seller.token),
        second_node.api.put(f"{at}/{made[2]}/primary", token=seller.token),
        api.delete(f"{at}/{made[0]}", token=seller.token),
        second_node.api.delete(f"{at}/{made[0]}", token=seller.token),
        arrange(api, seller, listing, *reversed(made), *fresh),
    )
    assert all(answer.status < 500 for answer in answers), [answer.json for answer in answers]
    now = (await api.get(f"/properties/{listing}")).json
    assert primary(now) is not None
    assert in_order(now)
    assert len({image["url"] for image in now["images"]}) == len(now["images"])
    stored, built = await stored_and_built(node, listing)
    assert stored == built
