"""Becoming an agent, being found as one, and working for an agency."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from k2k.core.ids import AgencyId, UserId
from k2k.features.agents import service
from k2k.features.agents.models import Agency, Agent
from k2k.ops.paging import Page
from tests.support import Api, Node, People


def profile(**more: Any) -> dict[str, Any]:
    return {"display_name": "Selam Tesfaye", **more}


def agency(**more: Any) -> dict[str, Any]:
    return {"name": "Bole Homes", "city": "Addis Ababa", **more}


def a_license() -> str:
    return f"AA/{uuid4().hex}"


async def test_a_buyer_becomes_an_agent_and_may_act_as_one_at_once(api: Api, people: People) -> None:
    person = await people.buyer()
    refused = await api.put("/agents/profile", json={"bio": "…"}, token=person.token)
    assert refused.status == 403
    opened = await api.post("/agents/profile", json=profile(bio="ቤት ለሚፈልጉ"), token=person.token)
    assert opened.status == 201
    assert opened.headers["Location"] == f"/api/v1/agents/{opened.json['id']}"
    assert opened.json["user_id"] == str(person.id)
    changed = await api.put("/agents/profile", json={"company_name": "Selam Homes"}, token=person.token)
    assert changed.status == 200
    assert (await api.get("/auth/me", token=person.token)).json["role"] == "agent"


async def test_a_profile_is_the_same_wherever_it_is_read(api: Api, people: People) -> None:
    person = await people.buyer()
    wish = profile(
        company_name="Selam Homes",
        license=a_license(),
        specializations=["Bole", "ኪራይ"],
        bio="Twelve years in Bole",
        website="https://selam.example/",
        facebook="https://facebook.com/selam",
        twitter="https://twitter.com/selam",
        linkedin="https://linkedin.com/in/selam",
        contact_phone="+251911223344",
        contact_email="office@selam.example",
        country="KE",
    )
    opened = (await api.post("/agents/profile", json=wish, token=person.token)).json
    assert set(opened) == set(Agent.model_fields)
    assert {name: opened[name] for name in wish} == wish
    assert (opened["rating"], opened["review_count"], opened["properties_sold"]) == (0, 0, 0)
    assert (opened["agency_id"], opened["agency_role"]) == (None, None)
    assert (await api.get(f"/agents/{opened['id']}")).json == opened
    assert opened in (await api.get("/agents")).json


async def test_the_account_s_address_stays_private(api: Api, people: People) -> None:
    person = await people.buyer()
    opened = await api.post("/agents/profile", json=profile(), token=person.token)
    public = await api.get(f"/agents/{opened.json['id']}")
    assert public.json["contact_email"] is None
    assert person.email not in str(public.json)


async def test_a_person_has_one_profile(api: Api, people: People) -> None:
    person = await people.buyer()
    both = [api.post("/agents/profile", json=profile(), token=person.token) for _ in range(2)]
    assert sorted(answer.status for answer in await asyncio.gather(*both)) == [201, 409]
    again = await api.post("/agents/profile", json=profile(), token=person.token)
    assert (again.status, again.json["code"]) == (409, "profile-exists")


async def test_a_license_belongs_to_one_agent(api: Api, people: People) -> None:
    first, second = await people.buyer(), await people.buyer()
    wish = profile(license=a_license())
    assert (await api.post("/agents/profile", json=wish, token=first.token)).status == 201
    taken = await api.post("/agents/profile", json=wish, token=second.token)
    assert (taken.status, taken.json["code"]) == (409, "license-taken")
    assert (await api.get("/auth/me", token=second.token)).json["role"] == "buyer"
    assert (await api.post("/agents/profile", json=profile(), token=second.token)).status == 201
    taken = await api.put("/agents/profile", json={"license": wish["license"]}, token=second.token)
    assert (taken.status, taken.json["code"]) == (409, "license-taken")
    kept = await api.put("/agents/profile", json={"license": wish["license"]}, token=first.token)
    assert kept.json["license"] == wish["license"]


async def test_only_what_is_sent_changes_and_null_clears(api: Api, people: People) -> None:
    person = await people.buyer()
    wish = profile(bio="Houses", license=a_license(), specializations=["Bole"], contact_phone="+251911223344")
    opened = (await api.post("/agents/profile", json=wish, token=person.token)).json
    sent: dict[str, Any] = {"display_name": "  Selam T. ", "bio": None, "specializations": []}
    changed = (await api.put("/agents/profile", json=sent, token=person.token)).json
    expected: dict[str, Any] = {"display_name": "Selam T.", "bio": None, "specializations": []}
    assert changed == opened | expected | {"updated_at": changed["updated_at"]}
    assert changed["updated_at"] > opened["updated_at"]
    assert (await api.get(f"/agents/{opened['id']}")).json == changed


@pytest.mark.parametrize("name", ["display_name", "specializations", "country"])
async def test_what_every_profile_has_cannot_be_cleared(api: Api, people: People, name: str) -> None:
    refused = await api.put("/agents/profile", json={name: None}, token=(await people.agent()).token)
    assert refused.status == 422
    assert refused.json["errors"][0]["pointer"] == f"/{name}"


FAULTS = [
    ("rating", 5),
    ("review_count", 100),
    ("properties_sold", 100),
    ("id", "0198f0f0-0000-7000-8000-000000000000"),
    ("user_id", "0198f0f0-0000-7000-8000-000000000000"),
    ("agency_id", "0198f0f0-0000-7000-8000-000000000000"),
    ("agency_role", "owner"),
    ("display_name", ""),
    ("display_name", "   "),
    ("display_name", 7),
    ("display_name", "x" * 201),
    ("display_name", "Selam\x00"),
    ("bio", "x" * 4001),
    ("license", ""),
    ("specializations", "Bole"),
    ("specializations", ["Bole"] * 21),
    ("website", "javascript:alert(1)"),
    ("website", "https:///nowhere"),
    ("facebook", "facebook.com/selam"),
    ("contact_phone", "0911223344"),
    ("contact_email", "selam"),
    ("country", "Ethiopia"),
]


@pytest.mark.parametrize(("name", "value"), FAULTS)
async def test_bad_profiles_are_refused(api: Api, people: People, name: str, value: object) -> None:
    wish = profile(**{name: value})
    opened = await api.post("/agents/profile", json=wish, token=(await people.buyer()).token)
    changed = await api.put("/agents/profile", json={name: value}, token=(await people.agent()).token)
    for refused in (opened, changed):
        assert refused.status == 422
        assert refused.json["errors"][0]["pointer"].startswith(f"/{name}")


async def test_a_profile_needs_a_name_and_a_person(api: Api, people: People) -> None:
    assert (await api.post("/agents/profile", json={}, token=(await people.buyer()).token)).status == 422
    assert (await api.post("/agents/profile", json=profile())).status == 401
    assert (await api.put("/agents/profile", json={})).status == 401


async def test_unknown_agents_are_not_found(api: Api) -> None:
    missing = await api.get(f"/agents/{uuid4()}")
    assert (missing.status, missing.json["code"], missing.json["detail"]) == (404, "agent-not-found", "Agent not found")
    assert (await api.get("/agents/selam")).status == 422


async def test_the_newest_agents_come_first(api: Api, people: People) -> None:
    before = int((await api.get("/agents", params={"limit": 1})).headers["X-Total-Count"])
    opened = []
    for _ in range(3):
        person = await people.buyer()
        opened.append((await api.post("/agents/profile", json=profile(), token=person.token)).json)
    newest = await api.get("/agents", params={"limit": 3})
    assert newest.json == opened[::-1]
    assert newest.headers["X-Total-Count"] == str(before + 3)
    assert "X-Total-Count-Relation" not in newest.headers
    assert (await api.get("/agents", params={"skip": 1, "limit": 1})).json == [opened[1]]
    assert (await api.get("/agents", params={"skip": 10_000})).json == []


@pytest.mark.parametrize(
    "query", [{"limit": 101}, {"limit": 0}, {"limit": "all"}, {"skip": -1}, {"skip": 10_001}, {"rating": 5}]
)
async def test_lists_have_their_limits(api: Api, query: dict[str, Any]) -> None:
    refused = await api.get("/agents", params=query)
    assert refused.status == 422
    assert refused.json["errors"][0]["pointer"] == f"/{next(iter(query))}"
    assert refused.json["errors"][0]["in"] == "query"


def test_totals_are_exact_to_ten_thousand() -> None:
    assert Page().headers("/agents", 10_000)["X-Total-Count"] == "10000"
    assert "X-Total-Count-Relation" not in Page().headers("/agents", 10_000)
    beyond = Page().headers("/agents", Page().count_to)
    assert (beyond["X-Total-Count"], beyond["X-Total-Count-Relation"]) == ("10000", "gte")


def test_links_lead_through_the_list_and_end_with_it() -> None:
    assert "Link" not in Page(limit=100).headers("/agents", 100)
    assert Page(limit=100).headers("/agents", 101)["Link"] == '</agents?skip=100&limit=100>; rel="next"'
    assert Page(skip=30, limit=50).headers("/agents", 80)["Link"] == '</agents?skip=0&limit=50>; rel="prev"'
    assert Page(skip=60, limit=50).headers("/agents", 111)["Link"] == (
        '</agents?skip=110&limit=50>; rel="next", </agents?skip=10&limit=50>; rel="prev"'
    )
    assert 'rel="next"' in Page(skip=9_900, limit=100).headers("/agents", 10_001)["Link"]
    assert 'rel="next"' not in Page(skip=10_000, limit=100).headers("/agents", 10_001)["Link"]


async def test_an_agent_founds_an_agency_and_owns_it(api: Api, people: People) -> None:
    owner = await people.agent()
    wish = agency(license=a_license(), country="KE")
    founded = await api.post("/agencies", json=wish, token=owner.token)
    assert founded.status == 201
    assert founded.headers["Location"] == f"/api/v1/agencies/{founded.json['id']}"
    assert set(founded.json) == set(Agency.model_fields)
    assert {name: founded.json[name] for name in wish} == wish
    (member,) = founded.json["members"]
    assert (member["user_id"], member["agency_role"]) == (str(owner.id), "owner")
    assert (await api.get(f"/agencies/{founded.json['id']}")).json == founded.json
    public = (await api.get(f"/agents/{member['id']}")).json
    assert (public["agency_id"], public["agency_role"]) == (founded.json["id"], "owner")


async def test_an_agent_has_one_agency(api: Api, people: People) -> None:
    owner = await people.agent()
    both = [api.post("/agencies", json=agency(), token=owner.token) for _ in range(2)]
    answers = await asyncio.gather(*both)
    assert sorted(answer.status for answer in answers) == [201, 409]
    assert next(answer for answer in answers if answer.status == 409).json["code"] == "already-in-agency"


async def test_an_agency_s_license_is_its_own(api: Api, people: People) -> None:
    first, second = await people.agent(), await people.agent()
    wish = agency(license=a_license())
    assert (await api.post("/agencies", json=wish, token=first.token)).status == 201
    taken = await api.post("/agencies", json=wish, token=second.token)
    assert (taken.status, taken.json["code"]) == (409, "license-taken")


async def test_only_agents_found_agencies(api: Api, people: People) -> None:
    assert (await api.post("/agencies", json=agency())).status == 401
    assert (await api.post("/agencies", json=agency(), token=(await people.buyer()).token)).status == 403


@pytest.mark.parametrize(
    ("name", "value"),
    [("name", ""), ("name", None), ("city", 1), ("license", "\x00"), ("country", "et"), ("members", []), ("id", "1")],
)
async def test_bad_agencies_are_refused(api: Api, people: People, name: str, value: object) -> None:
    wish = agency(**{name: value})
    refused = await api.post("/agencies", json=wish, token=(await people.agent()).token)
    assert refused.status == 422
    assert refused.json["errors"][0]["pointer"] == f"/{name}"


async def test_unknown_agencies_are_not_found(api: Api) -> None:
    missing = await api.get(f"/agencies/{uuid4()}")
    assert (missing.status, missing.json["code"]) == (404, "agency-not-found")
    assert (await api.get("/agencies/bole-homes")).status == 422


async def test_colleagues_stand_in_the_agency(api: Api, people: People, node: Node) -> None:
    owner = await people.agent()
    founded = (await api.post("/agencies", json=agency(), token=owner.token)).json
    home = AgencyId(UUID(founded["id"]))
    colleague = await people.agent(agency=home)
    shown = (await api.get(f"/agencies/{home}")).json["members"]
    assert [member["user_id"] for member in shown] == [str(owner.id), str(colleague.id)]
    assert await service.agency_agents(node.process.db, home) == [owner.id, colleague.id]
    assert await service.agency_of(node.process.db, UserId(colleague.id)) == home
    assert await service.agency_of(node.process.db, UserId((await people.buyer()).id)) is None
    elsewhere = await api.post("/agencies", json=agency(), token=colleague.token)
    assert (elsewhere.status, elsewhere.json["code"]) == (409, "already-in-agency")
