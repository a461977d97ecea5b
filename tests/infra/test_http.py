"""Nobody reaches through us what only we can reach, and no foreign server holds us up or fills our memory."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from k2k.core.errors import AddressNotAllowed, Unavailable
from k2k.infra import http
from k2k.infra.http import Outbound, is_public
from k2k.ops.problem import status_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A server on loopback that remembers who connected and what was asked."""

    def __init__(self, answer: bytes | Serve = OK) -> None:
        self.answer = answer
        self.connections: list[str] = []
        self.requests: list[str] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer.get_extra_info("sockname")[0])
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if isinstance(self.answer, bytes):
                writer.write(self.answer)
                await writer.drain()
            else:
                await self.answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has had enough, which is what some stories are about
        finally:
            writer.close()


@asynccontextmanager
async def listening(answer: bytes | Serve = OK) -> AsyncIterator[Listener]:
    """On every address of loopback that a story may be tricked to, under one port."""
    listener = Listener(answer)
    hosts = ["127.0.0.1", "127.0.0.2", *(["::1"] if socket.has_ipv6 else [])]
    servers = []
    for host in hosts:
        servers.append(await asyncio.start_server(listener.handle, host, listener.port))
        listener.port = servers[0].sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        for server in servers:
            server.close()


@pytest.fixture
async def listener(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    """Its port is one of those we call, so that only the address can be what is refused."""
    async with listening() as started:
        monkeypatch.setattr(http, "PORTS", frozenset({80, 443, started.port}))
        yield started


class Names(AbstractResolver):
    """A name service that gives its answers one after the other, the last one for good."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        pass


def calling(listener: Listener, *answers: Sequence[str], **more: float) -> Outbound:
    """Calls to 127.0.0.1 at the listener's port are let through, as if that were a public server."""
    resolver = Names(*answers) if answers else None
    return Outbound(
        exempt=("127.0.0.1", listener.port),
        resolver=resolver,
        seconds=more.get("seconds", 5.0),
        body_kib=int(more.get("body_kib", 64)),
    )


# Addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::1%25lo]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "127.0.1",
        "0",
        "0.0.0.0",  # noqa: S104
        "[::]",
        "localhost",
        "LOCALHOST",
        "１２７.０.０.１",  # full-width digits
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "ⓛocalhost",
        "somebody@127.0.0.1",
        "somebody:secret@localhost",
        "key2key.example:80@127.0.0.1",
        "@127.0.0.1",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
async def test_no_spelling_of_a_private_address_is_connected_to(listener: Listener, host: str) -> None:
    async with Outbound(seconds=5) as outbound:
        with pytest.raises(AddressNotAllowed):
            await outbound.request("GET", f"http://{host}:{listener.port}/")
    assert listener.connections == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1.", "localhost.", "127.0.0.1%00.example", "loc%61lhost", "%31%32%37.0.0.1", "[v1.x]"]
)
async def test_what_some_systems_take_for_loopback_is_not_connected_to_either(listener: Listener, host: str) -> None:
    async with Outbound(seconds=5) as outbound:
        with pytest.raises((AddressNotAllowed, Unavailable)):
            await outbound.request("GET", f"http://{host}:{listener.port}/")
    assert listener.connections == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "key2key.example",
        "//key2key.example/",
        "http:",
        "http://",
        "http:///path",
        "http:/127.0.0.1/",
        "http://[::1",
        "http://key2key.example:99999/",
        "http://key2key.example\\@127.0.0.1/",
        "http://127.0.0.1\r\nHost: x/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "ftp://127.0.0.1/",
        "ws://127.0.0.1/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "http://" + "a" * 64 + ".example/",
        "http://a..example/",
        "http://key2key.example/" + "a" * 2048,
    ],
)
async def test_what_is_no_web_address_is_refused(url: str) -> None:
    async with Outbound(seconds=5) as outbound:
        with pytest.raises(AddressNotAllowed):
            await outbound.request("GET", url)


async def test_the_refusal_is_a_422_that_does_not_tell_what_a_name_resolved_to(listener: Listener) -> None:
    async with Outbound(resolver=Names(["10.11.12.13"])) as outbound:
        with pytest.raises(AddressNotAllowed) as refused:
            await outbound.request("GET", f"http://inside.example:{listener.port}/")
    assert status_of(refused.value) == 422
    assert "10.11" not in str(refused.value)


async def test_a_name_is_as_bad_as_the_address_it_leads_to(listener: Listener) -> None:
    for address in ("127.0.0.1", "127.0.0.2", "::1", "169.254.169.254", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1"):
        async with Outbound(resolver=Names([address, "10.0.0.2"])) as outbound:
            with pytest.raises(AddressNotAllowed):
                await outbound.request("POST", f"http://hook.example:{listener.port}/", body=b"{}")
    assert listener.connections == []


async def test_a_name_that_changes_its_mind_is_judged_at_every_connection(listener: Listener) -> None:
    """DNS rebinding: public when looked at, private when used. Here 127.0.0.1 stands for the public address."""
    async with calling(listener, ["127.0.0.1"], ["127.0.0.2"]) as outbound:
        url = f"http://rebinding.example:{listener.port}/"
        assert (await outbound.request("GET", url)).body == b"ok"
        with pytest.raises(AddressNotAllowed):
            await outbound.request("GET", url)
    assert listener.connections == ["127.0.0.1"]


async def test_a_private_address_behind_one_that_fails_is_not_tried(listener: Listener) -> None:
    with socket.socket() as reserved:  # bound and not listening: connecting to it fails
        reserved.bind(("127.0.0.1", 0))
        dead = reserved.getsockname()[1]
        outbound = Outbound(exempt=("127.0.0.1", dead), resolver=Names(["127.0.0.1", "127.0.0.2"]))
        async with outbound:
            with pytest.raises(AddressNotAllowed):
                await outbound.request("GET", f"http://both.example:{dead}/")


@pytest.mark.parametrize("port", [22, 25, 5432, 6379, 8080])
async def test_only_the_ports_of_the_web_are_called(port: int) -> None:
    async with Outbound(resolver=Names(["8.8.8.8"])) as outbound:
        with pytest.raises(AddressNotAllowed):
            await outbound.request("GET", f"http://public.example:{port}/")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("196.188.0.1", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("2002:808:808::", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("::808:808", False),
        ("fec0::1", False),
        ("fe80::1%lo", False),
        ("5f00::1", False),
        ("ff0e::1", False),
        ("224.0.1.1", False),
        ("192.0.0.8", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("203.0.113.1", False),
        ("240.0.0.1", False),
    ],
)
def test_public_is_what_the_internet_routes(address: str, public: bool) -> None:
    assert is_public(address) == public


# Redirects


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def test_a_redirect_is_an_answer_unless_it_is_asked_for(listener: Listener) -> None:
    listener.answer = redirect("/elsewhere")
    async with calling(listener) as outbound:
        for method in ("GET", "POST"):
            answer = await outbound.request(method, f"http://127.0.0.1:{listener.port}/")
            assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere")
        answer = await outbound.request("POST", f"http://127.0.0.1:{listener.port}/", body=b"once", redirects=3)
    assert answer.status == 302
    assert len(listener.requests) == 3


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.2:{port}/", "http://[::1]:{port}/", "//127.0.0.2:{port}/", "file:///etc/passwd", "http://x@y"],
)
async def test_a_redirect_leads_nowhere_that_could_not_be_asked_for(listener: Listener, target: str) -> None:
    listener.answer = redirect(target.format(port=listener.port))
    async with calling(listener) as outbound:
        with pytest.raises(AddressNotAllowed):
            await outbound.request("GET", f"http://127.0.0.1:{listener.port}/", redirects=3)
    assert listener.connections == ["127.0.0.1"]


async def test_redirects_end_after_three(listener: Listener) -> None:
    listener.answer = redirect("/again")
    async with calling(listener) as outbound:
        answer = await outbound.request("GET", f"http://127.0.0.1:{listener.port}/", redirects=100)
    assert answer.status == 302
    assert len(listener.requests) == 4


async def test_credentials_stay_with_the_server_they_are_for(listener: Listener) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        hop = len(listener.requests)
        targets = {1: "/same", 2: f"http://other.example:{listener.port}/"}
        writer.write(redirect(targets[hop]) if hop in targets else OK)

    listener.answer = answer
    async with calling(listener, ["127.0.0.1"]) as outbound:
        url = f"http://first.example:{listener.port}/"
        await outbound.request("GET", url, headers={"Authorization": "Bearer secret"}, redirects=3)
    assert ["Bearer secret" in request for request in listener.requests] == [True, True, False]


# What a call takes along


async def test_a_call_says_who_we_are_and_nothing_more(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy out of the environment (nothing listens there), and no cookie of an earlier answer."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    listener.answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: seen=1\r\n\r\n")
    async with calling(listener, ["127.0.0.1"]) as outbound:
        for _ in range(2):
            assert (await outbound.request("GET", f"http://hook.example:{listener.port}/")).body == b"ok"
    assert all("User-Agent: Key2Key\r\n" in request for request in listener.requests)
    assert not any("cookie" in request.lower() for request in listener.requests)


async def test_an_error_of_the_other_side_is_its_answer(listener: Listener) -> None:
    listener.answer = b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad"
    async with calling(listener) as outbound:
        answer = await outbound.request("POST", f"http://127.0.0.1:{listener.port}/", body=b"{}")
    assert (answer.status, answer.body) == (500, b"bad")


# What the other side may do to us


async def unavailable(listener: Listener, **more: float) -> float:
    """How many seconds the call took that ends in Unavailable."""
    start = time.monotonic()
    async with calling(listener, **more) as outbound:
        with pytest.raises(Unavailable):
            await outbound.request("GET", f"http://127.0.0.1:{listener.port}/", redirects=3)
    return time.monotonic() - start


async def drips(writer: asyncio.StreamWriter, first: bytes, drop: bytes) -> None:
    writer.write(first)
    while True:
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
)
async def test_a_server_that_never_ends_its_answer_is_left_at_the_deadline(
    listener: Listener, first: bytes, drop: bytes
) -> None:
    listener.answer = lambda writer: drips(writer, first, drop)
    assert await unavailable(listener, seconds=0.4) < 2


async def test_redirects_share_one_deadline(listener: Listener) -> None:
    async def slowly(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(redirect("/again"))

    listener.answer = slowly
    assert await unavailable(listener, seconds=0.5) < 1


async def test_ten_gigabytes_are_cut_at_the_size_allowed(listener: Listener) -> None:
    sent = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while sent < 10_000_000_000:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    listener.answer = pour
    await unavailable(listener, seconds=30)
    assert sent < 20_000_000  # what the buffers of both sockets took


async def test_a_gzip_bomb_is_cut_at_the_size_allowed(listener: Listener) -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024), compresslevel=9)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    listener.answer = head + bomb
    tracemalloc.start()
    try:
        await unavailable(listener, seconds=30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


async def test_an_answer_of_just_the_size_allowed_arrives_decompressed(listener: Listener) -> None:
    packed = gzip.compress(b"x" * 64 * 1024)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(packed)
    listener.answer = head + packed
    async with calling(listener) as outbound:
        answer = await outbound.request("GET", f"http://127.0.0.1:{listener.port}/")
    assert answer.body == b"x" * 64 * 1024


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nbad"]
)
async def test_nonsense_for_an_answer_is_a_failure_of_the_other_side(listener: Listener, answer: bytes) -> None:
    listener.answer = answer
    await unavailable(listener)


async def test_an_unknown_name_is_a_failure_of_the_other_side() -> None:
    async with Outbound(seconds=5) as outbound:
        with pytest.raises(Unavailable):
            await outbound.request("GET", "http://no-such-name.invalid/")
