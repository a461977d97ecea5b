"""A bare picows server that sends what Redis publishes to everybody: what a delivery costs at the least.

No authentication, no rooms, no promise: PORT and REDIS_URL in the environment. Measured against, never shipped.
"""

import os

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server
from redis.asyncio import Redis

ROOM = os.environ["ROOM"]


class Client(WSListener):
    def __init__(self, clients: set[WSTransport]) -> None:
        self._clients = clients

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, b'{"ready":true}')
            self._clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._clients.discard(transport)


async def main() -> None:
    clients: set[WSTransport] = set()

    def welcome(_: WSUpgradeRequest) -> Client:
        return Client(clients)

    await ws_create_server(welcome, "127.0.0.1", int(os.environ["PORT"]), backlog=4096)
    listener = Redis.from_url(os.environ["REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
    await listener.subscribe(ROOM)
    async for message in listener.listen():
        for transport in clients:
            transport.send(WSMsgType.TEXT, message["data"])


if __name__ == "__main__":
    uvloop.run(main())
