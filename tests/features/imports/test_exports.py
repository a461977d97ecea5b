"""Listings as a file: all of them, for whoever they belong to, harmless to spreadsheets, and an import takes them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from k2k.features.imports import export
from tests.features.imports.sheets import LINES, a_row, cells, counts, imported, rows, sheet
from tests.support import Api, Node, People, Person, a_property, a_vehicle

NASTY = ('=HYPERLINK("http://evil.example")', "+1 flat", "-5", "@home", "'quoted'", 'Two\n"lines", one; cell', "ቤት")


async def offer(api: Api, seller: Person, *drafts: dict[str, Any]) -> None:
    for draft in drafts:
        path = "/vehicles" if "brand" in draft else "/properties"
        answer = await api.post(path, json=draft, token=seller.token)
        assert answer.status == 201, answer.json


async def sold(api: Api, seller: Person, format_: str = "csv", **query: str) -> bytes:
    """The export of a person."""
    more = "".join(f"&{name}={value}" for name, value in query.items())
    answer = await api.get(f"/listings/export?format={format_}{more}", token=seller.token)
    assert answer.status == 200, answer.raw
    return answer.raw


async def documents(node: Node, seller: Person) -> dict[str, Any]:
    """What is stored of each listing of a person that lives, by title, without what no file can bring."""
    rows = await node.process.db.records(
        "select document from listing_texts join listings using (id) where owner_id = $1 and deleted_at is null",
        [seller.id],
    )
    found = [json.loads(row["document"] + "}") for row in rows]
    own = {"id", "user_id", "version", "created_at", "updated_at", "published_at", "expires_at", "closed_at"}
    return {one["title"]: {name: value for name, value in one.items() if name not in own} for one in found}


@pytest.fixture
async def seller(api: Api, people: People) -> Person:
    """Somebody who has a bit of everything."""
    seller = await people.agent()
    flats = [a_property(title=title, amenities=["Lift", "a;b", "=1"], floor=-1, price=45000.5) for title in NASTY]
    place = {"latitude": -1.2921, "longitude": 36.000001, "available_from": "2027-01-31", "square_meters": 118.25}
    await offer(api, seller, *flats, a_property(title="Placed", status="draft", **place), a_vehicle(title="Car"))
    return seller


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
async def test_what_is_exported_and_imported_again_is_the_same(
    api: Api, node: Node, people: People, seller: Person, format_: str
) -> None:
    before = await documents(node, seller)
    content = await sold(api, seller, format_)
    done = await imported(api, seller, content, f"stock.{format_}", "")
    assert counts(done) == ("finished", 0, len(before), 0, 0)
    assert await documents(node, seller) == before
    other = await people.agent()
    done = await imported(api, other, content, f"stock.{format_}", "")
    assert counts(done) == ("finished", len(before), 0, 0, 0)
    assert await documents(node, other) == before


async def test_no_cell_of_a_text_begins_as_a_formula_does(api: Api, seller: Person) -> None:
    answer = await api.get("/listings/export", token=seller.token)
    assert answer.headers["Content-Type"] == "text/csv"
    assert 'filename="listings.csv"' in answer.headers["Content-Disposition"]
    assert answer.raw.startswith(b"\xef\xbb\xbfkind,reference,")
    found = cells(answer.raw)
    assert {row["title"] for row in found} == {
        *("'" + title if title[0] in "=+-@'" else title for title in NASTY),
        "Placed",
        "Car",
    }
    for row in found:
        numbers = {"floor", "latitude"}
        assert not [cell for name, cell in row.items() if name not in numbers and cell.startswith(tuple("=+-@\t"))]


async def test_a_line_of_json_says_what_a_draft_says(api: Api, seller: Person) -> None:
    answer = await api.get("/listings/export?format=jsonl&kind=vehicle", token=seller.token)
    assert answer.headers["Content-Type"] == LINES
    (car,) = [json.loads(line) for line in answer.raw.decode().splitlines()]
    assert a_vehicle(title="Car").items() <= car.items()
    assert car["kind"] == "vehicle"
    assert UUID(car["reference"])
    assert "vin" not in car
    assert "view_count" not in car


async def test_of_one_kind_there_are_only_its_columns(api: Api, seller: Person) -> None:
    homes, cars = cells(await sold(api, seller, kind="property")), cells(await sold(api, seller, kind="vehicle"))
    assert (len(homes), len(cars)) == (len(NASTY) + 1, 1)
    assert "bedrooms" in homes[0].keys() - cars[0].keys()
    assert "mileage_km" in cars[0].keys() - homes[0].keys()
    assert cells(await sold(api, seller))[0].keys() == homes[0].keys() | cars[0].keys()


async def test_whatever_its_status_but_nothing_deleted(api: Api, people: People) -> None:
    seller = await people.agent()
    await imported(api, seller, sheet(rows(3, reference="")))
    ids = {row["title"]: row["reference"] for row in cells(await sold(api, seller))}
    assert (await api.delete(f"/properties/{ids['Flat 0']}", token=seller.token)).status == 200
    await api.put(f"/properties/{ids['Flat 1']}", json={"status": "rented"}, token=seller.token)
    assert {row["title"]: row["status"] for row in cells(await sold(api, seller))} == {
        "Flat 1": "rented",
        "Flat 2": "active",
    }


async def test_listings_go_by_the_names_their_seller_gave_them(api: Api, people: People) -> None:
    seller = await people.agent()
    await imported(api, seller, sheet([{**row, "reference": f"R-{n}"} for n, row in enumerate(rows(3))]))
    assert {row["title"]: row["reference"] for row in cells(await sold(api, seller))} == {
        f"Flat {n}": f"R-{n}" for n in range(3)
    }


async def test_an_export_goes_on_over_many_pages_and_has_each_once(
    api: Api, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 7)
    seller = await people.agent()
    await imported(api, seller, sheet(rows(40)))
    await offer(api, seller, a_property(title="Newest"))
    found = [row["title"] for row in cells(await sold(api, seller))]
    assert found[0] == "Newest"
    assert sorted(found) == sorted(["Newest", *(f"Flat {n}" for n in range(40))])


async def test_who_runs_an_agency_gets_all_of_it_and_a_member_their_own(api: Api, people: People) -> None:
    owner, agency = await people.agency()
    member, stranger = await people.agent(agency), await people.agent()
    for person, title in ((owner, "Owner's"), (member, "Member's"), (stranger, "Stranger's")):
        await offer(api, person, a_property(title=title))
    assert {row["title"] for row in cells(await sold(api, owner))} == {"Owner's", "Member's"}
    assert {row["title"] for row in cells(await sold(api, member))} == {"Member's"}


async def test_of_an_agency_what_others_named_goes_by_its_id(api: Api, people: People) -> None:
    owner, agency = await people.agency()
    member = await people.agent(agency)
    for person, title in ((owner, "Owner's"), (member, "Member's")):
        await imported(api, person, sheet([a_row(title=title, reference="K-1")]))
    found = {row["title"]: row["reference"] for row in cells(await sold(api, owner))}
    assert found["Owner's"] == "K-1"
    assert UUID(found["Member's"])
    assert [row["reference"] for row in cells(await sold(api, member))] == ["K-1"]


async def test_export_is_a_word_and_no_id(api: Api, people: People) -> None:
    seller = await people.agent()
    assert cells(await sold(api, seller)) == []
    for wrong in ("format=xlsx", "kind=boat", "evil=1"):
        refused = await api.get(f"/listings/export?{wrong}", token=seller.token)
        assert (refused.status, refused.json["code"]) == (422, "invalid")
    assert (await api.get("/listings/export")).status == 401
    assert (await api.get("/listings/export", token=(await people.buyer()).token)).status == 403
