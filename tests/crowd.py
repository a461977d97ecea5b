"""Witnesses of a restart: visitors over HTTP who never ask a second time, and phones that come back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from tests.raw_http import connection, one_answer
from tests.support import Live, Person

SENT_AWAY = 3001


@dataclass
class Tally:
    """What became of every request. A connection that broke under one counts as whatever broke it."""

    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> dict[str, int]:
        """All but answers as they should be and sockets that were sent away in order."""
        return {outcome: times for outcome, times in self.outcomes.items() if outcome not in ("200", str(SENT_AWAY))}


@dataclass
class Visitor:
    """Sends one GET after the other, on connections it keeps or on a new one each, with pauses in between."""

    base: str
    path: str
    tally: Tally
    keeps: bool = True
    pause: float = 0.0

    async def run(self) -> None:
        while True:
            try:
                async with connection(self.base) as (reader, writer):
                    await self._talk(reader, writer)
            except (OSError, EOFError, TimeoutError) as error:
                self.tally.outcomes[repr(error)[:60]] += 1

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = f"GET {self.path} HTTP/1.1\r\nHost: {self.base.removeprefix('http://')}\r\n\r\n".encode()
        while not reader.at_eof():  # a server may end an idle connection, as long as no request is under way
            writer.write(request)
            answer = await one_answer(reader)
            self.tally.outcomes[str(answer.status)] += 1
            if not self.keeps or answer.headers.get("Connection") == "close":
                return
            await asyncio.sleep(random.uniform(0, 2 * self.pause))  # noqa: S311


class Phone:
    """A live client as the SDKs are: sent away it comes back, resumes, and says again what was not answered."""

    def __init__(self, base: str, person: Person, tally: Tally) -> None:
        self.person = person
        self._base = base
        self._tally = tally
        self._live: Live | None = None
        self._since: tuple[str, int] | None = None
        self._heard: list[Any] = []

    async def run(self) -> None:
        while True:
            try:
                async with Live.open(self._base) as live:
                    await self._stay(live)
                self._tally.outcomes[str(live.socket.close_code)] += 1
            except aiohttp.ClientError as error:
                self._tally.outcomes[repr(error)[:60]] += 1

    async def say(self, conversation: str) -> str:
        """Send a message until it is acknowledged; its client_id."""
        client_id = uuid4().hex
        said = {"conversation_id": conversation, "client_id": client_id, "message": client_id}
        while True:
            while self._live is None:
                await asyncio.sleep(0.02)
            if await _unless_closed(self._live, self._live.rpc("chat.send", **said)):
                return client_id
            await asyncio.sleep(0.02)

    async def write(self, conversation: str, stop: asyncio.Event) -> list[str]:
        """Say one thing after the other until told to stop; all that was acknowledged."""
        sent = []
        while not stop.is_set():
            sent.append(await self.say(conversation))
            await asyncio.sleep(0.05)
        return sent

    @property
    def connected(self) -> bool:
        return self._live is not None

    def heard(self, conversation: str) -> list[str]:
        """Which messages of the conversation came so far, by client_id; Live itself refuses gaps and duplicates."""
        self._take()
        messages = [event["data"] for event in self._heard if event["type"] == "message.new"]
        return [message["client_id"] for message in messages if message["conversation_id"] == conversation]

    async def _stay(self, live: Live) -> None:
        channel = f"user:{self.person.id}"
        result = await _unless_closed(live, live.connect(self.person.token, since=self._since, channel=channel))
        if result is None:
            return
        replay = result["subs"][channel]
        if self._since is not None:
            assert replay["recovered"] is True
            self._heard += [publication["data"] for publication in replay.get("publications", ())]
        self._live = live
        await live.closed.wait()
        self._take()
        self._since, self._live = (live.epoch, live.offset), None

    def _take(self) -> None:
        while self._live is not None and not self._live.events.empty():
            self._heard.append(self._live.events.get_nowait())


async def _unless_closed(live: Live, asking: Coroutine[Any, Any, Any]) -> Any:
    """The answer; None if the socket closes first."""
    answer, closing = asyncio.ensure_future(asking), asyncio.ensure_future(live.closed.wait())
    try:
        await asyncio.wait((answer, closing), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((answer,), timeout=0.1)  # it may have come with the last frame before the close
        return answer.result() if answer.done() else None
    except ConnectionError:
        return None
    finally:
        for task in (answer, closing):
            task.cancel()
        await asyncio.gather(answer, closing, return_exceptions=True)


@asynccontextmanager
async def busy(*clients: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """The clients at work while the block runs; what goes wrong with one is raised."""
    tasks = [asyncio.ensure_future(client) for client in clients]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
