"""HTTP that two readers may read differently is refused, or read as one request; and nothing of it is quoted."""

from __future__ import annotations

import asyncio
import re

import pytest
from structlog.testing import capture_logs

from tests.raw_http import RawAnswer, answers, connection, one_answer, parsed
from tests.support import Api, Node

GET = b"GET /api/v1/nowhere HTTP/1.1\r\n"
HOST = b"Host: k2k\r\n"
POST = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: k2k\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HUSH = b"canary-d41d8cd98f"
HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: k2k\r\nConnection: close\r\n\r\n"
"""What must never be taken for a request of its own where it hides behind something refused."""

REFUSED = {
    "content-length and chunked": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and content-length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
    "a coding that sounds like chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked over HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "space before the colon of a coding": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "space before a colon": GET + b"Host : k2k\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "one length twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "list of lengths": POST + b"Content-Length: 0, 0\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "length with a plus": POST + b"Content-Length: +0\r\n\r\n",
    "hexadecimal length": POST + b"Content-Length: 0x0\r\n\r\n",
    "length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n",
    "length with a space": POST + b"Content-Length: 1 0\r\n\r\n",
    "length beyond counting": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "length in other digits": POST + "Content-Length: ٠\r\n\r\n".encode(),
    "length of nothing": POST + b"Content-Length:\r\n\r\n",
    "bare LF": b"GET /api/v1/nowhere HTTP/1.1\nHost: k2k\n\n",
    "bare LF after a header": GET + b"Host: k2k\nA: b\r\n\r\n",
    "bare CR after a header": GET + b"Host: k2k\rA: b\r\n\r\n",
    "folded header": GET + HOST + b"A: b\r\n c\r\n\r\n",
    "folded first header": GET + b" A: b\r\n" + HOST + b"\r\n",
    "NUL in a value": GET + HOST + b"A: b\x00c\r\n\r\n",
    "NUL in a name": GET + HOST + b"A\x00: c\r\n\r\n",
    "escape in a value": GET + HOST + b"A: \x1b[31m\r\n\r\n",
    "escape in a path": b"GET /a\x1b[31m HTTP/1.1\r\n" + HOST + b"\r\n",
    "no name": GET + HOST + b": c\r\n\r\n",
    "no colon": GET + HOST + b"abc\r\n\r\n",
    "no host": GET + b"\r\n",
    "two hosts": GET + HOST + b"Host: evil.example\r\n\r\n",
    "chunk beyond counting": CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "chunk of a negative size": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "chunk with 0x": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "chunk with a space": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "chunk longer than it says": CHUNKED + b"2\r\n{}xx\r\n0\r\n\r\n",
    "chunk behind bare LF": CHUNKED + b"2\n{}\n0\n\n",
    "extension with a bare LF": CHUNKED + b"2;\nxx\r\n{}\r\n0\r\n\r\n",
    "trailer that counts as a header": CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
    "trailers without end": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    "absolute form that is none": b"GET http://[evil/ HTTP/1.1\r\nHost: k2k\r\n\r\n",
    "asterisk with GET": b"GET * HTTP/1.1\r\nHost: k2k\r\n\r\n",
    "long line": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: k2k\r\n\r\n",
    "long value": GET + HOST + b"A: " + b"x" * 9000 + b"\r\n\r\n",
    "long name": GET + HOST + b"x" * 9000 + b": a\r\n\r\n",
    "65 headers": GET + HOST + b"".join(b"A%d: b\r\n" % number for number in range(64)) + b"\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: k2k\r\n\r\n",
    "method in small letters": b"get / HTTP/1.1\r\nHost: k2k\r\n\r\n",
    "space in the target": b"GET /api/v1/now here HTTP/1.1\r\nHost: k2k\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: k2k\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def is_refusal(answer: RawAnswer) -> None:
    """A problem document that says nothing of the request, in the headers of every answer."""
    assert (answer.status, answer.problem["code"]) == (400, "bad-request")
    assert answer.headers["Server"] == "Key2Key"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["Cache-Control"] == "no-store"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.headers["X-Request-ID"] == answer.problem["request_id"]


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
async def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_ends(node: Node, sent: bytes) -> None:
    """Whatever follows on the connection is not read any more."""
    with capture_logs() as logged:
        (refused,) = await answers(node.api.base, sent + HIDDEN)
    is_refusal(refused)
    (line,) = [line for line in logged if line["event"] in ("broken http", "request")]
    assert line.keys() == {"event", "error", "status", "request_id", "log_level"}
    assert (line["event"], line["request_id"]) == ("broken http", refused.problem["request_id"])


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /?token=" + HUSH + b" HTTP/9.9\r\nHost: k2k\r\n\r\n",
        GET + HOST + b"Authorization: Bearer " + HUSH + b"\x00\r\n\r\n",
        HUSH + b"\r\n\r\n",
        POST + b"Expect: " + HUSH + b"\r\nContent-Length: 2\r\n\r\n{}",
        CHUNKED + HUSH + b"\r\n",
    ],
)
async def test_what_is_refused_is_not_quoted(node: Node, sent: bytes) -> None:
    with capture_logs() as logged:
        (refused,) = await answers(node.api.base, sent)
    assert refused.problem["code"] == "bad-request"
    assert HUSH not in refused.body + str(refused.headers).encode()
    assert HUSH.decode() not in str(logged)


SAFE = {
    "absolute form": (
        b"GET http://evil.example/api/v1/nowhere HTTP/1.1\r\nHost: k2k\r\nConnection: close\r\n\r\n",
        404,
    ),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: k2k\r\nConnection: close\r\n\r\n", 404),
    "no version": (b"GET /api/v1/nowhere\r\n\r\n", 404),
    "HTTP/1.0": (b"GET /api/v1/nowhere HTTP/1.0\r\n\r\n", 404),
    "body of a GET": (GET + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, 404),
    "extension of a chunk": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"2;a=b\r\n{}\r\n0\r\n\r\n",
        422,
    ),
    "endless extension": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        + b"2;"
        + b"a" * 300_000
        + b"\r\n{}\r\n0\r\n\r\n",
        422,
    ),
    "64 headers": (
        GET + HOST + b"Connection: close\r\n" + b"".join(b"A%d: b\r\n" % number for number in range(62)) + b"\r\n",
        404,
    ),
}


@pytest.mark.parametrize(("sent", "status"), SAFE.values(), ids=SAFE.keys())
async def test_what_is_odd_and_clear_is_one_request(node: Node, sent: bytes, status: int) -> None:
    with capture_logs() as logged:
        (answer,) = await answers(node.api.base, sent)
    assert answer.status == answer.problem["status"] == status
    assert [line["event"] for line in logged] == ["request"]


async def test_an_upgrade_to_http_2_is_passed_over(node: Node) -> None:
    sent = (
        GET + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    with capture_logs() as logged:
        async with connection(node.api.base) as (reader, writer):
            writer.write(sent + HIDDEN)
            answer = await one_answer(reader)
    assert (answer.status, answer.problem["code"]) == (404, "no-such-route")
    assert [line["path"] for line in logged] == ["/api/v1/nowhere"]


async def test_garbage_behind_a_good_request_ends_the_connection(node: Node) -> None:
    async with connection(node.api.base) as (reader, writer):
        writer.write(GET + HOST + b"\r\n")
        assert (await one_answer(reader)).status == 404
        writer.write(HUSH + b"\r\n\r\n" + HIDDEN)
        async with asyncio.timeout(10):
            (refused,) = parsed(await reader.read())
    is_refusal(refused)


async def test_an_expectation_that_nobody_can_meet_is_a_problem_too(api: Api) -> None:
    (refused,) = await answers(api.base, POST + b"Expect: tea\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN)
    assert (refused.status, refused.problem["code"], refused.problem["status"]) == (417, "bad-request", 417)
    assert refused.headers["X-Request-ID"] == refused.problem["request_id"]
    assert refused.headers["Connection"] == "close"


async def test_who_expects_to_be_let_on_is_let_on(api: Api) -> None:
    async with connection(api.base) as (reader, writer):
        writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await one_answer(reader)).status == 422
