"""Places: one by whatever name it is called, and listings found by any of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support import Api, Node, People, Person, a_property


async def offered(api: Api, owner: Person, **more: Any) -> str:
    answer = await api.post("/properties", json=a_property(**more), token=owner.token)
    assert answer.status == 201, answer.json
    return str(answer.json["id"])


async def found(api: Api, place: str) -> set[str]:
    return {one["id"] for one in (await api.get("/properties", params={"city": place, "limit": 100})).json}


async def place_of(node: Node, listing: str) -> str | None:
    (row,) = await node.process.db.records(
        "select places.name from listings left join places on places.id = place_id where listings.id = $1",
        [UUID(listing)],
    )
    name: str | None = row["name"]
    return name


async def named(api: Api, **query: Any) -> list[str]:
    return [place["name"] for place in (await api.get("/places", params=query)).json]


async def test_every_spelling_finds_the_same_homes(api: Api, people: People) -> None:
    seller = await people.agent()
    ours = {
        await offered(api, seller, neighborhood="Kazanches"),
        await offered(api, seller, neighborhood="ካሳንቺስ", city="አዲስ አበባ"),
        await offered(api, seller, neighborhood="KAZANCHIS", city="Addis-Abeba"),
    }
    for spelling in ("Kazanches", "Kazanchis", "ካዛንቺስ", "kasanchis"):
        assert await found(api, spelling) >= ours, spelling
    other = await offered(api, seller, neighborhood="Bole")
    assert other not in await found(api, "ካዛንቺስ")


async def test_a_sub_city_finds_what_is_offered_in_its_neighbourhoods(api: Api, people: People) -> None:
    seller = await people.agent()
    inside = {
        await offered(api, seller, neighborhood="Kazanchis"),
        await offered(api, seller, neighborhood="ጎተራ"),
        await offered(api, seller, neighborhood="Kirkos sub-city"),
    }
    outside = await offered(api, seller, neighborhood="Piazza")
    for name in ("Kirkos", "ቂርቆስ ክፍለ ከተማ"):
        assert await found(api, name) >= inside
        assert outside not in await found(api, name)
    assert await found(api, "Addis Ababa") >= {*inside, outside}


async def test_the_place_follows_what_the_seller_writes(api: Api, node: Node, people: People) -> None:
    seller = await people.agent()
    listing = await offered(api, seller, neighborhood="Piazza")
    assert await place_of(node, listing) == "Piassa"
    for change, place in (
        ({"neighborhood": "4 kilo"}, "Arat Kilo"),
        ({"price": 7}, "Arat Kilo"),
        ({"neighborhood": None}, "Addis Ababa"),
        ({"city": "Nazret"}, "Adama"),
        ({"city": "Nairobi", "country": "KE", "neighborhood": "langata"}, "Lang'ata"),
    ):
        answer = await api.put(f"/properties/{listing}", json=change, token=seller.token)
        assert answer.status == 200, answer.json
        assert await place_of(node, listing) == place, change


async def test_words_that_nobody_knows_stay_words(api: Api, node: Node, people: People) -> None:
    seller = await people.agent()
    nowhere = await offered(api, seller, city="Qwghlm", neighborhood="Kazanchis")
    new = await offered(api, seller, neighborhood="Behind the new mill")
    assert [await place_of(node, nowhere), await place_of(node, new)] == [None, "Addis Ababa"]
    answer = (await api.get(f"/properties/{nowhere}")).json
    assert (answer["city"], answer["neighborhood"]) == ("Qwghlm", "Kazanchis")
    assert await found(api, "qwghlm") == {nowhere}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Addis Abeba", "addis-abeba"),
        ("Lang'ata", "LANGATA"),
        ("ሐዋሳ", "ሀዋሳ"),
        ("ዓድዋ", "አድዋ"),
        ("ፒያሣ", "ፒያሳ"),
        ("ባሕር ዳር", "ባህርዳር"),
        ("ጸጹጺጻጼጽጾ ሠሡሢሣሤሥሦሧ", "ፀፁፂፃፄፅፆ፣ሰሱሲሳሴስሶሷ"),
    ],
)
async def test_only_letters_count_and_those_that_sound_alike_are_one(node: Node, one: str, other: str) -> None:
    (row,) = await node.process.db.records("select place_key($1) as one, place_key($2) as other", [one, other])
    assert row["one"] == row["other"] != ""


async def test_different_words_stay_different(node: Node) -> None:
    (row,) = await node.process.db.records("select place_key('ቦሌ') as one, place_key('ገርጂ') as other", [])
    assert (row["one"], row["other"]) == ("ቦሌ", "ገርጂ")


async def test_each_name_in_the_gazetteer_means_its_place(node: Node) -> None:
    """Within a city, and there a neighbourhood before the sub-city that is called alike."""
    wrong = await node.process.db.records(
        """
        with recursive inside as (
            select id, country, name as city, id as place_id from places where kind = 'city'
            union all
            select inside.id, inside.country, city, places.id from inside join places on parent_id = place_id
        )
        select city, place_names.name
        from inside join place_names using (place_id) join places on places.id = place_id
        where place_of(inside.country, case when kind = 'city' then place_names.name else city end,
                       case when kind <> 'city' then place_names.name end) is distinct from place_id
          and not (kind = 'sub_city' and exists (
              select from places as same join place_names as other on other.place_id = same.id
              where same.kind = 'neighborhood' and place_key(other.name) = place_key(place_names.name)))
        """,
        [],
    )
    assert wrong == []


async def test_every_city_and_every_place_in_addis_has_a_name_in_amharic(node: Node) -> None:
    rows = await node.process.db.records(
        "select name from places where not exists ("
        "select from place_names where place_id = places.id and language = 'am' and usual)",
        [],
    )
    assert rows == []
    counts = await node.process.db.records(
        "select kind, count(*)::int as n from places where country = 'ET' group by kind order by kind", []
    )
    assert {row["kind"]: row["n"] for row in counts} == {"city": 53, "neighborhood": 98, "sub_city": 11}


async def test_a_place_is_found_by_the_beginning_of_any_name(api: Api) -> None:
    for words in ("kazan", "ካሳን", "Kasanch"):
        (place,) = (await api.get("/places", params={"search": words})).json
        assert place == {
            "id": place["id"],
            "kind": "neighborhood",
            "name": "Kazanchis",
            "name_am": "ካዛንቺስ",
            "country": "ET",
            "latitude": 9.016,
            "longitude": 38.766,
            "parent": {"id": place["parent"]["id"], "kind": "sub_city", "name": "Kirkos", "name_am": "ቂርቆስ"},
        }
    (nazret,) = (await api.get("/places", params={"search": "debre z"})).json
    assert (nazret["name"], nazret["parent"]) == ("Bishoftu", None)


async def test_the_likeliest_comes_first(api: Api) -> None:
    assert (await named(api, search="Bole"))[:2] == ["Bole", "Bole"], "the very name, the sub-city before the area"
    assert "Bole Bulbula" in await named(api, search="bole")
    assert await named(api, country="KE", kind="city", limit=2) == ["Nairobi", "Mombasa"]
    assert await named(api, kind="city", search="a", country="ET", limit=1) == ["Addis Ababa"]
    assert len(await named(api, kind="sub_city", limit=100)) == 11


@pytest.mark.parametrize("words", ["!!!", "zzz", "%", "_", "'", "\\"])
async def test_what_begins_no_name_finds_nothing(api: Api, words: str) -> None:
    assert await named(api, search=words) == []


@pytest.mark.parametrize("query", [{"limit": 101}, {"limit": 0}, {"kind": "planet"}, {"country": "et"}, {"search": ""}])
async def test_what_is_no_question_is_refused(api: Api, query: dict[str, Any]) -> None:
    assert (await api.get("/places", params=query)).status == 422
