"""A server that does nothing but answer, to see how far the load generator itself gets: `trivial.py PORT BYTES`."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Trivial(asyncio.Protocol):
    """Answers every request at once with the same bytes. Understands requests without a body, one at a time."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if self._asked.endswith(b"\r\n\r\n"):
            self._asked = b""
            self._transport.write(self._answer)


async def serve(port: int, size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    server = await asyncio.get_running_loop().create_server(lambda: Trivial(answer), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
