"""Listings in the words of schema.org."""

from __future__ import annotations

from tests.support import Api, People, a_property, a_vehicle


async def test_a_flat_to_let_is_described_for_search_engines(api: Api, people: People) -> None:
    seller = await people.agent()
    wish = a_property(
        bedrooms=2, square_meters=118.5, neighborhood="Bole", latitude=9.0, longitude=38.8, amenities=["Lift"], floor=0
    )
    made = (await api.post("/properties", json=wish, token=seller.token)).json
    found = (await api.get(f"/properties/{made['id']}/jsonld")).json
    assert (found["@context"], found["@type"]) == ("https://schema.org", "RealEstateListing")
    assert found["datePosted"] == made["published_at"][:10]
    place = found["mainEntity"]
    assert place["@type"] == "Apartment"
    assert (place["numberOfBedrooms"], place["floorLevel"]) == (2, "0")
    assert place["floorSize"] == {"@type": "QuantitativeValue", "value": 118.5, "unitCode": "MTK"}
    assert place["address"]["addressLocality"] == "Bole, Addis Ababa"
    assert [one["name"] for one in place["amenityFeature"]] == ["Lift"]
    assert "yearBuilt" not in place
    offer = found["offers"]
    assert (offer["price"], offer["priceCurrency"]) == (45000, "ETB")
    assert offer["priceSpecification"]["unitCode"] == "MON"
    assert offer["businessFunction"].endswith("LeaseOut")


async def test_nothing_in_it_ends_the_script_it_stands_in(api: Api, people: People) -> None:
    seller, title = await people.agent(), "</script><script>alert(1)</script> & \u2028 <!--"
    made = (await api.post("/properties", json=a_property(title=title), token=seller.token)).json
    answer = await api.get(f"/properties/{made['id']}/jsonld")
    assert answer.json["name"] == made["title"]
    assert not {"<", ">", "&", "\u2028"} & set(answer.raw.decode())


async def test_a_car_for_sale_is_described_too(api: Api, people: People) -> None:
    seller = await people.agent()
    wish = a_vehicle(body="suv", mileage_km=10, fuel="electric", drive="four_wheel", condition="used", engine_cc=1598)
    made = (await api.post("/vehicles", json=wish, token=seller.token)).json
    found = (await api.get(f"/listings/{made['id']}/jsonld")).json
    assert (found["@type"], found["brand"]["name"], found["vehicleModelDate"]) == ("Car", "Toyota", "2014")
    assert found["mileageFromOdometer"]["unitCode"] == "KMT"
    assert found["vehicleEngine"]["engineDisplacement"]["value"] == 1598
    assert found["driveWheelConfiguration"] == "https://schema.org/FourWheelDriveConfiguration"
    assert found["offers"]["availability"] == "https://schema.org/InStock"
    await api.put(f"/vehicles/{made['id']}", json={"status": "sold"}, token=seller.token)
    assert (await api.get(f"/vehicles/{made['id']}/jsonld")).status == 404
    mine = await api.get(f"/vehicles/{made['id']}/jsonld", token=seller.token)
    assert mine.json["offers"]["availability"] == "https://schema.org/SoldOut"
