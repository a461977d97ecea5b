"""The network between an app and the processes: it leads to the one or the other, and a test may cut it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from k2k.live.door import PATH
from tests.support import Node


class Relay:
    """An address that stays while processes come and go."""

    def __init__(self, node: Node) -> None:
        self.leads_to = node
        self.opened = 0
        """Connections that apps have made, those that were refused included."""
        self.received = bytearray()
        """What the processes sent, as it stood on the wire."""
        self._whole = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, node: Node) -> AsyncIterator[Relay]:
        relay = cls(node)
        relay._server = await asyncio.start_server(relay._carry, "127.0.0.1", 0)
        try:
            yield relay
        finally:
            relay.cut()
            relay._server.close()
            await relay._server.wait_closed()

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{PATH}"

    def cut(self) -> None:
        """Whatever is open breaks off, and nothing gets through until `mend`."""
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self, node: Node | None = None) -> None:
        """Connections get through again, to `node` if one is given."""
        self.leads_to = node or self.leads_to
        self._whole = True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        if not self._whole:
            writer.transport.abort()
            return
        to = urlsplit(self.leads_to.api.base)
        try:
            answers, orders = await asyncio.open_connection(to.hostname, to.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, orders}
        await asyncio.gather(self._pump(reader, orders), self._pump(answers, writer, self.received))
        self._writers -= {writer, orders}

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, copy: bytearray | None = None) -> None:
        with contextlib.suppress(OSError):
            while read := await source.read(65536):
                if copy is not None:
                    copy += read
                sink.write(read)
                await sink.drain()
        sink.close()
