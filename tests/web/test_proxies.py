"""Who the client is: what the proxies of the settings say, and nothing that anybody else says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from structlog.testing import capture_logs

from k2k.core.settings import Settings
from k2k.live.door import PATH
from k2k.web.problems import REQUEST_ID
from k2k.web.proxy import behind
from tests.support import Live, Node, People

PROXIES = ("10.0.0.0/8", "fd00::/8")
PROXY = "10.0.0.1"
ID = "0123456789abcdef" * 2


async def believed(
    peer: str, *headers: tuple[str, str], proxies: Sequence[str] = PROXIES
) -> tuple[str | None, str, str | None]:
    """Address, scheme and request id of a request from `peer`, as handlers see it."""
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return web.Response()

    request = make_mocked_request("GET", "/", CIMultiDict(headers)).clone(remote=peer)
    await behind([ip_network(network) for network in proxies])(request, handler)
    return seen[0].remote, seen[0].scheme, seen[0].get(REQUEST_ID)


def forwarded(*lines: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", line) for line in lines]


@pytest.mark.parametrize("peer", ["203.0.113.7", "127.0.0.1", "::1", "::ffff:203.0.113.7", "2001:db8::1", "11.0.0.1"])
async def test_a_stranger_is_not_believed(peer: str) -> None:
    told = [*forwarded("198.51.100.1", PROXY), ("X-Forwarded-Proto", "https"), ("X-Request-ID", ID)]
    assert await believed(peer, *told) == (peer, "http", None)


async def test_where_no_proxy_is_named_nobody_is_believed() -> None:
    told = [*forwarded("198.51.100.1"), ("X-Forwarded-Proto", "https"), ("X-Request-ID", ID)]
    assert await believed(PROXY, *told, proxies=()) == (PROXY, "http", None)


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ((), PROXY),
        (("",), PROXY),
        ((" , ",), PROXY),
        (("203.0.113.7",), "203.0.113.7"),
        (("  203.0.113.7  ",), "203.0.113.7"),
        (("1.1.1.1, 203.0.113.7",), "203.0.113.7"),  # what the client said of itself stands before it
        (("1.1.1.1", "203.0.113.7"), "203.0.113.7"),
        (("10.9.9.9, 203.0.113.7",), "203.0.113.7"),
        (("203.0.113.7, 10.0.0.2",), "203.0.113.7"),  # through two of ours
        (("203.0.113.7", "10.0.0.2"), "203.0.113.7"),
        (("1.1.1.1, 203.0.113.7, 10.0.0.3, 10.0.0.2",), "203.0.113.7"),
        (("203.0.113.7, fd00::2",), "203.0.113.7"),
        (("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        (("2001:DB8::0:1",), "2001:db8::1"),
        (("::ffff:203.0.113.7",), "203.0.113.7"),
        (("203.0.113.7, ::ffff:10.0.0.2",), "203.0.113.7"),
        (("203.0.113.7:4711",), "203.0.113.7"),
        (("[2001:db8::1]:4711",), "2001:db8::1"),
        (("[2001:db8::1]",), "2001:db8::1"),
        (("fe80::1%eth0",), "fe80::1"),
        (("fe80::1%\x1b[31m",), "fe80::1"),
        (("203.0.113.7, unknown, 10.0.0.2",), "10.0.0.2"),  # who was before cannot be known
        (("203.0.113.7, ",), PROXY),
        (("1.1.1.1, nonsense",), PROXY),
        (("203.0.113.07",), PROXY),
        (("0x7f.1",), PROXY),
        (("3405803783",), PROXY),
        (("203.0.113.7 1.1.1.1",), PROXY),
        (("[]",), PROXY),
        (("x" * 8000,), PROXY),
    ],
)
async def test_the_client_is_the_last_address_that_is_no_proxy_of_ours(lines: tuple[str, ...], client: str) -> None:
    assert (await believed(PROXY, *forwarded(*lines)))[0] == client


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "fd00::1"])
async def test_a_proxy_is_known_by_its_address_in_ipv6_too(peer: str) -> None:
    """A server that listens on :: sees IPv4 peers mapped."""
    told = [*forwarded("203.0.113.7"), ("X-Forwarded-Proto", "https")]
    assert await believed(peer, *told) == ("203.0.113.7", "https", None)


@pytest.mark.parametrize(
    ("told", "scheme"),
    [("https", "https"), ("http", "http"), ("", "http"), ("HTTPS", "http"), ("ftp", "http"), ("http, https", "https")],
)
async def test_the_scheme_is_one_of_two(told: str, scheme: str) -> None:
    """An unknown one does not make the rest unbelievable."""
    assert await believed(PROXY, *forwarded("203.0.113.7"), ("X-Forwarded-Proto", told)) == (
        "203.0.113.7",
        scheme,
        None,
    )


async def test_of_two_schemes_the_nearest_proxy_s_counts() -> None:
    told = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")]
    assert (await believed(PROXY, *told))[1] == "http"


@pytest.mark.parametrize(
    "forged", ["", "x", ID[:-1], ID + "0", ID.upper(), ID[:-1] + "\n", ID + "\n", "é" * 32, '{"level":"error"}']
)
async def test_a_request_id_is_32_hexadecimal_digits_or_our_own(forged: str) -> None:
    assert (await believed(PROXY, ("X-Request-ID", forged)))[2] is None
    assert (await believed(PROXY, ("X-Request-ID", ID)))[2] == ID


# Real nodes


@asynccontextmanager
async def a_node(settings: Settings, *, proxies: Sequence[str], limits: bool = False) -> AsyncIterator[Node]:
    server = settings.server.model_copy(update={"proxies": tuple(ip_network(network) for network in proxies)})
    changes: dict[str, Any] = {"server": server}
    if limits:
        changes["limits"] = settings.limits.model_copy(update={"enabled": True, "address_per_minute": 3})
        changes["redis"] = settings.redis.model_copy(update={"prefix": settings.redis.prefix + "-proxies"})
    node = await Node.start(settings.model_copy(update=changes))
    try:
        yield node
    finally:
        await node.stop()


async def test_an_answer_through_a_proxy_has_its_id_and_its_limits(settings: Settings) -> None:
    async with a_node(settings, proxies=("127.0.0.0/8",), limits=True) as node:
        told = {"X-Forwarded-For": "203.0.113.7", "X-Request-ID": ID}
        with capture_logs() as logged:
            answer = await node.api.get("/properties", headers=told)
            refused = await node.api.get("/nowhere", headers=told)
    assert answer.headers["X-Request-ID"] == refused.headers["X-Request-ID"] == refused.json["request_id"] == ID
    assert '"address";r=2' in answer.headers["RateLimit"]
    assert [line["address"] for line in logged] == ["203.0.113.7"] * 2


async def test_a_forged_address_does_not_get_around_the_limit(settings: Settings) -> None:
    async with a_node(settings, proxies=("10.0.0.0/8",), limits=True) as node:
        statuses = [
            (await node.api.get("/properties", headers={"X-Forwarded-For": f"203.0.113.{number}"})).status
            for number in range(4)
        ]
    assert statuses == [200] * 3 + [429]


async def test_clients_of_one_proxy_are_limited_each_by_its_own_address(settings: Settings) -> None:
    async with a_node(settings, proxies=("127.0.0.0/8",), limits=True) as node:
        for client in ("198.51.100.1", "198.51.100.2"):
            # What the client itself put before it makes no difference.
            told = [f"1.1.1.{number}, {client}" for number in range(4)]
            answers = [await node.api.get("/properties", headers={"X-Forwarded-For": one}) for one in told]
            assert [answer.status for answer in answers] == [200] * 3 + [429]


async def test_behind_tls_own_pages_may_open_a_socket(settings: Settings, people: People) -> None:
    person = await people.buyer()
    async with a_node(settings, proxies=("127.0.0.0/8",)) as node:
        own = node.api.base.replace("http:", "https:")
        told = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        async with Live.open(node.api.base, headers={**told, "Origin": own}) as page:
            await page.connect(person.token)
        for origin in (node.api.base, own + ".evil.example", "https://evil.example"):
            assert await refused(node, {**told, "Origin": origin}) == 403


async def test_nobody_but_a_proxy_can_say_that_there_was_tls(settings: Settings) -> None:
    async with a_node(settings, proxies=("10.0.0.0/8",)) as node:
        own = node.api.base.replace("http:", "https:")
        assert await refused(node, {"X-Forwarded-Proto": "https", "Origin": own}) == 403


async def refused(node: Node, headers: dict[str, str]) -> int:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await session.ws_connect(node.api.base + PATH, headers=headers)
    return error.value.status
