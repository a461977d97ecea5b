"""What config/nginx.conf lets through, what it keeps back and what it writes down: in front of servers that echo."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from tests.proxy import Proxy, command, configuration, main_directives, proxy
from tests.support import Api, eventually, free_port

pytestmark = pytest.mark.needs("nginx")

FILES = ("-keyout", "privkey.pem", "-out", "fullchain.pem")


@dataclass
class Echo:
    """A server that tells what it was sent, and dies amid a request where the path is /die."""

    port: int = field(default_factory=free_port)
    paths: list[str] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    dies: bool = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.paths.append(request.path_qs)
        self.headers = list(request.headers.items())
        if self.dies:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({}, headers={"Server": "something/1.2.3"})

    def header(self, name: str) -> list[str]:
        """Each value under the name that the last request brought."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@pytest.fixture
async def echoes() -> AsyncIterator[list[Echo]]:
    """Two servers on free ports."""
    found, runners = [Echo(), Echo()], []
    for echo in found:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", echo.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", echo.port).start()
        runners.append(runner)
    yield found
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def edge(echoes: list[Echo], tmp_path: Path) -> AsyncIterator[Proxy]:
    async with proxy(tmp_path, [echo.port for echo in echoes]) as started:
        yield started


async def test_a_post_is_never_sent_twice_when_a_process_dies_amid_it(edge: Proxy, echoes: list[Echo]) -> None:
    for echo in echoes:
        echo.dies = True
    for method in ("POST", "PATCH"):
        answer = await Api(edge.base, ours=False).request(method, "/chat/messages", json={"client_id": "1"})
        assert (answer.status, answer.json["code"]) == (503, "outcome-unknown")
        assert answer.headers["Retry-After"] == "1"
    assert [path for echo in echoes for path in echo.paths] == ["/api/v1/chat/messages"] * 2


async def test_a_read_is_asked_of_the_other_process(edge: Proxy, echoes: list[Echo]) -> None:
    echoes[0].dies = True
    for _ in range(4):
        assert (await Api(edge.base, ours=False).get("/listings")).status == 200
    assert 1 <= len(echoes[0].paths) <= 2, "the dead one was asked, then left alone for a while"
    assert len(echoes[1].paths) == 4


async def test_with_both_away_a_read_is_told_so_in_our_words(tmp_path: Path) -> None:
    async with proxy(tmp_path, [free_port(), free_port()]) as edge:
        answer = await Api(edge.base, ours=False).get("/listings")
    assert (answer.status, answer.json["code"]) == (503, "unavailable")


async def test_a_client_cannot_say_who_it_is(edge: Proxy, echoes: list[Echo]) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.7, 198.51.100.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Real-IP": "203.0.113.7",
        "Forwarded": "for=203.0.113.7",
        "X-Request-Id": "forged",
    }
    await Api(edge.base, ours=False).get("/listings", headers=forged)
    asked = next(echo for echo in echoes if echo.paths)
    assert asked.header("X-Forwarded-For") == ["127.0.0.1"]
    assert asked.header("X-Forwarded-Proto") == ["http"]
    assert asked.header("Host") == [f"127.0.0.1:{edge.port}"]
    assert asked.header("X-Forwarded-Host") + asked.header("X-Real-IP") + asked.header("Forwarded") == []
    await eventually(lambda: _written(edge, 1))
    assert asked.header("X-Request-Id") == [edge.log()[0]["request_id"]]


async def test_an_upgrade_goes_through_where_the_websocket_is_and_nowhere_else(edge: Proxy, echoes: list[Echo]) -> None:
    for path, kind, told in (
        ("/connection/websocket", "websocket", ["websocket"]),
        ("/connection/websocket", "h2c", []),
        ("/api/v1/listings", "websocket", []),
    ):
        await Api(edge.base, ours=False).get(path, headers={"Upgrade": kind, "Connection": "Upgrade"}, prefix="")
        asked = next(echo for echo in echoes if echo.paths)
        assert asked.header("Upgrade") == told
        for echo in echoes:
            echo.paths.clear()


async def test_a_body_over_the_limit_is_refused_before_a_process_sees_it(edge: Proxy, echoes: list[Echo]) -> None:
    api = Api(edge.base, ours=False)
    assert (await api.post("/anything", data=b"x" * 256 * 1024)).status == 200
    answer = await api.post("/anything", data=b"x" * (256 * 1024 + 1))
    assert (answer.status, answer.json["code"]) == (413, "too-large")
    assert sum(len(echo.paths) for echo in echoes) == 1


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/", "/%6detrics", "//metrics", "/x/../metrics", "/debug/pprof", "/.env", "/a/.git/HEAD"],
)
async def test_what_is_not_for_the_public_is_not_there(edge: Proxy, echoes: list[Echo], path: str) -> None:
    status, body = await raw(edge, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status == 404
    assert json.loads(body)["code"] == "no-such-route"
    assert [echo.paths for echo in echoes] == [[], []]


async def test_what_is_meant_for_the_public_goes_through(edge: Proxy, echoes: list[Echo]) -> None:
    for path in ("/.well-known/security.txt", "/metrics-of-the-market", "/health/live"):
        await Api(edge.base, ours=False).get(path, prefix="")
    assert sum(len(echo.paths) for echo in echoes) == 3


async def test_a_client_that_sends_its_headers_slowly_is_cut(echoes: list[Echo], tmp_path: Path) -> None:
    patience = {"client_header_timeout 10s": "client_header_timeout 1s"}
    async with proxy(tmp_path, [echo.port for echo in echoes], patience) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert [echo.paths for echo in echoes] == [[], []]


async def test_one_address_that_asks_without_end_is_limited(echoes: list[Echo], tmp_path: Path) -> None:
    tight = {"rate=100r/s": "rate=1r/s", "burst=400": "burst=3"}
    async with proxy(tmp_path, [echo.port for echo in echoes], tight) as edge:
        answers = [await Api(edge.base, ours=False).get("/listings") for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
    assert answers[-1].json["code"] == "limited"


async def test_the_logs_hold_no_token_and_no_query_string(edge: Proxy, echoes: list[Echo]) -> None:
    echoes[0].dies = True  # a failure is what makes nginx quote a request
    for _ in range(3):
        await Api(edge.base, ours=False).get(
            "/listings?token=hush", token="hush", headers={"Referer": "http://x/?code=hush"}
        )
    await eventually(lambda: _written(edge, 3))
    assert "hush" not in edge.written()
    line = edge.log()[0]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/listings", 200)


async def test_what_runs_behind_is_not_told(edge: Proxy) -> None:
    answer = await Api(edge.base, ours=False).get("/listings")
    assert answer.headers["Server"] == "nginx"


def test_the_part_for_tls_is_sound(tmp_path: Path) -> None:
    """Uncommented as the file says, with a certificate of its own, nginx accepts it."""
    subprocess.run(
        [
            shutil.which("openssl") or "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            *FILES,
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=30,
    )
    before, tls, after = _split(configuration(tmp_path, free_port(), [free_port(), free_port()], {}))
    text = before + tls.replace("\n    #", "\n    ") + after.replace("#listen 443", f"listen 127.0.0.1:{free_port()}")
    text = text.replace("/etc/nginx/tls/", f"{tmp_path}/").replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
    conf = tmp_path / "nginx.conf"
    conf.write_text(text)
    checked = subprocess.run(
        [*command(tmp_path, conf), "-g", main_directives(tmp_path), "-t"], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


def _split(text: str) -> tuple[str, str, str]:
    before, rest = text.split("#begin TLS")
    tls, after = rest.split("#end TLS")
    return before, tls, after


async def raw(edge: Proxy, request: str) -> tuple[int, bytes]:
    """Status and body of a request sent as it stands; clients tidy paths up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request.encode())
    async with asyncio.timeout(5):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def _written(edge: Proxy, lines: int) -> bool:
    return len(edge.log()) >= lines
