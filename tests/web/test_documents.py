"""What clients' developers read: served once made, kept in docs/, and never behind the code."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import aiohttp
import pytest

from k2k.app import LIVE, OPERATIONS
from k2k.features.leads.errors import LeadTaken
from k2k.ops.call import Call
from k2k.ops.catalogue import all_errors
from k2k.ops.permissions import Permission
from k2k.ops.registry import Routes
from k2k.web import documents, error_pages
from tests.contract import ASYNC_DOCUMENT, DOCUMENT
from tests.support import ROOT, Api


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json", "errors.md", "live.md"])
def test_the_kept_document_is_of_today(name: str) -> None:
    kept = (ROOT / "docs" / name).read_text(encoding="utf-8")
    made = documents.files(OPERATIONS, LIVE, (ROOT / "docs/live.md").read_text(encoding="utf-8"))
    assert kept == made[name], f"docs/{name} is out of date: run `make openapi` and commit it"


async def fetched(api: Api, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
    async with aiohttp.ClientSession() as session, session.get(api.base + path, headers=headers) as answer:
        return answer, await answer.read()


@pytest.mark.parametrize(("name", "document"), [("openapi.json", DOCUMENT), ("asyncapi.json", ASYNC_DOCUMENT)])
async def test_the_document_is_served_compact(api: Api, name: str, document: dict[str, Any]) -> None:
    answer, raw = await fetched(api, f"/api/v1/{name}")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(raw) == document
    assert b"\n" not in raw


@pytest.mark.parametrize("path", ["/api/v1/openapi.json", "/api/v1/asyncapi.json", "/docs/errors"])
async def test_who_has_it_already_is_not_sent_it_again(api: Api, path: str) -> None:
    answer, raw = await fetched(api, path)
    tag = answer.headers["ETag"]
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again, nothing = await fetched(api, path, **{"If-None-Match": known})
        assert (again.status, again.headers["ETag"], nothing) == (304, tag, b"")
    for unknown in ('"other"', "nonsense"):
        again, whole = await fetched(api, path, **{"If-None-Match": unknown})
        assert (again.status, whole) == (200, raw)
    assert (await fetched(api, path + "/"))[1] == raw


class Page(HTMLParser):
    """The anchors and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.anchors += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name == "href" and value]


async def test_the_type_of_every_problem_leads_to_its_meaning(api: Api) -> None:
    missing = (await api.get("/nowhere")).json
    address, anchor = missing["type"].split("#")
    answer, raw = await fetched(api, address)
    page = Page(raw.decode())
    assert (answer.status, answer.content_type, answer.charset) == (200, "text/html", "utf-8")
    assert anchor in page.anchors
    assert page.anchors == [error.code for error in all_errors()]
    assert {link for link in page.links if link.removeprefix("#") not in page.anchors} == set()
    assert "script" not in page.tags


async def test_the_page_loads_nothing_but_its_own_style(api: Api) -> None:
    answer, raw = await fetched(api, "/docs/errors")
    found = re.search("<style>(.*?)</style>", raw.decode(), re.DOTALL)
    assert found is not None
    own = b64encode(sha256(found[1].encode()).digest()).decode()
    assert answer.headers["Content-Security-Policy"] == f"default-src 'none'; style-src 'sha256-{own}'"


def test_what_the_page_tells_is_text_and_no_markup() -> None:
    routes = Routes("things")

    async def get_thing(call: Call) -> str:
        raise NotImplementedError

    routes.get("/<script>alert(1)</script>", may=Permission.chat, raises=(LeadTaken,))(get_thing)
    routes.get("/harmless", may=Permission.chat)(get_thing)
    page = error_pages.page(routes.operations)
    assert "&lt;script&gt;" in page
    assert "script" not in Page(page).tags
