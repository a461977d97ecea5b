"""A TCP proxy that breaks connections on purpose: slow, stalled, dark, reset at once or exactly around a COMMIT."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

CHUNK = 65536
CONNECT_SECONDS = 5.0
STARTUP_CODES = {80877103, 80877104}  # asks for TLS or GSS; the answer is one byte, then the real start follows


class Spy:
    """Follows one PostgreSQL connection as far as needed to know when something is about to be committed.

    That is a simple COMMIT, or the execution of a statement that calls emit() outside of a transaction.
    """

    def __init__(self) -> None:
        self._up = bytearray()
        self._down = bytearray()
        self._started = False
        self._one_byte = False
        self._in_transaction = False
        self._announcing: set[bytes] = set()

    def sent(self, chunk: bytes) -> bool:
        """Take what the client sends; whether its last complete messages begin a commit."""
        self._up += chunk
        commits = False
        while (message := self._next(self._up, typed=self._started)) is not None:
            kind, body = message
            if not self._started:
                code = int.from_bytes(body[:4], "big")
                self._one_byte = code in STARTUP_CODES
                self._started = not self._one_byte
            else:
                commits |= self._commits(kind, body)
        return commits

    def received(self, chunk: bytes) -> bool:
        """Take what the server answers; whether it is now ready for the next statement."""
        self._down += chunk
        if self._one_byte and self._down:
            del self._down[0]
            self._one_byte = False
        ready = False
        while (message := self._next(self._down, typed=True)) is not None:
            if message[0] == b"Z":
                ready, self._in_transaction = True, message[1] != b"I"
        return ready

    def _commits(self, kind: bytes, body: bytes) -> bool:
        if kind == b"P":
            name, query = body.split(b"\0", 2)[:2]
            (self._announcing.add if b"emit(" in query else self._announcing.discard)(name)
        elif kind == b"B":
            return not self._in_transaction and body.split(b"\0", 2)[1] in self._announcing
        return kind == b"Q" and body.upper().startswith(b"COMMIT")

    @staticmethod
    def _next(buffer: bytearray, *, typed: bool) -> tuple[bytes, bytes] | None:
        """The next complete message, taken out of the buffer."""
        head = 5 if typed else 4
        if len(buffer) < head:
            return None
        end = int.from_bytes(buffer[head - 4 : head], "big") + head - 4
        if len(buffer) < end:
            return None
        message = bytes(buffer[: head - 4]), bytes(buffer[head:end])
        del buffer[:end]
        return message


@dataclass
class Trap:
    """Resets the next `left` connections that commit: `before` the server hears of it, or `after` it has done so."""

    when: Literal["before", "after"]
    left: int
    sprung: int = 0

    def spring(self) -> bool:
        if self.left == 0:
            return False
        self.left -= 1
        self.sprung += 1
        return True


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    proxy: Proxy
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    dark: bool
    """What is sent arrives nowhere, for as long as the connection lives."""
    spy: Spy | None
    ends_when_ready: bool = False

    async def carry(self) -> None:
        """Pass both ways until either side ends, then end the other."""
        directions = [asyncio.ensure_future(one) for one in (self._up(), self._down())]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            while self.dark and self.proxy.dark:  # the other side does not hear of the end either
                await self.proxy.changed.wait()
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            self.reset()

    def reset(self) -> None:
        """End both sides with a reset."""
        for _, writer in (self.client, self.server):
            reset(writer)

    async def _up(self) -> None:
        while chunk := await self.client[0].read(CHUNK):
            commits = self.spy.sent(chunk) if self.spy else False
            if not await self._may_pass():
                continue
            trap = self.proxy.trap
            if commits and trap is not None and trap.spring():
                if trap.when == "before":
                    return
                self.ends_when_ready = True
            self.server[1].write(chunk)
            await self.server[1].drain()

    async def _down(self) -> None:
        while chunk := await self.server[0].read(CHUNK):
            ready = self.spy.received(chunk) if self.spy else False
            if self.ends_when_ready:
                if ready:
                    return
                continue
            if await self._may_pass():
                self.client[1].write(chunk)
                await self.client[1].drain()

    async def _may_pass(self) -> bool:
        await self.proxy.flows.wait()
        if self.proxy.delay:
            await asyncio.sleep(self.proxy.delay)
        return not self.dark


@dataclass(eq=False)
class Proxy:
    """One way from a process to a server. Faults set its fields; `upstream` may change while it runs."""

    upstream: int
    postgres: bool = False
    port: int = 0
    delay: float = 0.0
    """Seconds every chunk takes, each way."""
    trap: Trap | None = None
    dark: bool = False
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    links: set[Link] = field(default_factory=set)
    _listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen on a free port of loopback."""
        self.flows.set()
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.light()
        self.flows.set()
        self.reset()
        while self.links:
            await asyncio.sleep(0.01)

    def reset(self) -> None:
        """Reset every connection there is."""
        for link in list(self.links):
            link.reset()

    def darken(self) -> None:
        """Swallow everything from now on, without a word to either side."""
        self.dark = True
        self.changed.clear()
        for link in self.links:
            link.dark = True

    def light(self) -> None:
        """New connections work again; those of before stay dead."""
        self.dark = False
        self.changed.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                server = await asyncio.open_connection("127.0.0.1", self.upstream)
        except (OSError, TimeoutError):
            reset(writer)
            return
        link = Link(self, (reader, writer), server, self.dark, Spy() if self.postgres else None)
        self.links.add(link)
        try:
            with suppress(OSError):
                await link.carry()
        finally:
            self.links.discard(link)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    if not writer.transport.is_closing():
        with suppress(OSError):
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
