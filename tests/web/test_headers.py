"""What every answer carries, whatever was asked and however it ended; and what the log says of it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from k2k.app import OPERATIONS
from k2k.core.settings import Settings
from k2k.live.door import PATH
from k2k.ops.registry import Operation
from k2k.web import assets, headers
from tests.raw_http import answers
from tests.samples import path_of, sample
from tests.support import PREFIX, ROOT, Live, Node, People, Person

VERSIONS = re.compile(r"aiohttp|python|\d+\.\d+\.\d+", re.IGNORECASE)
FILES = sorted(assets.find(ROOT / "node_modules").files)


@pytest.fixture(scope="module")
async def house(settings: Settings) -> AsyncIterator[Node]:
    """A node of its own, where a story may break things."""
    node = await Node.start(settings)
    yield node
    await node.stop()


@pytest.fixture
async def buyer(house: Node) -> Person:
    return await People(house).buyer()


def is_safe(said: Mapping[str, str], *, page: bool = False) -> None:
    """The headers that browsers, caches and whoever looks for old versions must find on any answer."""
    assert said["Server"] == "Key2Key"
    assert said["X-Content-Type-Options"] == "nosniff"
    assert said["X-Frame-Options"] == "DENY"
    assert said["Referrer-Policy"] == "no-referrer"
    assert said["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert re.fullmatch("[0-9a-f]{32}", said["X-Request-ID"])
    assert page or said["Content-Security-Policy"] == headers.NO_PAGE
    assert said["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Cache-Control" in said
    assert "Set-Cookie" not in said
    assert not VERSIONS.search(said["Server"])


async def asked(base: str, method: str, path: str, **more: Any) -> tuple[int, Mapping[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.request(method, base + path, **more) as answer:
        return answer.status, answer.headers, await answer.read()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_every_operation_answers_safely_whatever_becomes_of_it(
    house: Node, buyer: Person, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = PREFIX + path_of(operation)
    body = {"json": sample(operation.models["body"])} if "body" in operation.models else {}
    theirs = {"headers": {"Authorization": f"Bearer {buyer.token}"}}
    ways: list[dict[str, Any]] = [
        body,
        {"headers": {"Authorization": "Bearer nonsense"}, **body},
        {**theirs, **body, "params": {"evil": "1"}},
        {**theirs, **body},
    ]

    async def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw it")

    statuses = set()
    for breaks in (False, True):
        for way in ways:
            with monkeypatch.context() as patch, capture_logs() as logged:
                if breaks:
                    patch.setattr(house.process.db, "records", broken)
                status, said, raw = await asked(house.api.base, operation.method, path, **way)
            statuses.add(status)
            is_safe(said)
            assert operation.public or said["Cache-Control"] == "no-store"
            assert operation.public or "ETag" not in said
            (line,) = [line for line in logged if line["event"] == "request"]
            assert (line["status"], line["path"]) == (status, path)
            if status >= 400:
                assert json.loads(raw)["request_id"] == said["X-Request-ID"]
                assert said["Cache-Control"] == "no-store"
    assert len(statuses) > 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health/live", 200),
        ("GET", f"{PREFIX}/openapi.json", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/", 404),
        ("GET", "/assets/", 404),
        ("GET", "/assets/centrifuge-0/centrifuge.js", 404),
        ("DELETE", f"{PREFIX}/properties", 405),
        ("TRACE", f"{PREFIX}/properties", 405),
        ("GET", PATH, 426),
        ("HEAD", PATH, 405),
    ],
)
async def test_what_is_no_operation_answers_safely_too(node: Node, method: str, path: str, status: int) -> None:
    found, said, raw = await asked(node.api.base, method, path)
    assert found == status
    is_safe(said)
    if status >= 400 and raw:
        assert json.loads(raw)["request_id"] == said["X-Request-ID"]
        assert said["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/docs", "/docs/errors", *FILES])
async def test_pages_and_their_files_are_no_exception(node: Node, path: str) -> None:
    _, said, _ = await asked(node.api.base, "GET", path)
    is_safe(said, page=True)
    for known in ("ETag", "Last-Modified"):
        if known in said:
            condition = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}[known]
            status, again, raw = await asked(node.api.base, "GET", path, headers={condition: said[known]})
            assert (status, raw) == (304, b"")
            is_safe(again, page=True)
            assert again["Cache-Control"] == said["Cache-Control"]


@pytest.mark.parametrize("header", ["Range", "If-Match", "If-Unmodified-Since"])
@pytest.mark.parametrize("path", FILES[:1])
async def test_a_condition_that_does_not_hold_for_a_file_is_answered_safely(node: Node, path: str, header: str) -> None:
    never = {"Range": "bytes=999999999-", "If-Match": '"x"', "If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:01 GMT"}
    status, said, raw = await asked(node.api.base, "GET", path, headers={header: never[header]})
    assert (status, raw) == (416 if header == "Range" else 412, b"")
    is_safe(said, page=True)


async def test_the_upgrade_to_a_socket_is_no_exception(node: Node) -> None:
    async with Live.open(node.api.base) as live:
        assert live.socket._response.status == 101
        is_safe(live.socket._response.headers)


async def test_who_asks_for_a_socket_without_an_upgrade_is_told_to_which(node: Node) -> None:
    _, said, _ = await asked(node.api.base, "GET", PATH)
    assert said["Upgrade"] == "websocket"


async def test_a_stranger_does_not_choose_the_id_of_a_request(node: Node) -> None:
    _, said, raw = await asked(node.api.base, "GET", "/nowhere", headers={"X-Request-ID": "a" * 32})
    assert said["X-Request-ID"] != "a" * 32
    assert json.loads(raw)["request_id"] == said["X-Request-ID"]


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/metrics/",
        "/api/v1/metrics",
        "/debug",
        "/debug/pprof/",
        "/.git/HEAD",
        "/.env",
        "/.env.production",
        "/config/default.toml",
        "/run.py",
        "/server-status",
        "/assets/../run.py",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f.env",
        "/assets/..%5c..%5c.env",
        "/assets/%252e%252e/.env",
        "/assets//etc/passwd",
        "/docs/../.git/config",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/node_modules/centrifuge/package.json",
        *(f"{path}/../../../package.json" for path in FILES[:1]),
        *(f"{path}%00.png" for path in FILES[:1]),
    ],
)
async def test_nothing_inner_is_served_to_the_public(node: Node, path: str) -> None:
    """Sent as it stands: clients tidy paths up."""
    (answer,) = await answers(node.api.base, f"GET {path} HTTP/1.1\r\nHost: k2k\r\nConnection: close\r\n\r\n".encode())
    assert (answer.status, answer.problem["code"]) == (404, "no-such-route")
    is_safe(answer.headers)
