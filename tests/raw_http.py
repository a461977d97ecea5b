"""HTTP as a client says it that is no good client: bytes as they stand, and every answer until the server hangs up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def problem(self) -> Any:
        """The problem document, which says so."""
        assert self.headers["Content-Type"] == "application/problem+json"
        return json.loads(self.body)


@asynccontextmanager
async def connection(base: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server at `base` (http://host:port)."""
    host, port = base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answers(base: str, sent: bytes) -> list[RawAnswer]:
    """Every answer to these very bytes. The server must hang up within 10 s."""
    async with connection(base) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(10):
            return parsed(await reader.read())


async def one_answer(reader: asyncio.StreamReader, *, to_head: bool = False) -> RawAnswer:
    """The next answer on a connection that stays. One to HEAD has no body."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(HEAD_END)
        status, headers = _head(head[: -len(HEAD_END)])
        length = 0 if to_head or status in (204, 304) else int(headers["Content-Length"])
        return RawAnswer(status, headers, await reader.readexactly(length))


def parsed(said: bytes) -> list[RawAnswer]:
    """The answers that stand in `said`, one after another; "100 Continue" is none."""
    found = []
    while said:
        head, _, said = said.partition(HEAD_END)
        status, headers = _head(head)
        if status == 100:
            continue
        length = int(headers.get("Content-Length", "0"))
        found.append(RawAnswer(status, headers, said[:length]))
        said = said[length:]
    return found


def _head(head: bytes) -> tuple[int, CIMultiDict[str]]:
    line, *lines = head.decode("latin-1").split("\r\n")
    assert line.startswith("HTTP/"), line
    return int(line.split(" ")[1]), CIMultiDict(tuple(one.split(": ", 1)) for one in lines)  # type: ignore[misc]
