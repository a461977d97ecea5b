"""A person's device: the live protocol spoken from its specification, sharing nothing with the server.

It stays connected to some process, resumes on another one with the epoch and offset of each of its channels, and holds
every event against the one rule: the next offset, nothing else. It keeps no secret of what it saw (`history`).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
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
# The server took the channel away: for good, or only until it is asked for again.
NO_LONGER_ALLOWED, STATE_LOST = 2103, 2500


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
    """The server's refusal: the protocol's code, the problem's own if there is one, and whether it said until when."""

    def __init__(self, number: int, code: str, *, until: bool = True) -> None:
        super().__init__(f"{number} {code}")
        self.number = number
        self.code = code
        self.until = until


@dataclass
class Place:
    """Where a device stands in one channel."""

    epoch: str = ""
    offset: int | None = None
    """None before it first joined."""
    joined: bool = False
    """On the present connection."""


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
    follows: tuple[str, ...] = ()
    """Channels besides the person's own."""
    asks: bool = False
    """It subscribes to these by itself; otherwise it has the server grant them on connect."""

    places: dict[str, Place] = field(default_factory=dict)
    """By channel."""
    refused: bool = False
    """Its token was refused: it does not come back."""
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    """It is connected and follows all its channels."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    door: str = ""
    joins: int = 0
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _replies: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _subscribing: dict[int, str] = field(default_factory=dict)
    _ids: int = 0
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.places = {channel: Place() for channel in (self.person.channel, *self.follows)}

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._stay())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def lacks(self, tops: Mapping[str, int]) -> list[str]:
        """The channels of which it has not heard everything up to their top, or all while it is not connected."""
        return [
            f"{place.offset} of {tops.get(channel, 0)} in {channel}"
            for channel, place in self.places.items()
            if not self.joined.is_set() or place.offset is None or place.offset < tops.get(channel, 0)
        ]

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
            for place in self.places.values():
                place.joined = False
            self._socket = None
            self._subscribing.clear()
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
        granted = (self.person.channel,) if self.asks else tuple(self.places)
        known = {channel: self._since(channel) for channel in granted if self.places[channel].offset is not None}
        return {"token": self.person.token, "data": {"follow": list(granted[1:])}, "subs": known}

    def _since(self, channel: str) -> dict[str, Any]:
        place = self.places[channel]
        return {} if place.offset is None else {"recover": True, "epoch": place.epoch, "offset": place.offset}

    async def _take(self, reply: dict[str, Any]) -> None:
        if not reply:
            await self._tell({})
        elif "push" in reply:
            await self._pushed(**reply["push"])
        elif "connect" in reply:
            await self._connected(reply["connect"]["subs"])
        elif reply["id"] in self._subscribing:
            self._subscribed(self._subscribing.pop(reply["id"]), reply)
        elif reply["id"] in self._replies:
            future = self._replies[reply["id"]]
            if not future.done():
                future.set_result(reply)
        elif "error" in reply and not self.joined.is_set():
            self._closed(reply["error"]["code"])

    async def _tell(self, command: dict[str, Any]) -> None:
        assert self._socket is not None
        await self._socket.send_str(json.dumps(command))

    async def _pushed(self, channel: str = "", **push: Any) -> None:
        if "pub" in push:
            self._event(channel, push["pub"])
        elif "unsubscribe" in push:
            code = push["unsubscribe"]["code"]
            self.history.note("unsubscribed", device=self.name, channel=channel, code=code)
            if code != STATE_LOST:
                self.report(f"was taken off {channel}: {code}", self.name)
                return
            self.joined.clear()
            await self._subscribe(channel)

    async def _connected(self, subscriptions: dict[str, Any]) -> None:
        self.joins += 1
        for channel, subscription in subscriptions.items():
            self._resumed(channel, subscription)
        for channel in self.places.keys() - subscriptions.keys():
            if self.asks:
                await self._subscribe(channel)
            else:
                self.report(f"was not granted {channel}", self.name)

    async def _subscribe(self, channel: str) -> None:
        number = self._next_id()
        self._subscribing[number] = channel
        self.places[channel].joined = False
        await self._tell({"id": number, "subscribe": {"channel": channel, **self._since(channel)}})

    def _subscribed(self, channel: str, reply: dict[str, Any]) -> None:
        if "subscribe" in reply:
            self._resumed(channel, reply["subscribe"])
            return
        error = reply["error"]
        self.history.note("not subscribed", device=self.name, channel=channel, code=error["code"])
        if error["code"] == 103:
            self.report(f"may not follow {channel}", self.name)
        self.drop()  # and try elsewhere

    def _closed(self, code: int | None) -> None:
        self.history.note("closed", device=self.name, code=code, door=self.door)
        if code in UNAUTHORIZED:
            self.refused = True

    def _resumed(self, channel: str, subscription: dict[str, Any]) -> None:
        """Take the place the server names, and what it has kept for us."""
        place = self.places[channel]
        top, epoch = subscription.get("offset", 0), subscription["epoch"]
        recovered, before = subscription.get("recovered", False), place.offset
        publications = subscription.get("publications") or []
        self.history.note(
            "joined", device=self.name, channel=channel, offset=top, since=before, recovered=recovered,
            replay=len(publications),
        )  # fmt: skip
        if before is None:
            place.epoch, place.offset = epoch, top
        elif recovered:
            for publication in publications:
                self._event(channel, publication)
            if not publications and top != before:
                self.report(f"resumed {channel} at {before}, was told nothing, and the server says {top}", self.name)
                place.offset = top
        else:
            if epoch != place.epoch or top - before < self.may_be_behind:
                self.report(f"was at {place.epoch}:{before} of {channel}, could not resume at {epoch}:{top}", self.name)
            place.epoch, place.offset = epoch, top
        place.joined = True
        if all(place.joined for place in self.places.values()):
            self.joined.set()

    def _event(self, channel: str, publication: dict[str, Any]) -> None:
        place, offset, event = self.places[channel], publication.get("offset", 0), publication["data"]
        self.history.note(
            "event", device=self.name, channel=channel, offset=offset, id=event["id"], type=event["type"],
            client_id=event["data"].get("client_id"),
        )  # fmt: skip
        assert place.offset is not None
        if offset != place.offset + 1:
            kind = "a duplicate" if offset <= place.offset else "a gap"
            self.report(f"{kind}: after {place.offset} came {offset} in {channel}", self.name)
        place.offset = max(place.offset, offset)


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
        raise Refused(answer.status, str((body or {}).get("code")), until="Retry-After" in answer.headers)
    return body
