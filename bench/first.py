"""How long an event takes from COMMIT to a socket, on servers of the bench's own.

    make bench

Two serving processes, PostgreSQL with fsync, Valkey. An agent writes messages through one process at a steady pace; the
buyer's sockets hang on both. COMMIT is what PostgreSQL says it was (`track_commit_timestamp`, taken before the commit
record is flushed, so the flush counts against us); arrival is this process's clock when it has read the frame.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg

from k2k.infra import embedded, migrations

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".k2k" / "bench"
PASSWORD = "addis-abeba-2026"
# On an idle machine: far below what one process can do, so that what is measured is the way and not a queue.
PER_SECOND = 50


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """PostgreSQL and Valkey, and the environment of a serving process on them."""
    with embedded.hold(HOME):
        postgres = embedded.start_postgres(HOME / "postgres")
        try:
            valkey = embedded.start_valkey(HOME / "valkey")
            try:
                url = asyncio.run(migrations.ensure_database(postgres.url, "bench"))
                yield {
                    "PATH": os.environ["PATH"],
                    "K2K_HOME": str(HOME),
                    "K2K_AUTH__SECRET": secrets.token_urlsafe(48),
                    "K2K_LOG__LEVEL": "warning",
                    "DATABASE_URL": url,
                    "REDIS_URL": valkey.url,
                }
            finally:
                valkey.stop()
        finally:
            postgres.stop()


@asynccontextmanager
async def process(environment: dict[str, str], port: int) -> AsyncIterator[str]:
    """A serving process; its address."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "run.py",
        "serve",
        cwd=ROOT,
        env={**environment, "K2K_SERVER__PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(30):
            while not await ready(http, base):
                await asyncio.sleep(0.1)
        yield base
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()


async def ready(http: aiohttp.ClientSession, base: str) -> bool:
    try:
        async with http.get(f"{base}/health/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


class Person:
    """Somebody signed in, with REST and sockets."""

    def __init__(self, http: aiohttp.ClientSession, base: str, token: str) -> None:
        self._http, self._base, self.token = http, base, token

    @classmethod
    async def sign_in(cls, http: aiohttp.ClientSession, base: str, name: str) -> Person:
        form = {"username": f"{name}@demo.key2key.example", "password": PASSWORD}
        async with http.post(f"{base}/api/v1/auth/login", data=form) as answer:
            return cls(http, base, (await answer.json())["access_token"])

    async def post(self, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._http.post(f"{self._base}/api/v1{path}", json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def listen(self, base: str, arrivals: dict[str, float], ready: asyncio.Event) -> None:
        """Note for each message when it arrived (seconds since 1970)."""
        async with self._http.ws_connect(f"{base}/connection/websocket") as socket:
            await socket.send_str(json.dumps({"id": 1, "connect": {"token": self.token}}))
            async for frame in socket:
                now = time.time()
                for line in frame.data.split("\n"):
                    reply = json.loads(line)
                    if "connect" in reply:
                        ready.set()
                    elif not reply:
                        await socket.send_str("{}")
                    elif "push" in reply and reply["push"]["pub"]["data"]["type"] == "message.new":
                        arrivals[reply["push"]["pub"]["data"]["data"]["message_id"]] = now


async def conversation(agent: Person, buyer: Person) -> str:
    """A claimed lead's conversation."""
    home = await agent.post(
        "/properties", title="Bench", property_type="room", listing_type="rent", price=1, city="Addis Ababa"
    )
    enquiry = await buyer.post(f"/listings/{home['id']}/enquiries", client_id=uuid4().hex, message="Hello")
    await agent.post(f"/leads/{enquiry['lead_id']}/claim")
    return str(enquiry["conversation_id"])


async def measure(environment: dict[str, str], count: int) -> None:
    async with (
        process(environment, 18080) as first,
        process(environment, 18081) as second,
        aiohttp.ClientSession() as http,
    ):
        agent, buyer = [await Person.sign_in(http, first, name) for name in ("selam", "hanna")]
        talk = await conversation(agent, buyer)
        arrivals: list[dict[str, float]] = [{}, {}]
        sent: list[float] = []
        async with asyncio.TaskGroup() as group:
            listeners = []
            for base, found in zip((first, second), arrivals, strict=True):
                connected = asyncio.Event()
                listeners.append(group.create_task(buyer.listen(base, found, connected)))
                await connected.wait()
            for number in range(count + PER_SECOND):
                if number == PER_SECOND:  # the first second warms caches and plans
                    for found in arrivals:
                        found.clear()
                    sent.clear()
                begun = time.perf_counter()
                await agent.post("/chat/messages", conversation_id=talk, client_id=uuid4().hex, message="x" * 100)
                sent.append(time.perf_counter() - begun)
                await asyncio.sleep(max(0.0, 1 / PER_SECOND - sent[-1]))
            await asyncio.sleep(1)
            for listener in listeners:
                listener.cancel()
        committed = await commits(environment["DATABASE_URL"])
    show("POST /chat/messages, whole request", sent, count)
    for where, found in zip(("same process", "other process, by way of Valkey"), arrivals, strict=True):
        show(f"commit to socket, {where}", [at - committed[id_] for id_, at in found.items()], count)


async def commits(url: str) -> dict[str, float]:
    """When PostgreSQL committed each message's event (seconds since 1970)."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select distinct data->>'message_id', extract(epoch from pg_xact_commit_timestamp(xid::xid))::float8 "
        "from events where type = 'message.new'"
    )
    await connection.close()
    return {row[0]: row[1] for row in rows}


def show(what: str, seconds: list[float], expected: int) -> None:
    """One line of figures in milliseconds; says so if something did not arrive."""
    cuts = statistics.quantiles(seconds, n=100)
    missing = "" if len(seconds) == expected else f"   {expected - len(seconds)} of {expected} MISSING"
    figures = f"p50 {cuts[49] * 1000:6.2f}   p99 {cuts[98] * 1000:6.2f}   max {max(seconds) * 1000:6.2f} ms"
    print(f"{what:<48} {figures}{missing}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="messages to measure")
    count = parser.parse_args().count
    print(f"{count} messages at {PER_SECOND}/s, about {count // PER_SECOND + 5} s …", flush=True)
    with servers() as environment:
        asyncio.run(measure(environment, count))


if __name__ == "__main__":
    main()
