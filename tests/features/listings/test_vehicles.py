"""Vehicles: the same doors as properties have, and both kinds behind /listings."""

from __future__ import annotations

from typing import Any

import pytest

from k2k.features.listings.kinds import Vehicle
from tests.support import Api, Live, Node, People, Person, a_property, a_vehicle


async def offered(api: Api, owner: Person, **more: Any) -> dict[str, Any]:
    answer = await api.post("/vehicles", json=a_vehicle(**more), token=owner.token)
    assert answer.status == 201, answer.json
    found: dict[str, Any] = answer.json
    return found


async def test_a_car_is_offered_and_everyone_can_read_it(api: Api, people: People) -> None:
    seller = await people.agent()
    wish = a_vehicle(
        description="ከመጀመሪያው ባለቤት",
        body="sedan",
        mileage_km=98_000,
        fuel="petrol",
        transmission="automatic",
        drive="front",
        engine_cc=1598,
        seats=5,
        doors=4,
        color="White",
        condition="used",
        owners=1,
        first_registration="2014-05-01",
        import_status="duty_paid",
        features=["Rear camera"],
    )
    answer = await api.post("/vehicles", json=wish, token=seller.token)
    assert answer.status == 201
    assert set(answer.json) == set(Vehicle.model_fields)
    assert {name: answer.json[name] for name in wish} == wish
    assert answer.headers["Location"] == f"/api/v1/vehicles/{answer.json['id']}"
    assert (await api.get(f"/vehicles/{answer.json['id']}")).json == answer.json
    assert (await api.get(f"/listings/{answer.json['id']}")).json == answer.json


async def test_a_vehicle_is_no_property(api: Api, people: People) -> None:
    seller = await people.agent()
    car, house = await people.vehicle(seller), await people.listing(seller)
    wrong = (("vehicles", house, "vehicle-not-found", "Vehicle not found"),
             ("properties", car, "property-not-found", "Property not found"))  # fmt: skip
    wishes: tuple[tuple[str, dict[str, Any]], ...] = (("GET", {}), ("PUT", {"json": {"price": 1}}), ("DELETE", {}))
    for collection, listing, code, words in wrong:
        for method, sent in wishes:
            refused = await api.request(method, f"/{collection}/{listing}", token=seller.token, **sent)
            assert (refused.status, refused.json["code"], refused.json["detail"]) == (404, code, words)


async def test_deleting_says_so_in_its_words(api: Api, people: People) -> None:
    seller = await people.agent()
    gone = await api.delete(f"/vehicles/{await people.vehicle(seller)}", token=seller.token)
    assert (gone.status, gone.json) == (200, {"message": "Vehicle deleted successfully"})
    gone = await api.delete(f"/listings/{await people.listing(seller)}", token=seller.token)
    assert gone.json == {"message": "Listing deleted successfully"}


async def test_cars_are_found_by_what_people_ask_for(api: Api, people: People) -> None:
    seller = await people.agent()
    city = f"City of {seller.id}"
    old = await offered(api, seller, city=city, brand="toyota", year=2004, price=900_000, fuel="petrol")
    new = await offered(
        api, seller, city=city, brand="BYD", model="Seagull", year=2025, price=2_400_000, fuel="electric", mileage_km=10
    )
    asked = {
        "brand=Toyota": [old], "model=seagull": [new], "fuel=electric&fuel=hybrid": [new], "year_min=2010": [new],
        "year_max=2010": [old], "mileage_max=100": [new], "price_max=1000000": [old], "listing_type=rent": [],
        "price_min=100&currency=USD": [], "search=100%25": [], "brand=BYD&year_min=2020&price_min=1": [new],
        "": [new, old], "limit=1": [new], "skip=1": [old],
    }  # fmt: skip
    for query, expected in asked.items():
        answer = await api.get(f"/vehicles?city={city}&{query}")
        assert [one["id"] for one in answer.json] == [one["id"] for one in expected], query
    link = (await api.get(f"/vehicles?city={city}&limit=1&fuel=petrol&fuel=electric")).headers["Link"]
    address = link.partition(">")[0].removeprefix("</api/v1")
    assert [one["id"] for one in (await api.get(address)).json] == [old["id"]], "the next part asks for the same"


async def test_one_open_offer_of_a_vehicle_an_agency(api: Api, people: People) -> None:
    seller, other = await people.agent(), await people.agent()
    vin = f"JTD{seller.id.hex[:12].upper().replace('O', '0').replace('I', '1')}"
    first = await offered(api, seller, vin=vin)
    again = await api.post("/vehicles", json=a_vehicle(vin=vin.lower()), token=seller.token)
    assert (again.status, again.json["code"]) == (409, "unit-on-offer")
    assert "vin" not in first
    await offered(api, other, vin=vin)
    sold = await api.put(f"/vehicles/{first['id']}", json={"status": "sold"}, token=seller.token)
    assert sold.status == 200
    await offered(api, seller, vin=vin)


async def test_either_kind_comes_in_by_the_common_door(api: Api, people: People, node: Node) -> None:
    seller = await people.agent()
    house = await api.post("/listings", json={"kind": "property", **a_property()}, token=seller.token)
    car = await api.post("/listings", json={"kind": "vehicle", **a_vehicle()}, token=seller.token)
    assert [house.status, car.status] == [201, 201]
    assert (house.json["kind"], car.json["kind"]) == ("property", "vehicle")
    wrong = await api.post("/listings", json={"kind": "vehicle", **a_property()}, token=seller.token)
    assert wrong.status == 422
    assert {fault["pointer"] for fault in wrong.json["errors"]} == {"/brand", "/model", "/year", "/property_type"}
    async with Live.open(node.api.base) as live:
        await live.connect(seller.token)
        assert (await live.rpc("listing.get", listing_id=car.json["id"]))["brand"] == "Toyota"


@pytest.mark.parametrize(
    "change",
    [
        {"owner_id": "01990000-0000-7000-8000-000000000000"},
        {"user_id": "01990000-0000-7000-8000-000000000000"},
        {"view_count": 1000},
        {"save_count": 1000},
        {"is_featured": True},
        {"version": 99},
        {"agency_id": None},
        {"published_at": "2026-01-01T00:00:00Z"},
        {"canonical_id": None},
        {"id": "01990000-0000-7000-8000-000000000000"},
        {"year": 2099},
        {"price": 10**30},
        {"price": -1},
        {"latitude": 91, "longitude": 38},
        {"first_registration": "2199-01-01"},
        {"brand": "'" * 101},
        {"price_period": "month"},
    ],
    ids=str,
)
async def test_what_is_not_the_seller_s_to_say_is_refused(api: Api, people: People, change: dict[str, Any]) -> None:
    seller = await people.agent()
    refused = await api.post("/vehicles", json=a_vehicle(**change), token=seller.token)
    assert refused.status == 422
    assert {fault["in"] for fault in refused.json["errors"]} == {"body"}


async def test_floods_of_quotes_and_percents_find_nothing_and_break_nothing(api: Api) -> None:
    for flood in ("'" * 200, "%25" * 200, "\\" * 200, "_" * 200, "%27;drop table listings;--"):
        for field in ("search", "city"):
            assert (await api.get(f"/vehicles?{field}={flood}")).json == []
