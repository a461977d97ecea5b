"""Rooms on FastAPI's websockets and Redis pub/sub, as one would write them today: measured against, never shipped.

A room is a Redis channel that the process listens to while it has members of it; what comes is sent on as it came.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import jwt
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis

SECRET = os.environ["SECRET"]
INSERT = "insert into peer_messages (room, sender, client_id, message) values ($1, $2, $3, $4)"


class Rooms:
    """Who listens to what in this process."""

    def __init__(self, redis: Redis) -> None:
        self._members: dict[str, set[WebSocket]] = {}
        self._listener = redis.pubsub(ignore_subscribe_messages=True)

    async def join(self, socket: WebSocket, *names: str) -> None:
        fresh = [name for name in names if name not in self._members]
        for name in names:
            self._members.setdefault(name, set()).add(socket)
        if fresh:
            await self._listener.subscribe(*fresh)

    async def leave(self, socket: WebSocket, *names: str) -> None:
        for name in names:
            members = self._members[name]
            members.discard(socket)
            if not members:
                del self._members[name]
                await self._listener.unsubscribe(name)

    async def follow(self) -> None:
        await self._listener.subscribe("nothing")
        async for message in self._listener.listen():
            text = message["data"].decode()
            for socket in tuple(self._members.get(message["channel"].decode(), ())):
                try:
                    await socket.send_text(text)
                except (WebSocketDisconnect, RuntimeError):  # its own task sees to it
                    continue


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.redis = Redis.from_url(os.environ["REDIS_URL"])
    app.state.rooms = Rooms(app.state.redis)
    size = int(os.environ["POOL"])
    app.state.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=size, max_size=size)
    following = asyncio.create_task(app.state.rooms.follow())
    yield
    following.cancel()
    await app.state.pool.close()


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.websocket("/ws")
async def live(socket: WebSocket) -> None:
    await socket.accept()
    names: list[str] = []
    rooms: Rooms = app.state.rooms
    try:
        wish = json.loads(await socket.receive_text())
        claims = jwt.decode(wish["token"], SECRET, algorithms=["HS256"], options={"verify_aud": False})
        names = [f"user:{claims['sub']}", *wish["rooms"]]
        await rooms.join(socket, *names)
        await socket.send_text('{"ready":true}')
        while True:
            said = json.loads(await socket.receive_text())
            message = {"room": said["room"], "sender": claims["sub"], **said}
            await app.state.pool.execute(INSERT, said["room"], claims["sub"], said["client_id"], said["message"])
            await app.state.redis.publish(said["room"], json.dumps(message))
    except WebSocketDisconnect:
        pass
    except (jwt.PyJWTError, KeyError, ValueError):
        await socket.close(1008)
    finally:
        await rooms.leave(socket, *names)
