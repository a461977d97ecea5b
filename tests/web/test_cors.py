"""Pages of the origins in the settings may call the API and read every answer; pages of no other origin may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from k2k.app import OPERATIONS
from k2k.core.settings import Settings
from k2k.live.door import PATH
from tests.support import PREFIX, Live, Node

OURS = "https://key2key.example"
DESK = "http://localhost:5173"
FOREIGN = [
    "https://evil.example",
    "null",
    "",
    "*",
    OURS.upper(),
    "https://Key2Key.example",
    OURS + ".evil.example",
    OURS + ":443",
    OURS + ":8443",
    OURS + "/",
    OURS + " " + DESK,
    f"{OURS}, {DESK}",
    "http://key2key.example",
    "https://evilkey2key.example",
    "https://www.key2key.example",
    "https://key2key.example@evil.example",
    "http://localhost",
    "file://",
]


@pytest.fixture(scope="module")
async def house(settings: Settings) -> AsyncIterator[Node]:
    changes = {
        "server": settings.server.model_copy(update={"origins": (OURS, DESK)}),
        "limits": settings.limits.model_copy(update={"enabled": True, "address_per_minute": 1000}),
        "redis": settings.redis.model_copy(update={"prefix": settings.redis.prefix + "-cors"}),
    }
    node = await Node.start(settings.model_copy(update=changes))
    yield node
    await node.stop()


Headers = CIMultiDictProxy[str]


async def asked(node: Node, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Headers, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, node.api.base + path, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def preflight(method: str, *headers: str) -> dict[str, str]:
    asked = {"Access-Control-Request-Method": method}
    return asked | ({"Access-Control-Request-Headers": ", ".join(headers)} if headers else {})


def access(headers: Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith("access-control-")}


def names(listed: str) -> set[str]:
    return {name.strip().lower() for name in listed.split(",")}


def readable(headers: Headers, origin: str) -> None:
    """A page of this origin may read the answer, and a cache keeps the answers to others apart."""
    assert headers.getall("Access-Control-Allow-Origin") == [origin]
    assert "x-request-id" in names(headers["Access-Control-Expose-Headers"])
    assert "Access-Control-Allow-Credentials" not in headers
    varies(headers)


def varies(headers: Headers) -> None:
    told = [name.strip() for line in headers.getall("Vary") for name in line.split(",")]
    assert "Origin" in told
    assert len(told) == len(set(told))
    assert "*" not in told


@pytest.mark.parametrize("origin", [OURS, DESK])
async def test_a_page_of_ours_may_read_answers_and_refusals(
    house: Node, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    for method, path, expected in (
        ("GET", f"{PREFIX}/properties", 200),
        ("HEAD", f"{PREFIX}/properties", 200),
        ("GET", f"{PREFIX}/auth/me", 401),
        ("GET", f"{PREFIX}/nowhere", 404),
        ("PATCH", f"{PREFIX}/properties", 405),
        ("POST", f"{PREFIX}/auth/login", 415),
        ("GET", f"{PREFIX}/properties?evil=1", 422),
        ("GET", f"{PREFIX}/openapi.json", 200),
        ("GET", "/docs/errors", 200),
        ("GET", "/health", 200),
        ("GET", PATH, 426),
    ):
        status, headers, _ = await asked(house, method, path, {"Origin": origin})
        assert (method, path, status) == (method, path, expected)
        readable(headers, origin)

    async def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(house.process.db, "records", broken)
    status, headers, _ = await asked(house, "GET", f"{PREFIX}/properties", {"Origin": origin})
    assert status == 500
    readable(headers, origin)


async def test_what_was_one_too_many_can_be_read_and_so_can_when_to_come_back(settings: Settings) -> None:
    changes = {
        "server": settings.server.model_copy(update={"origins": (OURS,)}),
        "limits": settings.limits.model_copy(update={"enabled": True, "address_per_minute": 1}),
        "redis": settings.redis.model_copy(update={"prefix": settings.redis.prefix + "-cors-429"}),
    }
    node = await Node.start(settings.model_copy(update=changes))
    try:
        answers = [await asked(node, "GET", f"{PREFIX}/properties", {"Origin": OURS}) for _ in range(2)]
    finally:
        await node.stop()
    assert [status for status, *_ in answers] == [200, 429]
    headers = answers[1][1]
    readable(headers, OURS)
    assert {"retry-after", "ratelimit"} <= names(headers["Access-Control-Expose-Headers"])
    assert "Retry-After" in headers


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_of_anybody_else_may_read_nothing(house: Node, origin: str) -> None:
    for method, path in (
        ("GET", f"{PREFIX}/properties"),
        ("GET", f"{PREFIX}/auth/me"),
        ("GET", f"{PREFIX}/nowhere"),
        ("POST", f"{PREFIX}/auth/login"),
        ("GET", "/health"),
    ):
        _, headers, _ = await asked(house, method, path, {"Origin": origin})
        assert access(headers) == {}
        varies(headers)
        status, headers, _ = await asked(house, "OPTIONS", path, {"Origin": origin, **preflight("POST")})
        assert status in (404, 405)
        assert access(headers) == {}
        varies(headers)


async def test_two_origins_in_one_request_are_none(house: Node) -> None:
    async with aiohttp.ClientSession() as session:
        both = [("Origin", "https://evil.example"), ("Origin", OURS)]
        async with session.get(f"{house.api.base}{PREFIX}/properties", headers=both) as answer:
            assert access(answer.headers) == {}


@pytest.mark.parametrize("path", [f"{PREFIX}/properties", f"{PREFIX}/nowhere", "/anything", PATH])
async def test_a_page_of_ours_may_ask_first_whatever_the_address(house: Node, path: str) -> None:
    """So that the request itself comes and its refusal can be read."""
    wish = preflight("DELETE", "authorization", "content-type", "idempotency-key")
    status, headers, body = await asked(house, "OPTIONS", path, {"Origin": OURS, **wish})
    assert (status, body) == (204, b"")
    readable(headers, OURS)
    assert names(headers["Access-Control-Allow-Methods"]) >= {one.method.lower() for one in OPERATIONS} | {"head"}
    assert names(headers["Access-Control-Allow-Headers"]) >= {"authorization", "content-type", "idempotency-key"}
    assert "Content-Length" not in headers


@pytest.mark.parametrize(
    ("method", "header"), [("TRACE", "authorization"), ("POST", "cookie"), ("POST", "x-forwarded-for"), ("PATCH", "*")]
)
async def test_what_no_page_may_send_is_not_among_what_it_may(house: Node, method: str, header: str) -> None:
    """The browser compares; the lists are the same whatever is asked."""
    _, headers, _ = await asked(house, "OPTIONS", f"{PREFIX}/leads", {"Origin": OURS, **preflight(method, header)})
    assert not {"trace", "connect", "*"} & names(headers["Access-Control-Allow-Methods"])
    assert not {"cookie", "x-forwarded-for", "*"} & names(headers["Access-Control-Allow-Headers"])


async def test_an_options_that_asks_for_nothing_is_no_preflight(house: Node) -> None:
    status, headers, _ = await asked(house, "OPTIONS", f"{PREFIX}/properties", {"Origin": OURS})
    assert status == 405
    readable(headers, OURS)


async def test_without_origins_in_the_settings_there_is_no_word_of_them(node: Node) -> None:
    for origin in (OURS, node.api.base, "null"):
        _, headers, _ = await asked(node, "GET", f"{PREFIX}/properties", {"Origin": origin})
        assert access(headers) == {}
        assert "Origin" not in ", ".join(headers.getall("Vary", ()))


async def test_a_page_of_ours_may_open_a_socket(house: Node) -> None:
    async with Live.open(house.api.base, headers={"Origin": OURS}) as live:
        assert live.socket._response.status == 101
        varies(live.socket._response.headers)


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_of_anybody_else_may_not(house: Node, origin: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(house.api.base + PATH, headers={"Origin": origin})
    assert refused.value.status == 403
