"""Many listings out of one file: what is right is taken, what is wrong is told, and nothing happens twice."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from asyncpg import ForeignKeyViolationError

from k2k.core.errors import OutcomeUnknown
from k2k.core.ids import ImportId
from k2k.features.accounts import service as accounts
from k2k.features.agents import service as agents
from k2k.features.agents.models import AgencyDraft, ProfileDraft
from k2k.features.imports import chunks, service, store
from k2k.features.imports.chunks import ImportChunk, importing
from k2k.features.imports.errors import TooManyImports
from k2k.features.listings.inspection import InspectListing
from k2k.features.moderation.service import inspecting
from k2k.infra.db import Db
from k2k.infra.jobs.job import Attempt
from k2k.infra.transaction import Tx
from k2k.ops.permissions import Role
from tests.features.imports.sheets import (
    CSV,
    LINES,
    a_row,
    a_seller,
    brought,
    counts,
    ended,
    errors_of,
    form,
    imported,
    json_lines,
    rows,
    send,
    settled,
    sheet,
    stands,
    titles,
)
from tests.support import Api, Node, People, Person, Workplace, a_property, a_vehicle, eventually


async def mine(api: Api, person: Person) -> list[dict[str, Any]]:
    """The active properties of a person."""
    answer = await api.get(f"/users/{person.id}/properties", token=person.token)
    found: list[dict[str, Any]] = answer.json
    return found


# What a file can do


async def test_a_sheet_of_properties_and_vehicles_becomes_listings(api: Api, people: People) -> None:
    seller = await people.agent()
    flat = a_row(title="ሁለት መኝታ ቤት", language="am", price="45000.50", bedrooms=2, amenities="Lift; Generator; lift")
    car = {"kind": "vehicle", **a_vehicle(reference="T-1", mileage_km=98000, latitude="9.01")}
    car["longitude"] = "38.75"
    done = await imported(api, seller, sheet([flat, car]))
    assert counts(done) == ("finished", 2, 0, 0, 0)
    assert (done["name"], done["format"], done["percent"], done["reason"]) == ("stock.csv", "csv", 100, None)
    assert done["ended_at"] >= done["created_at"]
    (home,) = await mine(api, seller)
    assert {name: home[name] for name in ("title", "language", "price", "bedrooms", "amenities", "status")} == {
        "title": "ሁለት መኝታ ቤት",
        "language": "am",
        "price": 45000.5,
        "bedrooms": 2,
        "amenities": ["Lift", "Generator"],
        "status": "active",
    }
    assert (home["version"], home["price_period"], home["expires_at"] is None) == (1, "month", False)
    (vehicle,) = [one for one in (await api.get("/vehicles?brand=Toyota")).json if one["user_id"] == str(seller.id)]
    assert (vehicle["brand"], vehicle["mileage_km"], vehicle["latitude"]) == ("Toyota", 98000, 9.01)
    assert (await api.get("/imports", token=seller.token)).json == [done]


async def test_lines_of_json_become_listings_too(api: Api, people: People) -> None:
    seller = await people.agent()
    said = [a_row(title=f"Flat {n}", features=["Garden"], bedrooms=None) for n in range(3)]
    done = await imported(api, seller, json_lines(said), "stock.jsonl", LINES)
    assert counts(done) == ("finished", 3, 0, 0, 0)
    assert {one["title"]: one["features"] for one in await mine(api, seller)} == {
        f"Flat {n}": ["Garden"] for n in range(3)
    }


async def test_a_row_of_a_known_reference_changes_what_is_there(api: Api, people: People) -> None:
    seller = await people.agent()
    first = [a_row(title=f"Flat {n}", reference=f"R-{n}", bedrooms=n) for n in range(4)]
    assert counts(await imported(api, seller, sheet(first))) == ("finished", 4, 0, 0, 0)
    before = {one["title"]: one["id"] for one in await mine(api, seller)}
    second: list[dict[str, Any]] = [
        {"kind": "property", "reference": "R-0", "price": 41000},
        {"kind": "property", "reference": "R-1", "status": "rented"},
        {"kind": "property", "reference": " R-2 ", "status": "deleted"},
        a_row(title="Flat 4", reference="R-4"),
        {"kind": "property", "reference": "R-0", "title": "Flat 0, painted"},
    ]
    assert counts(await imported(api, seller, sheet(second))) == ("finished", 1, 3, 1, 0)
    after = {one["title"]: one for one in await mine(api, seller)}
    assert after.keys() == {"Flat 0, painted", "Flat 3", "Flat 4"}
    painted = after["Flat 0, painted"]
    assert (painted["id"], painted["price"], painted["bedrooms"]) == (before["Flat 0"], 41000, 0)
    rented = (await api.get(f"/properties/{before['Flat 1']}", token=seller.token)).json
    assert (rented["status"], rented["closed_at"] is None) == ("rented", False)
    assert (await api.get(f"/properties/{before['Flat 2']}", token=seller.token)).status == 404
    # What is gone has left its name to others.
    assert counts(await imported(api, seller, sheet([a_row(title="New", reference="R-2")])))[:2] == ("finished", 1)


async def test_a_reference_is_the_sellers_own(api: Api, people: People) -> None:
    one, other = await people.agent(), await people.agent()
    content = sheet([a_row(reference="A-1")])
    for seller in (one, other):
        assert counts(await imported(api, seller, content)) == ("finished", 1, 0, 0, 0)
    theirs = (await mine(api, other))[0]["id"]
    change = sheet([{"kind": "property", "reference": theirs, "title": "Mine now", "price": 1, "city": "x"}])
    refused = await imported(api, one, change)
    assert counts(refused)[4] == 1, "an id of another's listing is a name like any other"
    assert (await mine(api, other))[0]["title"] == a_property()["title"]


async def test_rows_that_are_wrong_are_told_one_by_one_and_stop_nothing(api: Api, people: People) -> None:
    seller = await people.agent()
    wrong: list[dict[str, Any]] = [
        a_row(latitude=91, longitude=38),
        a_row(price="10^30"),
        a_row(property_type="castle", title=""),
        a_row(year_built=3000),
        a_row(kind="boat"),
        a_row(kind="vehicle"),
        a_row(status="sold"),
        a_row(reference="R-9", status="deleted"),
        a_row(title="%" * 201),
        a_row(brand="Toyota"),
    ]
    done = await imported(api, seller, sheet([*rows(10), *wrong, *rows(10)]))
    assert counts(done) == ("finished", 20, 0, 0, len(wrong))
    found = await errors_of(api, seller, done["id"])
    assert {(line, pointer) for line, pointer, _ in found if line < 17} == {
        (12, "/latitude"),
        (13, "/price"),
        (14, "/title"),
        (14, "/property_type"),
        (15, "/year_built"),
        (16, "/kind"),
    }
    assert {line for line, _, _ in found} == set(range(12, 12 + len(wrong)))
    assert (18, "/status", "literal_error") in found
    assert (19, "/reference", "unknown-reference") in found
    assert (21, "/brand", "extra_forbidden") in found
    told = await api.get(f"/imports/{done['id']}/errors?skip=1&limit=1", token=seller.token)
    assert told.headers["X-Total-Count"] == str(len(found))
    assert [one["line"] for one in told.json] == [13]
    assert 'rel="next"' in told.headers["Link"]
    assert told.json[0]["detail"]


async def test_nobody_is_made_owner_and_nothing_counted_by_a_row(api: Api, people: People) -> None:
    seller, other = await people.agent(), await people.agent()
    said = [
        a_row(**more)
        for more in (
            {"user_id": str(other.id)},
            {"owner_id": str(other.id)},
            {"id": str(uuid4())},
            {"view_count": 10},
            {"is_featured": True},
            {"agency_id": str(uuid4())},
            {"status": "expired"},
            {"a\x00b": 1},
            {"reference": "R\x00"},
            {"reference": "R" * 101},
            {"reference": 7},
        )
    ]
    done = await imported(api, seller, json_lines(said), "stock.jsonl", LINES)
    assert counts(done) == ("finished", 0, 0, 0, len(said))
    for column in ("user_id", "view_count"):
        refused = await send(api, seller.token, sheet([a_row(**{column: "1"})]))
        assert (refused.status, refused.json["code"]) == (422, "unusable-file")
        assert [one["pointer"] for one in refused.json["errors"]] == [f"/{column}"]


async def test_one_unit_is_offered_once_also_by_a_file(api: Api, people: People) -> None:
    seller = await people.agent()
    await api.post("/properties", json=a_property(unit="House 12"), token=seller.token)
    said = [
        a_row(unit="House 12"),
        a_row(unit="house-13", reference="R-13"),
        a_row(unit="House 13"),
        a_row(unit="House 14", reference="R-14"),
    ]
    done = await imported(api, seller, sheet(said))
    assert counts(done) == ("finished", 2, 0, 0, 2)
    taken = [(2, "", "unit-on-offer"), (4, "", "unit-on-offer")]
    assert await errors_of(api, seller, done["id"]) == taken
    change: list[dict[str, Any]] = [
        {"kind": "property", "reference": "R-14", "unit": "House 12", "price": 1},
        {"kind": "property", "reference": "R-13", "price": 42000},
    ]
    done = await imported(api, seller, sheet(change))
    assert counts(done) == ("finished", 0, 1, 0, 1), "a change refused undoes no other"
    assert await errors_of(api, seller, done["id"]) == [(2, "", "unit-on-offer")]
    assert sorted(one["price"] for one in await mine(api, seller)) == [42000, 45000, 45000]


async def test_a_change_is_what_its_owner_might_do(api: Api, people: People) -> None:
    seller = await people.agent()
    await imported(api, seller, sheet([a_row(reference="R-1"), {"kind": "vehicle", **a_vehicle(), "reference": "R-2"}]))
    change: list[dict[str, Any]] = [
        {"kind": "property", "reference": "R-1", "status": "draft"},
        {"kind": "property", "reference": "R-2", "price": 1},
        {"kind": "property", "reference": "R-1", "title": ""},
        {"kind": "property", "reference": "R-1", "status": "active"},
    ]
    done = await imported(api, seller, sheet(change))
    assert counts(done) == ("finished", 0, 2, 0, 2)
    assert await errors_of(api, seller, done["id"]) == [
        (2, "", "status-not-possible"),
        (3, "/kind", "other-kind"),
    ]


# What is sent


async def test_the_same_file_within_a_day_is_the_same_import(api: Api, people: People) -> None:
    seller, other = await people.agent(), await people.agent()
    content = sheet(rows(3))
    first = await imported(api, seller, content)
    again = await send(api, seller.token, content, "copy.csv")
    assert (again.status, again.json["id"]) == (202, first["id"])
    assert len(await mine(api, seller)) == 3
    assert (await imported(api, other, content))["id"] != first["id"]
    assert len((await api.get("/imports", token=seller.token)).json) == 1


async def test_of_the_same_file_sent_twice_at_once_one_is_imported(api: Api, second_node: Node, people: People) -> None:
    seller = await people.agent()
    content = sheet(rows(150))
    first, second = await asyncio.gather(send(api, seller.token, content), send(second_node.api, seller.token, content))
    assert first.json["id"] == second.json["id"]
    assert counts(await ended(api, seller.token, first.json["id"])) == ("finished", 150, 0, 0, 0)


@pytest.mark.parametrize(
    ("content", "name", "kind", "status", "code"),
    [
        (b"kind,title\n", "stock.xlsx", "application/octet-stream", 422, "unknown-format"),
        (b"PK\x03\x04", "stock.csv", CSV, 422, "unusable-file"),
        (b"", "stock.csv", CSV, 422, "unusable-file"),
        (b"kind,titel\n", "stock.csv", CSV, 422, "unusable-file"),
        (b"[{}]", "stock.jsonl", LINES, 422, "unusable-file"),
    ],
)
async def test_what_cannot_be_read_is_refused_at_once_and_nothing_is_kept(
    api: Api, node: Node, people: People, content: bytes, name: str, kind: str, status: int, code: str
) -> None:
    seller = await people.agent()
    refused = await send(api, seller.token, content, name, kind)
    assert (refused.status, refused.json["code"]) == (status, code)
    assert await node.process.db.records("select 1 from imports where owner_id = $1", [seller.id]) == []


async def test_one_request_brings_one_file(api: Api, node: Node, people: People) -> None:
    seller = await people.agent()
    file = (sheet(rows(2)), "stock.csv", CSV)
    refused = await api.post("/imports", data=form(file, file), token=seller.token)
    assert (refused.status, refused.json["code"]) == (413, "file-too-large")
    refused = await api.post("/imports", data=sheet(rows(2)), headers={"Content-Type": CSV}, token=seller.token)
    assert refused.json["code"] == "not-multipart"
    assert await node.process.db.records("select 1 from imports where owner_id = $1", [seller.id]) == []


async def test_an_upload_that_breaks_off_leaves_nothing(api: Api, node: Node, people: People) -> None:
    seller = await people.agent()
    host, port = api.base.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /api/v1/imports HTTP/1.1\r\nHost: k2k\r\nAuthorization: Bearer {seller.token}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\nContent-Type: text/csv\r\n\r\n'
    )
    writer.write(head.encode() + sheet(rows(10_000)))
    db = node.process.db

    async def parts() -> int:
        text = "select count(*) from import_parts join imports on imports.id = import_id where owner_id = $1"
        return int((await db.records(text, [seller.id]))[0][0])

    async def coming() -> bool:
        return await parts() > 1

    async def gone() -> bool:
        return await db.records("select 1 from imports where owner_id = $1", [seller.id]) == []

    await eventually(coming)
    assert (await api.get("/imports", token=seller.token)).json == []
    writer.transport.abort()
    await eventually(gone)
    assert await parts() == 0


async def test_imports_are_for_those_who_may_offer_and_seen_by_their_owner(api: Api, people: People) -> None:
    buyer, seller, other = await people.buyer(), await people.agent(), await people.agent()
    assert (await send(api, buyer.token, sheet(rows(1)))).status == 403
    done = await imported(api, seller, sheet(rows(1)))
    for method, path in (("GET", ""), ("GET", "/errors"), ("DELETE", "")):
        hidden = await api.request(method, f"/imports/{done['id']}{path}", token=other.token)
        assert (hidden.status, hidden.json["code"]) == (404, "import-not-found")


async def test_the_template_can_be_sent_as_it_is(api: Api, people: People) -> None:
    seller = await people.agent()
    for kind in ("property", "vehicle"):
        answer = await api.get(f"/imports/template?kind={kind}", token=seller.token)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/csv")
        assert f'filename="{kind}.csv"' in answer.headers["Content-Disposition"]
        # The second one has the reference of the first, and another kind.
        content = answer.raw.replace(b"K-1042", kind.encode())
        assert counts(await imported(api, seller, content)) == ("finished", 1, 0, 0, 0)


# Progress


async def test_the_owner_hears_how_far_it_is_and_that_is_what_a_fetch_answers(
    api: Api, node: Node, people: People
) -> None:
    seller = await people.agent()
    async with node.live(seller.token) as live:
        content = sheet([*rows(350), a_row(price="much"), *rows(50)])
        import_id = (await send(api, seller.token, content)).json["id"]
        heard = [await live.event()]
        while heard[-1]["type"] != "import.finished":
            heard.append(await live.event())
        fresh = (await api.get(f"/imports/{import_id}", token=seller.token)).json
        assert await live.rpc("import.get", import_id=import_id) == fresh
        assert await live.rpc("import.list") == [fresh]
        assert [one["line"] for one in await live.rpc("import.errors", import_id=import_id)] == [352]
    told = [event["data"] for event in heard]
    assert {event["type"] for event in heard[:-1]} == {"import.progress"}
    assert {one["import_id"] for one in told} == {import_id}
    percents = [one["percent"] for one in told]
    assert percents == sorted(set(percents)), "each percent once"
    assert [one["state"] for one in told] == ["running"] * (len(told) - 1) + ["finished"]
    assert (told[-1]["rows"], told[-1]["failed"]) == (401, 1)
    # The state and the events after it are what a fresh fetch answers.
    shown: dict[str, Any] = {}
    for one in told:
        shown |= one
    assert {name: fresh[name] for name in ("state", "rows", "failed", "percent")} == {
        name: shown[name] for name in ("state", "rows", "failed", "percent")
    }


# Chunk by chunk, without a serving process


async def step(workplace: Workplace, import_id: ImportId, rows: int = 10, number: int = 1, **settings: Any) -> None:
    """Do the next chunk."""
    row = await stands(workplace.db, import_id)
    job = ImportChunk(import_id=import_id, owner_id=row["owner_id"], at=row["next_byte"], rows=rows)
    changed = workplace.settings.listings.model_copy(update=settings)
    await importing(workplace.db, changed)(job, Attempt(1, workplace.db.clock.now(), number))


async def waits_for(db: Db, tx: Tx) -> bool:
    """Whether somebody waits for this transaction."""
    ((pid,),) = await tx.records("select pg_backend_pid()", [])
    return bool(await db.records("select 1 from pg_stat_activity where $1 = any (pg_blocking_pids(pid))", [pid]))


async def forgotten(db: Db, import_id: ImportId) -> None:
    async with db.transaction() as tx:
        await store.forget_imports(tx, [import_id])


async def test_each_chunk_goes_on_where_the_last_one_ended(workplace: Workplace) -> None:
    owner = await a_seller(workplace.db)
    import_id = await brought(workplace.db, owner, sheet(rows(25)))
    seen = []
    for _ in range(3):
        await step(workplace, import_id, rows=10)
        row = await stands(workplace.db, import_id)
        seen.append((row["state"], row["rows"], row["next_line"]))
    assert seen == [("running", 10, 12), ("running", 20, 22), ("finished", 25, 27)]
    assert await workplace.db.records("select 1 from import_parts where import_id = $1", [import_id]) == []
    assert len(await titles(workplace.db, owner)) == 25


async def test_a_chunk_done_again_does_nothing(workplace: Workplace) -> None:
    owner = await a_seller(workplace.db)
    import_id = await brought(workplace.db, owner, sheet(rows(25)))
    start = (await stands(workplace.db, import_id))["next_byte"]
    job = ImportChunk(import_id=import_id, owner_id=owner, at=start, rows=10)
    handle = importing(workplace.db, workplace.settings.listings)
    attempt = Attempt(1, workplace.db.clock.now(), 1)
    await asyncio.gather(*(handle(job, attempt) for _ in range(3)))
    assert len(await titles(workplace.db, owner)) == 10


async def test_a_chunk_that_failed_is_tried_with_half_the_rows(workplace: Workplace) -> None:
    owner = await a_seller(workplace.db)
    import_id = await brought(workplace.db, owner, sheet(rows(25)))
    for number, done in ((2, 5), (3, 7), (9, 8)):
        await step(workplace, import_id, rows=10, number=number)
        assert (await stands(workplace.db, import_id))["rows"] == done


async def test_the_posting_interval_does_not_hold_for_files(workplace: Workplace) -> None:
    owner = await a_seller(workplace.db)
    import_id = await brought(workplace.db, owner, sheet(rows(5)))
    await step(workplace, import_id, posting_seconds=3600)
    assert (await stands(workplace.db, import_id))["created"] == 5


async def test_what_is_imported_waits_for_review_where_reviews_are_on(workplace: Workplace) -> None:
    owner = await a_seller(workplace.db)
    import_id = await brought(workplace.db, owner, sheet(rows(5)))
    await step(workplace, import_id, review=True)
    found = await workplace.db.records("select distinct status from listings where owner_id = $1", [owner])
    assert [row["status"] for row in found] == ["pending_review"]


async def test_who_may_no_longer_offer_imports_nothing_more(workplace: Workplace) -> None:
    owner = await a_seller(workplace.db)
    import_id = await brought(workplace.db, owner, sheet(rows(25)))
    await step(workplace, import_id)
    async with workplace.db.transaction() as tx:
        await accounts.become(tx, owner, Role.buyer)
    await step(workplace, import_id)
    row = await stands(workplace.db, import_id)
    assert (row["state"], row["reason"], row["rows"]) == ("failed", "denied", 10)
    assert len(await titles(workplace.db, owner)) == 10


async def test_who_joins_an_agency_meanwhile_imports_for_it_from_then_on(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    import_id = await brought(db, owner, sheet(rows(20)))
    await step(workplace, import_id)
    async with db.transaction() as tx:
        await agents.open_profile(tx, owner, ProfileDraft(display_name="Selam"))
        agency = await agents.found_agency(tx, owner, AgencyDraft(name="Bole Homes", city="Addis Ababa"))
    await step(workplace, import_id)
    found = await db.records(
        "select agency_id, count(*) from listings where owner_id = $1 group by 1 order by 1", [owner]
    )
    assert [tuple(row) for row in found] == [(agency, 10), (None, 10)]


async def test_a_cancelled_import_stops_where_it_is(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    import_id = await brought(db, owner, sheet(rows(25)))
    await step(workplace, import_id)
    async with db.transaction() as tx:
        body = json.loads(await service.cancel(tx, import_id, owner))
    assert (body["state"], body["rows"]) == ("cancelled", 10)
    await step(workplace, import_id)
    assert len(await titles(db, owner)) == 10
    assert await db.records("select 1 from import_parts where import_id = $1", [import_id]) == []
    async with db.transaction() as tx:
        assert json.loads(await service.cancel(tx, import_id, owner)) == body, "once more is as good as once"
    again = await brought(db, owner, sheet(rows(25)))
    assert again != import_id, "what was cancelled may be sent again"


async def test_a_thousand_errors_are_kept_and_the_rest_is_counted(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    import_id = await brought(db, owner, sheet(rows(1200, price="much")))
    while (await stands(db, import_id))["state"] == "running":
        await step(workplace, import_id, rows=300)
    row = await stands(db, import_id)
    assert (row["state"], row["failed"], row["errors"]) == ("finished", 1200, chunks.ERRORS_KEPT)
    kept = await db.records("select count(*), max(line) from import_errors where import_id = $1", [import_id])
    assert tuple(kept[0]) == (1000, 1001)


@pytest.mark.parametrize("wrong", ['"\\u0000": 1, "\\u0000": 2', '"\\u0000": 1'])
async def test_a_row_with_names_that_cannot_be_stored_costs_itself(workplace: Workplace, wrong: str) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    content = json_lines(rows(1)) + b'{"kind": "property", ' + wrong.encode() + b"}\n"
    import_id = await brought(db, owner, content, "stock.jsonl")
    await step(workplace, import_id)
    row = await stands(db, import_id)
    assert (row["state"], row["created"], row["failed"]) == ("finished", 1, 1)
    (kept, *_) = await db.records(
        "select line, pointer || detail as said from import_errors where import_id = $1", [import_id]
    )
    assert kept["line"] == 2
    assert "\N{REPLACEMENT CHARACTER}" in kept["said"]


async def test_a_file_of_open_quotes_is_given_up(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    flat = sheet([a_row()])
    import_id = await brought(db, owner, flat + b'property,"Open\n' * 50_000)
    while (await stands(db, import_id))["state"] == "running":
        await step(workplace, import_id, rows=50)
    row = await stands(db, import_id)
    assert (row["state"], row["reason"], row["created"]) == ("failed", "unreadable", 1)
    assert row["torn"] <= 150


async def test_megabytes_behind_an_open_quote_and_rows_without_end_cost_one_row_each(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    good = sheet(rows(3)).split(b"\n", 1)[1]
    content = sheet([a_row()]) + b'property,"Open\n' + good + b"property," + b"x" * 3_000_000 + b"\n" + good
    import_id = await brought(db, owner, content)
    while (await stands(db, import_id))["state"] == "running":
        await step(workplace, import_id, rows=50)
    row = await stands(db, import_id)
    assert (row["state"], row["created"], row["failed"]) == ("finished", 7, 2)


async def test_three_of_a_person_are_under_way_at_most(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    for number in range(service.UNDER_WAY):
        await brought(db, owner, sheet(rows(number + 1)))
    with pytest.raises(TooManyImports):
        await brought(db, owner, sheet(rows(9)))


async def test_an_import_that_may_run_is_not_forgotten(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning was committed, and nobody heard so."""
    owner, db, run = await a_seller(workplace.db), workplace.db, service._run

    async def unheard(*arguments: Any) -> ImportId:
        await run(*arguments)
        raise OutcomeUnknown

    monkeypatch.setattr(service, "_run", unheard)
    with pytest.raises(OutcomeUnknown):
        await brought(db, owner, sheet(rows(3)))
    ((import_id,),) = await db.records("select id from imports where owner_id = $1", [owner])
    await step(workplace, import_id)
    assert (await stands(db, import_id))["state"] == "finished"


async def test_what_is_forgotten_waits_for_the_part_that_is_being_stored(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    import_id = await brought(db, owner, sheet(rows(3)))
    await db.records("update imports set state = 'receiving', sha256 = null where id = $1", [import_id])
    async with db.transaction() as tx:
        await store.add_part(tx, import_id, 1, b"more")
        forgetting = asyncio.create_task(forgotten(db, import_id))
        await eventually(lambda: waits_for(db, tx))
    await forgetting
    assert await db.records("select 1 from imports where owner_id = $1", [owner]) == []


async def test_what_went_wrong_first_is_what_is_told(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await a_seller(workplace.db)

    def failing(error: Exception) -> Any:
        async def fail(*_: object) -> None:
            raise error

        return fail

    monkeypatch.setattr(store, "forget_imports", failing(ForeignKeyViolationError()))
    monkeypatch.setattr(store, "run_import", failing(OutcomeUnknown()))
    with pytest.raises(OutcomeUnknown):
        await brought(workplace.db, owner, sheet(rows(3)))


async def test_a_chunk_holds_what_it_changes_in_the_order_of_ids(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    await step(workplace, await brought(db, owner, sheet(rows(2))))
    made = [row["id"] for row in await db.records("select id from listings where owner_id = $1 order by id", [owner])]
    changes = [a_row(title=f"Changed {place}", reference=str(listing)) for place, listing in enumerate(made)]
    import_id = await brought(db, owner, sheet(reversed(changes)))
    async with db.transaction() as tx:
        await tx.records("select 1 from listings where id = $1 for update", [made[0]])
        working = asyncio.create_task(step(workplace, import_id))
        await eventually(lambda: waits_for(db, tx))
        await tx.records("select 1 from listings where id = $1 for update nowait", [made[1]])
    await working
    assert await titles(db, owner) == ["Changed 0", "Changed 1"]


async def test_what_never_came_in_whole_and_what_ended_long_ago_is_forgotten(workplace: Workplace) -> None:
    owner, db = await a_seller(workplace.db), workplace.db
    old, running, coming = [await brought(db, owner, sheet(rows(n))) for n in (1, 2, 3)]
    await step(workplace, old)
    async with db.transaction() as tx:
        await tx.records("update imports set ended_at = now() - interval '91 days' where id = $1", [old])
        await tx.records(
            "update imports set state = 'receiving', sha256 = null, created_at = now() - interval '16 minutes' "
            "where id = $1",
            [coming],
        )
    await service.forget_old(db)
    left = await db.records("select id from imports where owner_id = $1", [owner])
    assert [row["id"] for row in left] == [running]
    assert len(await titles(db, owner)) == 1, "listings stay"


async def test_a_worker_goes_through_a_file_by_itself(workplace: Workplace) -> None:
    owner = await a_seller(workplace.db)
    import_id = await brought(workplace.db, owner, sheet(rows(450)))
    for _ in range(2):
        worker = workplace.worker()
        worker.bind(ImportChunk, importing(workplace.db, workplace.settings.listings))
        worker.bind(InspectListing, inspecting(workplace.db))
        await worker.start()
    row = await settled(workplace.db, import_id)
    assert (row["state"], row["created"]) == ("finished", 450)
    assert sorted(await titles(workplace.db, owner)) == sorted(f"Flat {number}" for number in range(450))
    await eventually(workplace.empty, seconds=120)  # each listing is looked at by itself
