"""A buyer's enquiry reaches two agents' open sockets, one claims it, and the two talk. Told by a running server.

    make run                                     # in one terminal
    .venv/bin/python examples/live_lead.py       # in another

Everything goes through the public doors: REST, and the live protocol by the official Centrifuge SDK. Behind each event
stand the milliseconds from its transaction's last moment before COMMIT (the event's `at`, the database's clock) to its
arrival here, so both clocks should be those of one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
from centrifuge import CentrifugeError, Client, ClientEventHandler, ReplyError
from centrifuge.contexts import ServerPublicationContext, ServerSubscribedContext

PASSWORD = "addis-abeba-2026"
STARTED = time.monotonic()


def tell(who: str, what: str, since_commit: float | None = None) -> None:
    """One line of the timeline."""
    behind = f"   {since_commit:6.1f} ms from commit to socket" if since_commit is not None else ""
    print(f"{(time.monotonic() - STARTED) * 1000:8.1f} ms  {who:<7} {what:<62}{behind}", flush=True)


class Person(ClientEventHandler):
    """Somebody with an account and a phone."""

    def __init__(self, name: str, http: aiohttp.ClientSession) -> None:
        self.name = name
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.resumed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._http = http
        self._tokens: dict[str, Any] = {}
        self._client: Client | None = None

    async def sign_in(self, email: str) -> None:
        form = {"username": email, "password": PASSWORD}
        async with self._http.post("/api/v1/auth/login", data=form) as answer:
            self._tokens = await good(answer)
        tell(self.name, f"signed in as {email}")

    async def post(self, path: str, **body: Any) -> Any:
        """A REST call as this person."""
        headers = {"Authorization": f"Bearer {self._tokens['access_token']}"}
        async with self._http.post(f"/api/v1{path}", json=body, headers=headers) as answer:
            return await good(answer)

    async def open_socket(self, url: str) -> None:
        self._client = Client(url, events=self, token=self._tokens["access_token"], get_token=self._fresh_token)
        await self._client.connect()
        await self._client.ready(timeout=5)
        tell(self.name, "socket open")

    async def call(self, operation: str, **data: Any) -> Any:
        """An operation over the socket."""
        assert self._client is not None
        return (await self._client.rpc(operation, data)).data

    async def expect(self, type_: str) -> dict[str, Any]:
        """The next event, which must be of this type."""
        event = await asyncio.wait_for(self.heard.get(), 10)
        if event["type"] != type_:
            raise SystemExit(f"{self.name} expected {type_} and heard {event}")
        data: dict[str, Any] = event["data"]
        return data

    async def close(self) -> None:
        if self._client is not None:
            await self._client.disconnect()

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        event = ctx.pub.data
        late = (datetime.now(UTC) - datetime.fromisoformat(event["at"])).total_seconds() * 1000
        said = f": “{event['data']['message']}”" if "message" in event["data"] else ""
        tell(self.name, f"← {event['type']}{said}", late)
        self.heard.put_nowait(event)

    async def on_subscribed(self, ctx: ServerSubscribedContext) -> None:
        if ctx.was_recovering and not self.resumed.done():
            self.resumed.set_result(ctx.recovered)

    async def _fresh_token(self, _: object = None) -> str:
        async with self._http.post(
            "/api/v1/auth/refresh", json={"refresh_token": self._tokens["refresh_token"]}
        ) as answer:
            self._tokens = await good(answer)
        return str(self._tokens["access_token"])


async def good(answer: aiohttp.ClientResponse) -> Any:
    """The JSON of an answer; ends the story with the problem document if it is one."""
    body = await answer.json(content_type=None)
    if answer.status >= 400:
        raise SystemExit(f"{answer.method} {answer.url.path} was refused: {json.dumps(body, ensure_ascii=False)}")
    return body


class Network:
    """A stretch of network that can be cut: what a tunnel does to a phone."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._links: set[asyncio.StreamWriter] = set()
        self._up = True

    @asynccontextmanager
    async def address(self) -> AsyncIterator[tuple[str, int]]:
        """Where to connect instead of to the server."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[:2]
        self.cut()
        server.close()

    def cut(self) -> None:
        """Drop every connection, and refuse new ones until `heal`."""
        self._up = False
        for writer in tuple(self._links):
            writer.transport.abort()

    def heal(self) -> None:
        self._up = True

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.transport.abort()
            return
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        self._links |= {writer, inner_writer}
        await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))
        self._links -= {writer, inner_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass  # cut: that is what this network is for
        finally:
            writer.close()


async def claim(person: Person, lead_id: str) -> Any:
    """The lead, or None if another agent was first."""
    try:
        return await person.call("lead.claim", lead_id=lead_id)
    except ReplyError as error:
        problem = json.loads(error.message)
        tell(person.name, f"claim refused: {problem['code']} ({problem['title'].lower()})")
        return None


async def story(url: str) -> None:
    """From signing in to a lossless resume."""
    server = urlsplit(url)
    network = Network(server.hostname or "127.0.0.1", server.port or 80)
    async with aiohttp.ClientSession(url) as http, network.address() as (host, port):
        hanna, selam, dawit = (Person(name, http) for name in ("Hanna", "Selam", "Dawit"))
        for person in (hanna, selam, dawit):
            await person.sign_in(f"{person.name.lower()}@demo.key2key.example")
        live = "/connection/websocket"
        for person in (hanna, selam):
            await person.open_socket(f"ws://{server.netloc}{live}")
        await dawit.open_socket(f"ws://{host}:{port}{live}")
        try:
            await lead(hanna, selam, dawit, network)
        finally:
            await asyncio.gather(*(person.close() for person in (hanna, selam, dawit)))


async def lead(hanna: Person, selam: Person, dawit: Person, network: Network) -> None:
    """Hanna buys; Selam and Dawit are agents of one agency."""
    home = await selam.post(
        "/properties",
        title="Two bedrooms near Edna Mall",
        property_type="apartment",
        listing_type="rent",
        price=48000,
        city="Addis Ababa",
        neighborhood="Bole",
        bedrooms=2,
    )
    tell("Selam", f"published “{home['title']}”")
    enquiry = await hanna.post(
        f"/listings/{home['id']}/enquiries", client_id=uuid4().hex, message="Selam! Is it still free?"
    )
    tell("Hanna", "enquired")
    await hanna.expect("message.new")
    for agent in (selam, dawit):
        await agent.expect("lead.offered")

    won = await asyncio.gather(claim(selam, enquiry["lead_id"]), claim(dawit, enquiry["lead_id"]))
    winner, loser = (selam, dawit) if won[0] else (dawit, selam)
    tell(winner.name, f"claimed it: the buyer is {(won[0] or won[1])['buyer']['full_name']}")
    await winner.expect("lead.claimed")
    await loser.expect("lead.taken")
    await hanna.expect("enquiry.assigned")

    async def say(person: Person, text: str) -> None:
        conversation = enquiry["conversation_id"]
        await person.call("chat.send", conversation_id=conversation, client_id=uuid4().hex, message=text)

    await say(winner, "Yes, it is. Would you like to see it tomorrow?")
    await say(hanna, "At ten, please.")
    for person in (hanna, winner):
        for _ in range(2):
            await person.expect("message.new")

    network.cut()
    tell("Dawit", "✂ the network is cut, and a second home is asked for meanwhile")
    other = await selam.post(
        "/properties",
        title="Studio on Churchill Avenue",
        property_type="apartment",
        listing_type="rent",
        price=21000,
        city="Addis Ababa",
    )
    await hanna.post(f"/listings/{other['id']}/enquiries", client_id=uuid4().hex, message="And this one?")
    await selam.expect("lead.offered")
    network.heal()
    recovered = await asyncio.wait_for(dawit.resumed, 30)
    await dawit.expect("lead.offered")
    tell("Dawit", f"socket back, recovered={recovered}: nothing was lost")
    if not recovered:
        raise SystemExit("the stream was not recovered")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the running server")
    url = parser.parse_args().url.rstrip("/")
    try:
        asyncio.run(story(url))
    except aiohttp.ClientConnectorError as error:
        raise SystemExit(f"No server at {url} ({error}): start one with `make run`") from None
    except (TimeoutError, CentrifugeError) as error:
        raise SystemExit(f"The story broke off: {error!r}") from None


if __name__ == "__main__":
    main()
