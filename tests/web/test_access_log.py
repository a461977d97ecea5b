"""One line for each request, which says what a person on call wants to know and nothing a stranger made up."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from k2k.core.settings import Settings
from tests.raw_http import answers, connection
from tests.support import PREFIX, Live, Node, People, Subprocess, eventually, free_port

LINE = {"event", "log_level", "method", "path", "status", "milliseconds", "address"}
Line = Mapping[str, Any]


def requests(logged: list[Any]) -> list[Line]:
    return [line for line in logged if line["event"] == "request"]


async def test_a_request_is_one_line_without_its_query(node: Node, people: People) -> None:
    buyer = await people.buyer()
    with capture_logs() as logged:
        await node.api.get("/properties?limit=1&token=hush", token=buyer.token)
    (line,) = requests(logged)
    assert line.keys() == {*LINE, "user"}
    assert (line["method"], line["path"], line["status"]) == ("GET", f"{PREFIX}/properties", 422)
    assert (line["address"], line["user"], line["log_level"]) == ("127.0.0.1", str(buyer.id), "info")
    assert 0 < line["milliseconds"] < 10_000


async def test_a_line_names_nobody_where_nobody_proved_who_they_are(node: Node) -> None:
    for token in (None, "nonsense"):
        with capture_logs() as logged:
            await node.api.get("/auth/me", token=token)
        (line,) = requests(logged)
        assert line.keys() == LINE


async def test_a_real_process_writes_the_id_that_the_client_was_told(
    spawn: type[Subprocess], settings: Settings, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    process = await spawn.start(settings, free_port(), output=output, K2K_LOG__FORMAT="json")
    told = (await process.api.get("/nowhere")).json["request_id"]

    async def written() -> bool:
        return told in output.read_text()

    await eventually(written)
    (line,) = [json.loads(line) for line in output.read_text().splitlines() if told in line]
    assert (line["event"], line["request_id"], line["status"]) == ("request", told, 404)
    assert line["timestamp"]
    assert "/health" not in output.read_text(), "that all is well is no news"


@pytest.mark.parametrize("path", ["/health", "/health/live/", "/health/ready", f"{PREFIX}/health"])
async def test_a_probe_that_finds_all_well_is_told_to_nobody_but_who_debugs(node: Node, path: str) -> None:
    with capture_logs() as logged:
        await node.api.get(path, prefix="")
    # A socket of an earlier story may end just now, and is told then.
    assert [line["log_level"] for line in requests(logged) if line["path"] == path] == ["debug"]


async def test_a_probe_that_finds_something_wrong_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(node.process.db, "records", broken)
    with capture_logs() as logged:
        async with aiohttp.ClientSession() as session, session.get(node.api.base + "/health/ready") as answer:
            assert answer.status == 503
    assert [(line["log_level"], line["status"]) for line in requests(logged)] == [("info", 503)]


@pytest.mark.parametrize(
    "path",
    [
        "/%0a%7b%22level%22:%22error%22%7d",
        "/a%0d%0aerror%20fake",
        "/%1b%5b31mred",
        "/%e2%80%a8",
        "/%00",
        "/%ff",
        "/" + "%0a" * 500,
    ],
)
async def test_a_path_can_neither_begin_a_line_nor_command_a_terminal(node: Node, path: str) -> None:
    with capture_logs() as logged:
        await answers(node.api.base, f"GET {path} HTTP/1.1\r\nHost: k2k\r\nConnection: close\r\n\r\n".encode())
    (line,) = requests(logged)
    assert re.fullmatch(r"[!-~]{1,200}", line["path"])


async def test_a_client_that_leaves_amid_its_request_is_one_line_and_no_error(node: Node) -> None:
    with capture_logs() as logged:
        async with connection(node.api.base) as (_, writer):
            writer.write(f"POST {PREFIX}/auth/login HTTP/1.1\r\nHost: k2k\r\n".encode())
            writer.write(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.1)  # the request is being read; there is nothing to look at

        async def noted() -> bool:
            return bool(requests(logged))

        await eventually(noted)
    assert [line["status"] for line in requests(logged)] == [499]
    assert {line["event"] for line in logged} == {"request", "client left"}
    assert not [line for line in logged if line["log_level"] in ("warning", "error") or "exc_info" in line]


async def test_a_socket_is_one_line_at_its_end_with_the_time_it_was_open(node: Node, people: People) -> None:
    buyer = await people.buyer()
    with capture_logs() as logged:
        async with node.live(buyer.token) as live:
            await asyncio.sleep(0.2)
            await live.rpc("me.get")
            assert not requests(logged)

        async def noted() -> bool:
            return bool(requests(logged))

        await eventually(noted)
    (line,) = requests(logged)
    assert (line["path"], line["status"]) == ("/connection/websocket", 101)
    assert line["milliseconds"] >= 200


async def test_a_socket_that_is_refused_is_a_line_too(node: Node) -> None:
    with capture_logs() as logged, pytest.raises(aiohttp.WSServerHandshakeError):
        async with Live.open(node.api.base, headers={"Origin": "https://evil.example"}):
            pass
    assert [line["status"] for line in requests(logged)] == [403]
