"""A person's device: the live protocol spoken from its specification, sharing nothing with the server.

It stays connected to some process, resumes on another one with its epoch and offset, and holds every event against
the one rule: the next offset, nothing else. It keeps no secret of what it saw (`history`).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.faults.proof.history import History

PATH = "/connection/websocket"
CONNECT_SECONDS = 3.0
REPLY_SECONDS = 5.0
# The processes ping every 2 s (see run): a device that hears nothing for twice as long looks elsewhere.
SILENCE_SECONDS = 4.0
UNAUTHORIZED = (101, 3500)


@dataclass(frozen=True)
class Person:
    name: str
    id: str
    email: str
    address: str
    token: str

    @property
    def channel(self) -> str:
        return f"user:{self.id}"

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Forwarded-For": self.address}


class Unknown(Exception):
    """Whether the call had an effect is not known."""


class NotSent(Exception):
    """The call cannot have had an effect: there was no connection to send it on."""


class Refused(Exception):
    """The server's refusal: the protocol's code, and the problem's own if there is one."""

    def __init__(self, number: int, code: str) -> None:
        super().__init__(f"{number} {code}")
        self.number = number
        self.code = code


@dataclass(eq=False)
class Device:
    """`report(what, who)` is told of every breach of the protocol's promises."""

    name: str
    person: Person
    doors: Sequence[str]
    http: aiohttp.ClientSession
    history: History
    rng: random.Random
    report: Callable[[str, str], None]
    may_be_behind: int
    """With fewer missed events than this a resume must succeed."""

    epoch: str = ""
    offset: int | None = None
    """Where it stands; None before its first connection."""
    skipped: int = 0
    refused: bool = False
    """Its token was refused: it does not come back."""
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    door: str = ""
    joins: int = 0
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _replies: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _ids: int = 0
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._stay())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def level_with(self, top: int) -> bool:
        """Whether it is connected and has heard everything up to `top`."""
        return self.joined.is_set() and self.offset is not None and self.offset >= top

    def drop(self) -> None:
        """Break the connection without a goodbye."""
        connection = self._socket._response.connection if self._socket is not None else None
        if connection is not None and connection.transport is not None:
            connection.transport.abort()

    async def call(self, method: str, **data: Any) -> Any:
        """One rpc. Raises NotSent, Refused or Unknown."""
        socket = self._socket
        if socket is None or socket.closed or not self.joined.is_set():
            raise NotSent
        self._ids += 1
        number = self._ids
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                await socket.send_str(json.dumps({"id": number, "rpc": {"method": method, "data": data}}))
                answer = await reply
        except (OSError, TimeoutError, aiohttp.ClientError, Unknown) as error:
            raise Unknown(repr(error)) from error
        finally:
            self._replies.pop(number, None)
        if "error" in answer:
            raise Refused(answer["error"]["code"], _code(answer["error"]["message"]))
        return answer["rpc"]["data"]

    async def _stay(self) -> None:
        try:
            while not self.refused:
                # Somewhere else, if there is an elsewhere.
                self.door = self.rng.choice([door for door in self.doors if door != self.door] or list(self.doors))
                with suppress(aiohttp.ClientError, OSError, TimeoutError):
                    await self._visit()
                await asyncio.sleep(self.rng.uniform(0.05, 0.25))
        except Exception as error:
            self.report(f"broke down over what it was sent: {error!r}", self.name)
            raise
        finally:
            self.ended.set()

    async def _visit(self) -> None:
        """Connect, resume and listen until the connection is lost."""
        async with asyncio.timeout(CONNECT_SECONDS):
            socket = await self.http.ws_connect(
                self.door + PATH, headers=self.person.headers, timeout=aiohttp.ClientWSTimeout(ws_close=0.5)
            )
        self._socket = socket
        try:
            await socket.send_str(json.dumps({"id": self._next_id(), "connect": self._wish()}))
            while True:
                patience = SILENCE_SECONDS if self.joined.is_set() else CONNECT_SECONDS
                message = await socket.receive(timeout=patience)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    self._closed(socket.close_code)
                    return
                for line in message.data.split("\n"):
                    await self._take(json.loads(line))
        finally:
            self.joined.clear()
            self._socket = None
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(Unknown("connection lost"))
            connection = socket._response.connection
            if connection is not None and connection.transport is not None:
                connection.transport.abort()
            await socket.close()

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _wish(self) -> dict[str, Any]:
        if self.offset is None:
            return {"token": self.person.token}
        recover = {"recover": True, "epoch": self.epoch, "offset": self.offset}
        return {"token": self.person.token, "subs": {self.person.channel: recover}}

    async def _take(self, reply: dict[str, Any]) -> None:
        if not reply:
            assert self._socket is not None
            await self._socket.send_str("{}")
        elif "push" in reply:
            if "pub" in reply["push"]:
                self._event(reply["push"]["pub"])
        elif "connect" in reply:
            self._resumed(reply["connect"]["subs"][self.person.channel])
        elif reply["id"] in self._replies:
            future = self._replies[reply["id"]]
            if not future.done():
                future.set_result(reply)
        elif "error" in reply and not self.joined.is_set():
            self._closed(reply["error"]["code"])

    def _closed(self, code: int | None) -> None:
        self.history.note("closed", device=self.name, code=code, door=self.door)
        if code in UNAUTHORIZED:
            self.refused = True

    def _resumed(self, subscription: dict[str, Any]) -> None:
        """Take the place the server names, and what it has kept for us."""
        top, epoch = subscription.get("offset", 0), subscription["epoch"]
        recovered, before = subscription.get("recovered", False), self.offset
        publications = subscription.get("publications") or []
        self.history.note(
            "joined", device=self.name, offset=top, since=before, recovered=recovered, replay=len(publications)
        )
        self.joins += 1
        if before is None:
            self.epoch, self.offset = epoch, top
        elif recovered:
            for publication in publications:
                self._event(publication)
            if not publications and top != before:
                self.report(f"resumed at {before}, was told nothing, and the server says {top}", self.name)
                self.offset = top
        else:
            self._skip(before, top, epoch)
        self.joined.set()

    def _skip(self, before: int, top: int, epoch: str) -> None:
        if epoch != self.epoch or top - before < self.may_be_behind:
            self.report(f"was at {self.epoch}:{before}, could not resume at {epoch}:{top}", self.name)
        self.skipped += max(0, top - before)
        self.epoch, self.offset = epoch, top

    def _event(self, publication: dict[str, Any]) -> None:
        offset, event = publication.get("offset", 0), publication["data"]
        self.history.note(
            "event", device=self.name, offset=offset, id=event["id"], type=event["type"],
            client_id=event["data"].get("client_id"),
        )  # fmt: skip
        assert self.offset is not None
        if offset != self.offset + 1:
            kind = "a duplicate" if offset <= self.offset else "a gap"
            self.report(f"{kind}: after {self.offset} came {offset}", self.name)
        self.offset = max(self.offset, offset)


def _code(message: str) -> str:
    """The problem's code, where the message is a problem document."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(message)["code"])
    return message


async def rest(
    http: aiohttp.ClientSession, base: str, method: str, path: str, person: Person | None = None, **more: Any
) -> Any:
    """One REST call, /api/v1 before its path. Raises NotSent, Refused (with the status) or Unknown."""
    headers = dict(more.pop("headers", {}))
    if person is not None:
        headers |= {**person.headers, "Authorization": f"Bearer {person.token}"}
    try:
        async with http.request(method, f"{base}/api/v1{path}", headers=headers, **more) as answer:
            body = await answer.json(content_type=None)
    except aiohttp.ClientConnectorError as error:
        raise NotSent from error
    except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise Unknown(repr(error)) from error
    if answer.status >= 400:
        raise Refused(answer.status, str((body or {}).get("code")))
    return body
