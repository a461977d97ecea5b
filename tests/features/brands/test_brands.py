"""Brands: makes and models by whatever they are called, and listings that have them as they are usually written."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from k2k.features.listings.kinds import Body
from tests.support import Api, Node, People, Person, a_vehicle


async def offered(api: Api, owner: Person, **more: Any) -> dict[str, Any]:
    answer = await api.post("/vehicles", json=a_vehicle(**more), token=owner.token)
    assert answer.status == 201, answer.json
    vehicle: dict[str, Any] = answer.json
    return vehicle


@pytest.mark.parametrize(
    ("brand", "model", "stored"),
    [
        ("toyota", "corolla", ("Toyota", "Corolla")),
        ("TOYOTA", "rav 4", ("Toyota", "RAV4")),
        ("ቶዮታ", "Land-Cruiser", ("Toyota", "Land Cruiser")),
        ("vw", "id4", ("Volkswagen", "ID.4")),
        ("Mercedes Benz", "c class", ("Mercedes-Benz", "C-Class")),
        ("Toyota", "Spaceship", ("Toyota", "Spaceship")),
        ("Wolwo", "corolla", ("Wolwo", "corolla")),
    ],
)
async def test_a_make_is_stored_as_it_is_usually_written(
    api: Api, people: People, brand: str, model: str, stored: tuple[str, str]
) -> None:
    seller = await people.agent()
    vehicle = await offered(api, seller, brand=brand, model=model)
    assert (vehicle["brand"], vehicle["model"]) == stored
    other = await offered(api, seller, brand="Fiat", model="Uno")
    changed = await api.put(f"/vehicles/{other['id']}", json={"brand": brand, "model": model}, token=seller.token)
    assert (changed.json["brand"], changed.json["model"]) == stored


async def test_a_make_is_found_by_any_of_its_names(api: Api, people: People) -> None:
    seller, city = await people.agent(), f"City {uuid4()}"
    car = await offered(api, seller, city=city, brand="volkswagen", model="ID.4")
    await offered(api, seller, city=city)
    for asked in ({"brand": "VW"}, {"brand": "ቮልስዋገን", "model": "id 4"}, {"brand": "Volkswagen"}):
        listed = await api.get("/vehicles", params={"city": city, **asked})
        assert [one["id"] for one in listed.json] == [car["id"]], asked


async def test_brands_are_a_word_and_no_vehicle(api: Api) -> None:
    answer = await api.get("/vehicles/brands")
    assert answer.status == 200
    brands = {brand["name"]: brand["models"] for brand in answer.json}
    assert brands.keys() >= {"Toyota", "Suzuki", "BYD", "Sinotruk", "Bajaj"}
    assert brands["Toyota"] >= 30
    assert list(brands) == sorted(brands)
    assert all(brands.values())


@pytest.mark.parametrize("name", ["Toyota", "toyota", "TOYOTA", "ቶዮታ"])
async def test_the_models_of_a_make(api: Api, name: str) -> None:
    models = {one["name"]: one["body"] for one in (await api.get(f"/vehicles/brands/{name}/models")).json}
    assert (models["Corolla"], models["Hilux"], models["HiAce"]) == ("sedan", "pickup", "minibus")


async def test_nobody_knows_that_make(api: Api) -> None:
    for name in ("Wolwo", "%", "'", "…"):
        answer = await api.get(f"/vehicles/brands/{name.replace('%', '%25')}/models")
        assert (answer.status, answer.json["code"]) == (404, "brand-not-found")


async def test_every_model_has_a_body_that_vehicles_can_have(node: Node) -> None:
    rows = await node.process.db.records("select distinct body from models", [])
    assert {row["body"] for row in rows} <= set(Body)
