"""How long an event takes from COMMIT to a socket.

    make bench ONLY=delivery      or, for a look: python -m bench.delivery --quick

Two serving processes on one PostgreSQL with fsync and one Valkey. An agent writes messages through the first at a
steady pace, far below what it can do, so that what is measured is the way and not a queue; the buyer's sockets hang on
both. COMMIT is what PostgreSQL says it was (`track_commit_timestamp`, taken before the commit record is flushed, so the
flush counts against us); arrival is this process's clock when it has read the frame.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg

from bench.harness import report
from bench.harness.command import Bench, run
from bench.harness.compare import MOST_FOREIGN
from bench.harness.figures import percentile, spread
from bench.harness.machine import Cores, Watch, versions
from bench.harness.servers import backing, key2key, secret
from k2k.flows.sample_market import DEMO_PASSWORD

PER_SECOND = 50
WARM_UP_SECONDS = 2
PATIENCE_SECONDS = 10.0
WAYS = ("commit to socket, same process", "commit to socket, other process, by way of Valkey")
REQUEST = "whole request, POST /chat/messages"


@dataclass
class Listener:
    """A buyer's socket on one process, and when each message arrived there (seconds since 1970)."""

    base: str
    arrivals: dict[str, float] = field(default_factory=dict)
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, http: aiohttp.ClientSession, token: str) -> None:
        async with http.ws_connect(f"{self.base}/connection/websocket") as socket:
            await socket.send_str(json.dumps({"id": 1, "connect": {"token": token}}))
            async for frame in socket:
                now = time.time()
                for line in frame.data.split("\n"):
                    reply = json.loads(line)
                    if "connect" in reply:
                        self.connected.set()
                    elif not reply:
                        await socket.send_str("{}")
                    elif "push" in reply and reply["push"]["pub"]["data"]["type"] == "message.new":
                        self.arrivals[reply["push"]["pub"]["data"]["data"]["message_id"]] = now
        raise ConnectionError(f"the socket on {self.base} was closed")


@dataclass(frozen=True)
class Person:
    """Somebody signed in."""

    http: aiohttp.ClientSession
    base: str
    token: str

    @classmethod
    async def sign_in(cls, http: aiohttp.ClientSession, base: str, name: str) -> Person:
        form = {"username": f"{name}@demo.key2key.example", "password": DEMO_PASSWORD}
        async with http.post(f"{base}/api/v1/auth/login", data=form) as answer:
            return cls(http, base, (await answer.json())["access_token"])

    async def post(self, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.post(f"{self.base}/api/v1{path}", json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()


@dataclass
class Round:
    """The seconds that everything took which was sent in one round."""

    requests: list[float] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


async def conversation(agent: Person, buyer: Person) -> str:
    """A claimed lead's conversation."""
    home = await agent.post(
        "/properties", title="Bench", property_type="room", listing_type="rent", price=1, city="Addis Ababa"
    )
    enquiry = await buyer.post(f"/listings/{home['id']}/enquiries", client_id=uuid4().hex, message="Hello")
    await agent.post(f"/leads/{enquiry['lead_id']}/claim")
    return str(enquiry["conversation_id"])


async def talk(agent: Person, conversation: str, count: int) -> Round:
    """Send `count` messages at the steady pace, one after the other.

    A request that is held up by the one before it is charged for the wait; our own timer's lateness is not.
    """
    found = Round()
    begun = time.perf_counter()
    for number in range(count):
        due = begun + number / PER_SECOND
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
            due = time.perf_counter()
        sent = await agent.post(
            "/chat/messages", conversation_id=conversation, client_id=uuid4().hex, message="x" * 100
        )
        found.requests.append(time.perf_counter() - due)
        found.messages.append(sent["id"])
    return found


@asynccontextmanager
async def listening(http: aiohttp.ClientSession, bases: Sequence[str], token: str) -> AsyncIterator[list[Listener]]:
    listeners = [Listener(base) for base in bases]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listener.listen(http, token)) for listener in listeners]
        for listener in listeners:
            await asyncio.wait_for(listener.connected.wait(), PATIENCE_SECONDS)
        yield listeners
        for task in tasks:
            task.cancel()


async def rounds(bases: Sequence[str], url: str, number: int, count: int) -> list[dict[str, list[float]]]:
    """For each round the seconds of what is measured, by its name. Raises TimeoutError if a message does not arrive."""
    async with aiohttp.ClientSession() as http:
        agent, buyer = [await Person.sign_in(http, bases[0], name) for name in ("selam", "hanna")]
        where = await conversation(agent, buyer)
        async with listening(http, bases, buyer.token) as listeners:
            await talk(agent, where, WARM_UP_SECONDS * PER_SECOND)
            found = []
            for one in range(number):
                sent = await talk(agent, where, count)
                await arrived(listeners, sent.messages)
                committed = await commits(url)
                ways = {
                    way: [listener.arrivals[id_] - committed[id_] for id_ in sent.messages]
                    for way, listener in zip(WAYS, listeners, strict=True)
                }
                found.append({REQUEST: sent.requests, **ways})
                print(f"  round {one + 1} of {number}: " + "; ".join(map(worst, found[-1].items())), flush=True)
    return found


async def arrived(listeners: Sequence[Listener], messages: Sequence[str]) -> None:
    """Wait until every listener has every message."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for listener in listeners:
            while not listener.arrivals.keys() >= set(messages):
                await asyncio.sleep(0.02)


def worst(measured: tuple[str, list[float]]) -> str:
    return f"{measured[0]} p99 {percentile(measured[1], 0.99) * 1e3:.2f} ms"


async def commits(url: str) -> dict[str, float]:
    """When PostgreSQL committed each message's event (seconds since 1970)."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "select distinct data->>'message_id', extract(epoch from pg_xact_commit_timestamp(xid::xid))::float8 "
        "from events where type = 'message.new'"
    )
    await connection.close()
    return {row[0]: row[1] for row in rows}


@contextmanager
def processes() -> Iterator[tuple[list[str], str]]:
    """The addresses of two serving processes, and their database's URL.

    Nothing is pinned: this is about the way of an event, not about what a core can do.
    """
    with ExitStack() as stack:
        free = Cores()
        behind, key = stack.enter_context(backing("delivery", free)), secret()
        names = ("delivery-first", "delivery-second")
        running = [stack.enter_context(key2key(name, behind, key, free, seeded=True)) for name in names]
        yield [f"http://127.0.0.1:{one.port}" for one in running], behind.database_url


def measure(quick: bool) -> str:
    number, count = (2, 150) if quick else (3, 1000)
    print(f"{number} × {count} messages at {PER_SECOND}/s", flush=True)
    with processes() as (bases, url):
        watch = Watch()
        found = asyncio.run(rounds(bases, url, number, count))
        foreign = watch.foreign()
    figures = (lambda times: percentile(times, 0.5), lambda times: percentile(times, 0.99), max)
    rows = [
        [name, *(str(spread(figure(one[name]) * 1e3 for one in found)) for figure in figures)]
        for name in (REQUEST, *WAYS)
    ]
    said = report.conditions(BENCH.name, Cores(), versions("aiohttp", "asyncpg", "redis"))
    others = (
        f"{'**Doubtful**: other' if foreign > MOST_FOREIGN else 'Other'} programs used {foreign:.0%} of the machine."
    )
    return f"{said}\n\n{report.table(['', 'p50 ms', 'p99 ms', 'max ms'], rows)}\n\n{others}"


BENCH = Bench("delivery", measure, minutes=1.5)

if __name__ == "__main__":
    sys.exit(run([BENCH], __doc__ or ""))
