"""Answers that clients keep, ask for without their bodies, or take compressed."""

from __future__ import annotations

import asyncio
import gzip
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from k2k.app import OPERATIONS
from k2k.live.door import PATH
from k2k.ops.registry import Operation
from k2k.web import middleware
from k2k.web.health import PROBES
from tests.samples import path_of, sample
from tests.support import PREFIX, Node, People, Person

OPENAPI = f"{PREFIX}/openapi.json"
READS = [operation for operation in OPERATIONS if operation.method == "GET"]
PUBLIC = f"{PREFIX}/properties"


@pytest.fixture(scope="module")
async def buyer(people: People) -> Person:
    return await people.buyer()


async def asked(node: Node, path: str, method: str = "GET", **more: Any) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and the body as it went over the wire."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, node.api.base + path, skip_auto_headers=["Accept-Encoding"], **more) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def varies(headers: Any) -> set[str]:
    told = [name.strip() for line in headers.getall("Vary", ()) for name in line.split(",")]
    assert len(told) == len(set(told))
    return set(told)


# HEAD


@pytest.mark.parametrize("operation", READS, ids=lambda operation: operation.name)
async def test_head_of_an_operation_is_get_without_the_body(node: Node, buyer: Person, operation: Operation) -> None:
    query: dict[str, Any] = {"params": sample(operation.models["query"])} if "query" in operation.models else {}
    for slash in ("", "/"):
        for headers_sent in ({}, {"Authorization": f"Bearer {buyer.token}"}):
            path = PREFIX + path_of(operation) + slash
            got, whole, raw = await asked(node, path, headers=headers_sent, **query)
            status, headers, nothing = await asked(node, path, "HEAD", headers=headers_sent, **query)
            assert (status, nothing) == (got, b"")
            changing = {"Date", "X-Request-ID"} | ({"Content-Length"} if got >= 400 else set())
            assert {n: v for n, v in headers.items() if n not in changing} == {
                n: v for n, v in whole.items() if n not in changing
            }
            assert int(whole["Content-Length"]) == len(raw)


@pytest.mark.parametrize("path", [OPENAPI, "/docs/errors", *(probe.path for probe in PROBES)])
async def test_head_is_answered_for_documents_and_probes(node: Node, path: str) -> None:
    got, whole, _ = await asked(node, path)
    status, headers, nothing = await asked(node, path, "HEAD")
    assert (status, nothing) == (got, b"")
    assert headers["Content-Length"] == whole["Content-Length"]


async def test_head_of_what_is_only_written_or_upgraded_is_not_allowed(node: Node) -> None:
    for path in (f"{PREFIX}/auth/login", PATH):
        status, headers, nothing = await asked(node, path, "HEAD")
        assert (status, nothing) == (405, b"")
        assert "HEAD" not in headers["Allow"]


async def test_a_connection_goes_on_after_a_head(node: Node) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(3):
            async with session.head(node.api.base + OPENAPI) as answer:
                assert answer.status == 200
            async with session.get(node.api.base + PUBLIC) as answer:
                assert (await answer.json()) is not None


# ETag


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_the_answer_is_told_so_with_the_headers_of_the_answer(node: Node, method: str) -> None:
    for path in (OPENAPI, PUBLIC):
        _, whole, _ = await asked(node, path, headers={"Accept-Encoding": "gzip"})
        tag = whole["ETag"]
        assert re.fullmatch('W/"[0-9a-f]{24}"', tag)
        for known in (tag, tag.removeprefix("W/"), "*", f'"x", W/"y" ,{tag}', f'W/"a,b", {tag}'):
            told = {"If-None-Match": known, "Accept-Encoding": "gzip"}
            status, headers, raw = await asked(node, path, method, headers=told)
            assert (status, raw) == (304, b""), known
            for name in ("ETag", "Cache-Control"):
                assert headers[name] == whole[name]
            assert varies(headers) == varies(whole)
            assert not {"Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding"} & set(headers)


@pytest.mark.parametrize("known", ['"x"', 'W/"x"', "", "x", '"', "W/", "**", "\xff", '"a' * 1000])
async def test_who_has_another_answer_gets_this_one(node: Node, known: str) -> None:
    status, _, raw = await asked(node, PUBLIC, headers={"If-None-Match": known})
    assert status == 200
    assert raw


async def test_a_changed_answer_has_another_tag(node: Node, people: People) -> None:
    seller = await people.agent()
    before = (await asked(node, PUBLIC))[1]["ETag"]
    await people.listing(seller)
    status, headers, _ = await asked(node, PUBLIC, headers={"If-None-Match": before})
    assert status == 200
    assert headers["ETag"] != before


async def test_a_refusal_is_not_kept(node: Node) -> None:
    for path in (f"{PUBLIC}?evil=1", f"{PREFIX}/auth/me", "/nowhere"):
        status, headers, _ = await asked(node, path, headers={"If-None-Match": "*"})
        assert status >= 400
        assert headers["Cache-Control"] == "no-store"
        assert "ETag" not in headers


async def test_what_is_private_is_not_kept_and_has_no_tag(node: Node, buyer: Person) -> None:
    theirs = {"Authorization": f"Bearer {buyer.token}", "If-None-Match": "*"}
    for path in ("/auth/me", "/chat/conversations"):
        status, headers, _ = await asked(node, PREFIX + path, headers=theirs)
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        assert "ETag" not in headers


async def test_a_write_is_done_whatever_the_writer_has_seen(node: Node, people: People) -> None:
    buyer = await people.buyer()
    theirs = {"Authorization": f"Bearer {buyer.token}", "If-None-Match": "*"}
    assert (await asked(node, f"{PREFIX}/auth/logout", "POST", headers=theirs))[0] == 200
    assert (await asked(node, f"{PREFIX}/auth/me", headers=theirs))[0] == 401


# Compression

TAKEN = [
    "gzip",
    "GZIP",
    "gzip, deflate, br, zstd",
    "br;q=1.0, gzip;q=0.8, *;q=0.1",
    "*",
    "gzip;q=0.001",
    "gzip ; q=1",
    "identity;q=0, gzip",
    "gzip, *;q=0",
    "deflate, *;q=0.5",
]
NOT_TAKEN = [
    "",
    "identity",
    "br",
    "gzip;q=0",
    "gzip;q=0.000",
    "gzip; q=0",
    "*;q=0",
    "gzip;q=0, *",
    "br, gzip;Q=0.0",
    "xgzip",
    "identity;q=0",
    ";;,,",
    "gzip;q=0.",
]


@pytest.mark.parametrize("accepted", TAKEN)
async def test_who_takes_gzip_gets_it(node: Node, accepted: str) -> None:
    _, plain, raw = await asked(node, OPENAPI)
    status, headers, squeezed = await asked(node, OPENAPI, headers={"Accept-Encoding": accepted})
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert int(headers["Content-Length"]) == len(squeezed) < len(raw) / 3
    assert gzip.decompress(squeezed) == raw
    assert headers["ETag"] == plain["ETag"]
    assert varies(headers) == varies(plain) == {"Accept-Encoding"}


@pytest.mark.parametrize("accepted", NOT_TAKEN)
async def test_who_does_not_gets_it_plain(node: Node, accepted: str) -> None:
    _, headers, raw = await asked(node, OPENAPI, headers={"Accept-Encoding": accepted})
    assert "Content-Encoding" not in headers
    assert int(headers["Content-Length"]) == len(raw)
    assert varies(headers) == {"Accept-Encoding"}


async def test_two_lines_of_accept_encoding_are_one_list(node: Node) -> None:
    lines = [("Accept-Encoding", "br"), ("Accept-Encoding", "gzip")]
    assert (await asked(node, OPENAPI, headers=lines))[1]["Content-Encoding"] == "gzip"


async def test_a_short_answer_is_left_as_it_is(node: Node) -> None:
    for path in ("/health", "/nowhere", f"{PUBLIC}?limit=1&min_price=999999999"):
        _, headers, raw = await asked(node, path, headers={"Accept-Encoding": "gzip"})
        assert len(raw) <= middleware.WORTH_COMPRESSING
        assert "Content-Encoding" not in headers
        assert "Accept-Encoding" not in varies(headers)


async def test_head_tells_the_length_of_what_get_would_send_compressed(node: Node) -> None:
    told = {"Accept-Encoding": "gzip"}
    _, whole, _ = await asked(node, OPENAPI, headers=told)
    _, headers, nothing = await asked(node, OPENAPI, "HEAD", headers=told)
    assert nothing == b""
    assert (headers["Content-Encoding"], headers["Content-Length"]) == ("gzip", whole["Content-Length"])


async def test_compressing_a_long_answer_does_not_hold_up_the_others() -> None:
    """Two megabytes of what hardly compresses, while the loop counts how late it is."""
    body = secrets.token_hex(1_000_000).encode()
    latest, done = 0.0, False

    async def count() -> None:
        nonlocal latest
        while not done:
            start = time.perf_counter()
            await asyncio.sleep(0)
            latest = max(latest, time.perf_counter() - start)

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)  # it has begun to count
    start = time.perf_counter()
    squeezed = await middleware._compressed(body)
    taken, done = time.perf_counter() - start, True
    await counting
    assert gzip.decompress(squeezed) == body
    assert latest < taken / 2
