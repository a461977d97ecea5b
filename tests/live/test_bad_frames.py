"""Bytes that no honest client sends: each ends with its own socket at worst, and with nothing in the log to look at."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs

from k2k.live.door import PATH
from k2k.ops.authenticator import Principal
from tests.exposition import watching
from tests.live.test_reader import framed
from tests.support import Live, LiveError, Node, People, Person, eventually


@pytest.fixture(scope="module")
async def person(people: People) -> Person:
    return await people.agent()


@pytest.fixture(scope="module")
async def witness(node: Node, people: People) -> AsyncIterator[Live]:
    """Somebody whose socket stays open all the while."""
    async with node.live((await people.buyer()).token) as live:
        yield live


@pytest.fixture(autouse=True)
async def others_are_served_and_nothing_is_logged(
    witness: Live, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    """Around every story here: another socket works after it, and no fault of ours was met."""
    with capture_logs() as logged, caplog.at_level(logging.WARNING):
        yield
        assert (await witness.rpc("me.get"))["is_active"] is True
    assert [line for line in logged if line["log_level"] in ("error", "critical")] == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@asynccontextmanager
async def connected(node: Node, person: Person) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A socket that may speak, without a client behind it."""
    async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
        await socket.send_str(json.dumps({"id": 1, "connect": {"token": person.token}}))
        assert "connect" in json.loads(await socket.receive_str())
        yield socket


async def said(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """Everything the server says until it closes."""
    async with asyncio.timeout(10):
        return [json.loads(line) async for message in socket for line in message.data.split("\n")]


# Frames of text

FATAL = {
    "a number": "1",
    "null": "null",
    "true": "true",
    "nested arrays": "[[[]]]",
    "half an escape": '{"id":2,"ping":{"a":"\\u00',
    "trailing comma": '{"id":2,"ping":{},}',
    "two objects without newline": '{"id":2,"ping":{}}{"id":3,"ping":{}}',
    "good, then bad": '{"id":2,"ping":{}}\n{"id":3',
    "blank": " ",
    "infinity": '{"id":2,"rpc":{"method":"me.get","data":{"a":Infinity}}}',
    "an id beyond all floats": '{"id":1e400,"ping":{}}',
    "a float as id": '{"id":2.0,"ping":{}}',
    "an id of 33 bits": '{"id":4294967296,"ping":{}}',
    "a null id": '{"id":null,"ping":{}}',
    "an array as id": '{"id":[2],"ping":{}}',
    "a lone surrogate as key": '{"id":2,"rpc":{"method":"me.get","data":{"\\udfff":1}}}',
    "a lone surrogate as command": '{"id":2,"\\ud800":{}}',
    "no channel": '{"id":2,"subscribe":{}}',
    "a number as channel": '{"id":2,"publish":{"channel":7,"data":{}}}',
    "a list as unsubscribe": '{"id":2,"unsubscribe":["x"]}',
    "a text as rpc": '{"id":2,"rpc":"me.get"}',
    "a number as token": '{"id":2,"refresh":{"token":5}}',
    "connect and rpc in one": '{"id":2,"connect":{"token":"x"},"rpc":{"method":"me.get"}}',
    "thirty levels too deep": '{"id":2,"rpc":{"method":"me.get","data":' + "[" * 62 + "]" * 62 + "}}",
    "very deep": "[" * 30_000,
    "capital letters": '{"ID":2,"PING":{}}',
}


@pytest.mark.parametrize("what", FATAL)
async def test_what_is_not_the_protocol_closes_the_socket(node: Node, person: Person, what: str) -> None:
    async with connected(node, person) as socket:
        await socket.send_str(FATAL[what])
        assert [line for line in await said(socket) if line] == []
        assert socket.close_code == 3501


HARMLESS = {
    "nothing": "",
    "newlines": "\n\n\n",
    "a pong nobody asked for": "{}",
    "pongs between newlines": "\n{}\n\n{}\n",
    "a message without an answer": '{"send":{"data":{"typing":true}}}',
    "a null message": '{"send":null}',
    "blanks around": '  { "send" : { } }  ',
}


@pytest.mark.parametrize("what", HARMLESS)
async def test_what_needs_no_answer_gets_none_and_the_socket_stays(node: Node, person: Person, what: str) -> None:
    async with connected(node, person) as socket:
        await socket.send_str(HARMLESS[what])
        await socket.send_str('{"id":9,"unsubscribe":{"channel":"x"}}')
        assert json.loads(await socket.receive_str()) == {"id": 9, "unsubscribe": {}}


REFUSED = {
    "a null rpc": ('{"id":2,"rpc":null}', 104),
    "an rpc without a name": ('{"id":2,"rpc":{}}', 104),
    "a null name": ('{"id":2,"rpc":{"method":null,"data":{}}}', 104),
    "a name with NUL": ('{"id":2,"rpc":{"method":"me.get\\u0000"}}', 104),
    "a name of a function": ('{"id":2,"rpc":{"method":"__class__"}}', 104),
    "a very long name": ('{"id":2,"rpc":{"method":"' + "m" * 60_000 + '"}}', 104),
    "data that is text": ('{"id":2,"rpc":{"method":"me.get","data":"x"}}', 1000),
    "data that is false": ('{"id":2,"rpc":{"method":"me.get","data":false}}', 1000),
    "data that is a number beyond all": ('{"id":2,"rpc":{"method":"me.get","data":1' + "0" * 400 + "}}", 1000),
    "a float beyond all": ('{"id":2,"rpc":{"method":"lead.list","data":{"limit":1e400}}}', 1000),
    "a field beyond all": ('{"id":2,"rpc":{"method":"lead.list","data":{"limit":1' + "0" * 400 + "}}}", 1000),
    "a field with NUL": ('{"id":2,"rpc":{"method":"me.get","data":{"a\\u0000":"b\\u0000"}}}', 1000),
    "a field of code": ('{"id":2,"rpc":{"method":"me.get","data":{"call":{},"self":1,"__init__":2}}}', 1000),
    "a history of what is not followed": ('{"id":2,"history":{"channel":"staff"}}', 103),
    "statistics of nothing": ('{"id":2,"presence_stats":{"channel":"x"}}', 103),
    "presence in nothing": ('{"id":2,"presence":{"channel":"x"}}', 103),
    "a subscription's refresh without a channel": ('{"id":2,"sub_refresh":{"token":"x"}}', 103),
    "a publication to what is not followed": ('{"id":2,"publish":{"channel":"staff","data":{}}}', 103),
    "a ping": ('{"id":2,"ping":{}}', 108),
    "a channel with NUL": ('{"id":2,"subscribe":{"channel":"\\u0000"}}', 102),
    "an id with NUL": ('{"id":2,"subscribe":{"channel":"listing:\\u0000"}}', 102),
    "a channel of 300 letters": ('{"id":2,"subscribe":{"channel":"' + "x" * 300 + '"}}', 102),
    "a listing of 300 letters": ('{"id":2,"subscribe":{"channel":"listing:' + "0" * 300 + '"}}', 102),
    "a tile of another zoom": ('{"id":2,"subscribe":{"channel":"map:11/0/0"}}', 102),
    "a tile beyond the map": ('{"id":2,"subscribe":{"channel":"map:12/4096/0"}}', 102),
    "a tile spelt otherwise": ('{"id":2,"subscribe":{"channel":"map:12/007/1"}}', 102),
    "a listing there is not": (
        '{"id":2,"subscribe":{"channel":"listing:00000000-0000-7000-8000-000000000000"}}',
        103,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_cannot_be_done_is_refused_by_number(node: Node, person: Person, what: str) -> None:
    text, code = REFUSED[what]
    async with connected(node, person) as socket:
        await socket.send_str(text)
        reply = json.loads(await socket.receive_str())
        assert (reply["id"], reply["error"]["code"]) == (2, code)
        await socket.send_str('{"id":3,"rpc":{"method":"me.get"}}')
        assert json.loads(await socket.receive_str())["rpc"]["data"]["id"] == str(person.id)


CONNECTS = {
    "an offset below zero": '{"subs":{"CHANNEL":{"recover":true,"offset":-1}}}',
    "an offset beyond 63 bits": '{"subs":{"CHANNEL":{"recover":true,"offset":9223372036854775808}}}',
    "an offset beyond all": '{"subs":{"CHANNEL":{"recover":true,"offset":1' + "0" * 400 + "}}}",
    "an offset that is a float": '{"subs":{"CHANNEL":{"recover":true,"offset":1.0}}}',
    "an offset that is text": '{"subs":{"CHANNEL":{"recover":true,"offset":"1"}}}',
    "an offset that is true": '{"subs":{"CHANNEL":{"recover":true,"offset":true}}}',
    "an epoch that is a list": '{"subs":{"CHANNEL":{"recover":true,"epoch":["a"]}}}',
    "subs that are a list": '{"subs":["CHANNEL"]}',
    "a sub that is text": '{"subs":{"CHANNEL":"recover"}}',
    "a name that is long": '{"name":"' + "n" * 65 + '"}',
    "a token that is an object": '{"token":{}}',
}


@pytest.mark.parametrize("what", CONNECTS)
async def test_a_connect_that_makes_no_sense_is_not_answered(node: Node, person: Person, what: str) -> None:
    body = {"token": person.token} | json.loads(CONNECTS[what].replace("CHANNEL", f"user:{person.id}"))
    async with aiohttp.ClientSession() as session, session.ws_connect(node.api.base + PATH) as socket:
        await socket.send_str(json.dumps({"id": 1, "connect": body}))
        assert await said(socket) == []
        assert socket.close_code == 3501


@pytest.mark.parametrize("epoch", ["", "x" * 60_000, "\x00", "'; drop table events", "ሰላም"])
async def test_any_text_may_be_an_epoch_and_is_just_not_ours(node: Node, person: Person, epoch: str) -> None:
    async with Live.open(node.api.base) as live:
        await live.connect(person.token, since=(epoch, 0), channel=f"user:{person.id}")
        assert live.subscription["recovered"] is (epoch == "")


@pytest.mark.parametrize("token", ["\x00", "a.b.c", "x" * 60_000, "ሰላም", "..", "e30.e30.e30", "null"])
async def test_any_text_may_be_a_token_and_is_just_not_good(node: Node, token: str) -> None:
    async with Live.open(node.api.base) as live:
        with pytest.raises(LiveError) as refused:
            await live.connect(token)
        assert refused.value.code == 101
        assert await live.close_code() == 3000


async def test_a_frame_of_the_largest_size_is_read_and_one_more_byte_is_not(node: Node, person: Person) -> None:
    whole = 64 * 1024
    frame = '{"id":2,"rpc":{"method":"no.such","data":"'
    async with connected(node, person) as socket:
        await socket.send_str(frame + "x" * (whole - len(frame) - 3) + '"}}')
        assert json.loads(await socket.receive_str())["error"]["code"] == 104
        await socket.send_str(frame + "x" * (whole - len(frame) - 2) + '"}}')
        assert await said(socket) == []
        assert socket.close_code == 1009


async def test_commands_beyond_the_rate_are_refused_and_then_the_socket_goes(node: Node, person: Person) -> None:
    """Three thousand wishes in one frame: some are answered, some told to come later, and that was enough."""
    async with connected(node, person) as socket:
        await socket.send_str("\n".join(f'{{"id":{id_},"ping":{{}}}}' for id_ in range(2, 3002)))
        heard = await said(socket)
        assert heard.pop()["push"]["disconnect"]["code"] == socket.close_code == 4429
        assert [reply["id"] for reply in heard] == list(range(2, len(heard) + 2))
        codes = [reply["error"]["code"] for reply in heard]
        assert codes[:190] == [108] * 190
        late = codes.index(111)
        assert 199 <= late < 250
        assert codes[late:] == [111] * len(codes[late:])
        assert all(reply["error"]["temporary"] for reply in heard[late:])
        assert 400 <= len(codes[late:]) < 500


async def test_a_hasty_client_that_waits_is_served_again(node: Node, person: Person) -> None:
    async with connected(node, person) as socket:
        await socket.send_str("\n".join(f'{{"id":{id_},"ping":{{}}}}' for id_ in range(2, 302)))
        answered = 0
        while answered < 300:
            answered += len((await asyncio.wait_for(socket.receive_str(), 5)).split("\n"))

        async def is_served() -> bool:
            await socket.send_str('{"id":400,"rpc":{"method":"me.get"}}')
            return "rpc" in json.loads(await asyncio.wait_for(socket.receive_str(), 5))

        assert not await is_served()
        await asyncio.sleep(2.5)  # what is owed is paid back at the rate, by the clock
        assert await is_served()


# Below the text


class Raw:
    """A websocket client that keeps no rule."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def open(cls, node: Node, **headers: str) -> AsyncIterator[Raw]:
        address = urlsplit(node.api.base)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        sent = {
            "Host": address.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in sent.items() if value]
        writer.write("\r\n".join([f"GET {PATH} HTTP/1.1", *lines, "", ""]).encode())
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def head(self) -> int:
        """The status of the answer to the upgrade."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        return int(head.split(b" ")[1])

    def send(self, first: int, payload: bytes, *, masked: bool = True) -> None:
        """A frame whose first byte (fin, reserved bits, opcode) is `first`."""
        self.writer.write(framed(first, payload, masked=masked))

    async def frame(self) -> tuple[int, bytes]:
        """The first byte and the payload of the next frame."""
        first, size = await asyncio.wait_for(self.reader.readexactly(2), 5)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        return first, await self.reader.readexactly(size)

    async def text(self) -> bytes:
        """The next frame, which is text."""
        first, payload = await self.frame()
        assert first == TEXT
        return payload

    async def closed_with(self) -> int | None:
        """The code of the close frame that ends what the server says; None if it ends without."""
        while True:
            try:
                first, payload = await self.frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if first == 0x88:
                code: int = struct.unpack("!H", payload[:2])[0]
                return code


TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89


def frames_of_nonsense() -> Iterator[tuple[str, int, bytes]]:
    yield "reserved bits", TEXT | 0x70, b"{}"
    yield "an unknown opcode", 0x83, b"{}"
    yield "a continuation of nothing", 0x80, b"{}"
    yield "text that is not UTF-8", TEXT, b'{"send":"\xff\xfe"}'
    yield "a surrogate in UTF-8", TEXT, b'{"send":"\xed\xa0\x80"}'
    yield "a fragmented ping", 0x09, b"x"
    yield "a ping that is too long", PING, b"x" * 126
    yield "a close of one byte", CLOSE, b"\x03"
    yield "a close with a forbidden code", CLOSE, struct.pack("!H", 1005)
    yield "binary", BINARY, b"\x00" * 64


NONSENSE = {name: (first, payload) for name, first, payload in frames_of_nonsense()}


@pytest.mark.parametrize("when", ["before connect", "after connect"])
@pytest.mark.parametrize("what", NONSENSE)
async def test_a_frame_that_breaks_the_rules_of_websockets_ends_the_connection(
    node: Node, person: Person, what: str, when: str
) -> None:
    async with Raw.open(node) as raw:
        assert await raw.head() == 101
        if when == "after connect":
            raw.send(TEXT, json.dumps({"id": 1, "connect": {"token": person.token}}).encode())
            assert "connect" in json.loads(await raw.text())
        raw.send(*NONSENSE[what])
        assert await raw.closed_with() in (None, 1002, 1003, 1007, 3501)


async def test_a_frame_in_pieces_is_one_frame(node: Node, person: Person) -> None:
    connect = json.dumps({"id": 1, "connect": {"token": person.token}}).encode()
    async with Raw.open(node) as raw:
        assert await raw.head() == 101
        raw.send(0x01, connect[:10])
        raw.send(PING, b"between")
        raw.send(0x00, connect[10:20])
        raw.send(0x80, connect[20:])
        pong = await asyncio.wait_for(raw.reader.readexactly(9), 5)
        assert pong == b"\x8a\x07between"
        assert "connect" in json.loads(await raw.text())


UNMASKED = {
    "the first frame": [(b'{"id":1,"connect":{}}', False)],
    "a later frame": [(b'{"id":1,"connect":{}}', True), (b'{"id":2,"rpc":{"method":"me.get"}}', False)],
    "behind a long one": [(b"\n" * 60_000, True), (b"{}", False)],
    "behind one of a middling length": [(b"\n" * 1000, True), (b"", True), (b"{}", False)],
}


@pytest.mark.parametrize("early", [True, False], ids=["with the handshake", "after the handshake"])
@pytest.mark.parametrize("what", UNMASKED)
async def test_a_frame_without_a_mask_closes_the_socket(node: Node, what: str, early: bool) -> None:
    """RFC 6455 5.1."""
    async with Raw.open(node) as raw:
        if not early:
            assert await raw.head() == 101
        for payload, masked in UNMASKED[what]:
            raw.send(TEXT, payload, masked=masked)
        if early:
            assert await raw.head() == 101
        assert await raw.closed_with() == 1002


async def test_what_was_said_before_a_close_is_obeyed(node: Node, person: Person) -> None:
    """However the network packs it."""
    async with watching(node.process.metrics) as watch, Raw.open(node) as raw:
        assert await raw.head() == 101
        connect = json.dumps({"id": 1, "connect": {"token": person.token}}).encode()
        call = b'{"id":2,"rpc":{"method":"me.get"}}'
        raw.writer.write(framed(TEXT, connect) + framed(TEXT, call) + framed(CLOSE, struct.pack("!H", 1000)))
        assert await raw.closed_with() == 1000

        async def called() -> bool:
            await watch.look()
            return watch.grew("k2k_rpc_seconds_count", rpc="me.get", outcome="ok") == 1

        await eventually(called)


async def test_a_client_that_does_not_wait_for_its_answers_is_not_read_any_further(
    node: Node, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of nothing, by the thousand, behind a command that waits for the database."""
    authenticator, go_on = node.process.sockets._commands.authenticator, asyncio.Event()
    authenticate = authenticator.authenticate

    async def slow(token: str, now: datetime) -> Principal:
        await go_on.wait()
        return await authenticate(token, now)

    monkeypatch.setattr(authenticator, "authenticate", slow)
    before = set(node.process.sockets._open)
    async with Raw.open(node) as raw:
        assert await raw.head() == 101
        raw.send(TEXT, json.dumps({"id": 1, "connect": {"token": person.token}}).encode())
        raw.writer.write(framed(TEXT, b"") * 8000)
        (connection,) = node.process.sockets._open - before

        async def is_paused() -> bool:
            return connection._paused

        await eventually(is_paused)
        assert connection._waiting is not None
        assert len(connection._waiting) < 1100
        go_on.set()
        assert await raw.closed_with() == 4429


async def test_a_connection_that_breaks_amid_a_frame_is_forgotten(node: Node, person: Person) -> None:
    before = node.process.sockets.open_sockets
    async with Raw.open(node) as raw:
        assert await raw.head() == 101
        raw.writer.write(bytes([TEXT, 0x80 | 126]) + struct.pack("!H", 60_000) + b"mask" + b"half")
        await raw.writer.drain()
        assert node.process.sockets.open_sockets == before + 1
    async with asyncio.timeout(5):
        while node.process.sockets.open_sockets != before:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": ""},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"Sec_WebSocket_Version": "7777"},
        {"Sec_WebSocket_Version": ""},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "short"},
        {"Sec_WebSocket_Key": "not base64 at all !!!!!!"},
    ],
    ids=lambda headers: ", ".join(f"{name} {value or 'missing'}" for name, value in headers.items()),
)
async def test_half_an_upgrade_is_answered_as_a_problem(node: Node, headers: dict[str, str]) -> None:
    async with Raw.open(node, **headers) as raw:
        assert await raw.head() == 426
        problem = json.loads(await asyncio.wait_for(raw.reader.readuntil(b"}"), 5))
        assert (problem["status"], problem["code"]) == (426, "bad-request")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", " ", "file://", "http://127.0.0.1:1"])
async def test_a_foreign_origin_is_answered_as_a_problem(node: Node, origin: str) -> None:
    address = urlsplit(node.api.base)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"GET {PATH} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
        f"Origin: {origin}\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "denied"
