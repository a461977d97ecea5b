"""Bodies that are, or become, larger than they may be: refused early, and the process does not grow by them."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from k2k.core.settings import Settings
from tests.raw_http import connection, parsed
from tests.support import PREFIX, Api, Subprocess, free_port

LOGIN = f"{PREFIX}/auth/login"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
MIB = 2**20
LIMIT = 256 * 1024
SPARE = b" " * (40 * MIB)
"""What a bomb becomes."""


def packed(coding: str) -> bytes:
    return {
        "gzip": lambda: gzip.compress(SPARE, 9),
        "deflate": lambda: zlib.compress(SPARE, 9),
        "raw deflate": lambda: zlib.compress(SPARE, 9, -15),
        "gzip of gzip": lambda: gzip.compress(gzip.compress(SPARE, 9), 9),
        "many gzips": lambda: gzip.compress(b" " * MIB, 9) * 40,
    }[coding]()


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


@pytest.fixture
async def process(spawn: type[Subprocess], settings: Settings) -> Subprocess:
    """A real process, warmed up."""
    started = await spawn.start(settings, free_port(), K2K_SERVER__PROXIES="127.0.0.0/8")
    for _ in range(3):
        await asyncio.gather(*(sent(started.api, b"x" * LIMIT, JSON) for _ in range(8)))
    return started


def elsewhere() -> str:
    """An address that no limit knows yet."""
    return f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"


async def sent(api: Api, body: Any, headers: dict[str, str]) -> int:
    """The status that such a sign-in is answered with. The connection may end before all of it was taken."""
    told = {"X-Forwarded-For": elsewhere(), **headers}
    async with aiohttp.ClientSession() as session, session.post(api.base + LOGIN, data=body, headers=told) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert problem["status"] == answer.status
        return answer.status


async def grown(process: Subprocess, attack: Callable[[], Awaitable[int]], expected: set[int]) -> int:
    """By how many bytes the process grew, looked at every few milliseconds, while eight do the same three times."""
    pid, highest, before = process.process.pid, 0, resident(process.process.pid)

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, resident(pid))
            await asyncio.sleep(0.003)

    watching = asyncio.create_task(watch())
    try:
        for _ in range(3):
            statuses = await asyncio.gather(*(attack() for _ in range(8)))
            assert set(statuses) <= expected
    finally:
        watching.cancel()
    assert (await process.api.get("/health/ready", prefix="")).status == 200
    return highest - before


async def test_no_body_makes_the_process_grow(process: Subprocess) -> None:
    attacks: dict[str, tuple[Any, dict[str, str], set[int]]] = {
        "one byte too many": (b" " * (LIMIT + 1), JSON, {413}),
        "form, one byte too many": (b"a=" + b"b" * (LIMIT - 1), FORM, {413}),
        "1,001 fields": ("&".join(f"f{n}=1" for n in range(1001)).encode(), FORM, {413}),
        "a field 1,001 times": (b"&".join([b"username=a"] * 1001), FORM, {413}),
        "50,000 fields": (b"&".join([b"a=b"] * 50_000), FORM, {413}),
        "18,000 names": (json.dumps({f"f{n:06}": 1 for n in range(18_000)}).encode(), JSON, {400}),
        "deep lists": (b"[" * 200_000, JSON, {400}),
        "deep objects": (b'{"a":' * 50_000, JSON, {400}),
    }
    for coding in ("gzip", "deflate", "raw deflate", "gzip of gzip", "many gzips"):
        named = {"Content-Encoding": coding.split()[-1].removesuffix("s")}
        attacks[coding] = (packed(coding), {**JSON, **named}, {400, 413})
    growths = {}
    for name, (body, headers, expected) in attacks.items():
        growths[name] = await grown(process, partial(sent, process.api, body, headers), expected)
    growths["endless chunks"] = await grown(process, lambda: endless(process.api), {413})
    assert await sent(process.api, "&".join(f"f{n}=1" for n in range(50)).encode(), FORM) == 422, (
        "few enough to be told"
    )
    assert max(growths.values()) <= 10 * MIB, growths


async def endless(api: Api) -> int:
    """A body in chunks that never ends: refused at the limit, and the connection ends while it still goes on."""
    async with connection(api.base) as (reader, writer):
        writer.write(f"POST {LOGIN} HTTP/1.1\r\nHost: k2k\r\nContent-Type: application/json\r\n".encode())
        writer.write(f"X-Forwarded-For: {elsewhere()}\r\n".encode())
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")

        async def go_on() -> None:
            while True:
                writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)

        going = asyncio.create_task(go_on())
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        return parsed(head)[0].status
