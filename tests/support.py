"""What stories are told with: a serving node, an HTTP client that checks each answer, people, and a bare socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import aiohttp
from pydantic import SecretStr

from k2k.app import Process, build
from k2k.core.clock import Clock
from k2k.core.ids import AgencyId, UserId
from k2k.core.settings import Settings
from k2k.features.accounts import store as accounts_store
from k2k.features.accounts.passwords import Passwords
from k2k.features.accounts.tokens import Tokens
from k2k.features.agents import service as agents
from k2k.features.agents.models import AgencyRole
from k2k.infra.db import Db
from k2k.infra.jobs.job import Job
from k2k.infra.jobs.queue import Dead, dead_letters, queue_state
from k2k.infra.jobs.worker import Worker
from k2k.live.door import PATH
from k2k.web.server import Runner, listening_socket
from tests import contract
from tests.pictures import form, photo

ROOT = Path(__file__).parents[1]
PASSWORD = "correct horse battery"
PREFIX = "/api/v1"


@dataclass(frozen=True)
class Response:
    status: int
    json: Any
    headers: Mapping[str, str]
    raw: bytes = b""


class Api:
    """An HTTP client for one node. Every answer is held against what the OpenAPI document declares, if it is ours."""

    def __init__(self, base: str, *, ours: bool = True) -> None:
        self.base = base
        self.ours = ours

    async def get(self, path: str, **more: Any) -> Response:
        return await self.request("GET", path, **more)

    async def post(self, path: str, **more: Any) -> Response:
        return await self.request("POST", path, **more)

    async def put(self, path: str, **more: Any) -> Response:
        return await self.request("PUT", path, **more)

    async def delete(self, path: str, **more: Any) -> Response:
        return await self.request("DELETE", path, **more)

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str = PREFIX,
        **more: Any,
    ) -> Response:
        sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.base + prefix + path, headers=sent, **more) as answer,
        ):
            raw = await answer.read()
            is_json = answer.content_type in contract.JSON
            assert not is_json or b"\n" not in raw
            if answer.status >= 400 and not path.startswith("/health"):  # which says what is away, and is no problem
                assert answer.content_type == "application/problem+json", raw
                problem = json.loads(raw)
                assert problem["status"] == answer.status
                assert problem.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
            if self.ours and prefix == PREFIX:
                sent_json = more.get("json")
                contract.check_answer(
                    contract.Answer(method, path, answer.status, answer.content_type, answer.headers, raw, sent_json)
                )
            return Response(answer.status, json.loads(raw) if raw and is_json else None, answer.headers, raw)


@dataclass
class Node:
    """A serving process built inside this one, on a free port."""

    process: Process
    runner: Runner
    settings: Settings
    api: Api

    @classmethod
    async def start(cls, settings: Settings, port: int = 0) -> Node:
        process = await build(settings)
        runner = Runner(process.app, settings.server)
        await runner.setup()
        await runner.listen(listening_socket("127.0.0.1", port))
        host, port = runner.addresses[0][:2]
        return cls(process, runner, settings, Api(f"http://{host}:{port}"))

    async def stop(self) -> None:
        await self.runner.cleanup()

    @asynccontextmanager
    async def live(self, token: str, **more: Any) -> AsyncIterator[Live]:
        """A connected socket."""
        async with Live.open(self.api.base) as live:
            await live.connect(token, **more)
            yield live


class Subprocess:
    """A real `run.py serve`, killed by pid at the end of the test at the latest."""

    running: ClassVar[list[Subprocess]] = []

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.api = Api(f"http://127.0.0.1:{port}")

    @classmethod
    async def start(
        cls,
        settings: Settings,
        port: int,
        *options: str,
        output: Path | None = None,
        directory: Path | str = ROOT,
        **environment: str,
    ) -> Subprocess:
        """Start the checkout in `directory` with these options and wait until it is ready.

        What it says, its log too, goes to the file `output` if one is given.
        """
        given = {
            "K2K_ENVIRONMENT": "production",
            "K2K_HOME": str(settings.home),
            "K2K_SERVER__PORT": str(port),
            "K2K_SERVER__DRAIN_SECONDS": "1",
            "K2K_AUTH__SECRET": settings.auth.secret.get_secret_value(),
            "K2K_LIMITS__USER_PER_MINUTE": "1000000",
            "K2K_LIMITS__ADDRESS_PER_MINUTE": "1000000",
            "K2K_REDIS__PREFIX": settings.redis.prefix,
            "DATABASE_URL": settings.database.url.get_secret_value(),
            "REDIS_URL": settings.redis.url.get_secret_value(),
            **environment,
        }
        inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        with output.open("wb") if output else nullcontext() as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "run.py",
                "serve",
                *options,
                cwd=directory,
                env={**inherited, **given},
                start_new_session=True,
                stdout=said,
                stderr=said,
            )
        started = cls(process, port)
        cls.running.append(started)
        await eventually(started.ready, seconds=30)
        return started

    async def ready(self) -> bool:
        assert self.process.returncode is None, "the process ended instead of serving"
        try:
            return (await self.api.get("/health/ready", prefix="")).status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)

    @classmethod
    async def end_all(cls) -> None:
        for process in cls.running:
            await process.kill()
        cls.running.clear()


@dataclass
class Workplace:
    """A queue of jobs, and workers with little patience that end with the test."""

    settings: Settings
    db: Db
    workers: list[Worker] = field(default_factory=list)

    @classmethod
    async def open(cls, settings: Settings, url: str) -> Workplace:
        quick = {"poll_seconds": 0.2, "heartbeat_seconds": 5.0, "retry_seconds": 0.05, "stop_seconds": 2.0}
        changed = {
            "database": settings.database.model_copy(update={"url": SecretStr(url)}),
            "jobs": settings.jobs.model_copy(update=quick),
        }
        settings = settings.model_copy(update=changed)
        return cls(settings, await Db.open(settings.database, Clock()))

    def worker(self, **changes: Any) -> Worker:
        """A worker that is not started."""
        self.workers.append(Worker(self.settings.database, self.settings.jobs.model_copy(update=changes)))
        return self.workers[-1]

    async def enqueue(self, *jobs: Job, **more: Any) -> None:
        async with self.db.transaction() as tx:
            for job in jobs:
                tx.enqueue(job, **more)

    async def states(self) -> dict[tuple[str, str], int]:
        """How many jobs there are by name and state."""
        return {(one.name, one.state): one.jobs for one in await queue_state(self.db)}

    async def empty(self) -> bool:
        return await self.states() == {}

    async def dead(self, count: int = 1) -> list[Dead]:
        """The dead letters, as soon as they are that many."""

        async def there() -> bool:
            return len(await dead_letters(self.db)) >= count

        await eventually(there)
        return await dead_letters(self.db)

    async def close(self) -> None:
        for worker in self.workers:
            await worker.stop()
        await self.db.close()


@dataclass(frozen=True)
class Person:
    id: UUID
    email: str
    token: str
    refresh_token: str
    sign_in_id: UUID


class People:
    """Makes people who are signed in."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._hash: str | None = None

    async def buyer(self) -> Person:
        """Somebody with an account and nothing else; the password is PASSWORD."""
        db, settings = self._node.process.db, self._node.settings
        if self._hash is None:
            passwords = Passwords(settings.auth)
            self._hash = await passwords.hash(PASSWORD)
            passwords.close()
        email = f"{uuid4().hex}@people.example"
        now = db.clock.now()
        expires_at = now + timedelta(days=7)
        async with db.transaction() as tx:
            user = await accounts_store.add_user(tx, email, self._hash, "Abebe Kebede")
            assert user is not None
            opened = await accounts_store.open_sign_in(tx, user, "test", now, expires_at)
        tokens = Tokens(settings.auth)
        return Person(
            user,
            email,
            tokens.access(user, opened.sign_in_id, now),
            tokens.refresh(opened.token_id, user, opened.sign_in_id, now, expires_at),
            opened.sign_in_id,
        )

    async def agent(self, agency: UUID | None = None) -> Person:
        """An agent, in `agency` if one is given."""
        person = await self.buyer()
        answer = await self._node.api.post(
            "/agents/profile", json={"display_name": "Selam Tesfaye"}, token=person.token
        )
        assert answer.status == 201, answer.json
        if agency is not None:
            async with self._node.process.db.transaction() as tx:
                await agents.join_agency(tx, UserId(person.id), AgencyId(agency), AgencyRole.member)
        return person

    async def admin(self) -> Person:
        """An agent who may do everything."""
        person = await self.agent()
        await self.promote(person)
        return person

    async def promote(self, person: Person) -> None:
        """Let an agent of this very moment do everything."""
        await self._node.process.db.records("update users set role = 'admin' where id = $1", [person.id])

    async def agency(self) -> tuple[Person, UUID]:
        """A new agency and the agent who owns it."""
        owner = await self.agent()
        return owner, await self.found(owner)

    async def found(self, owner: Person) -> UUID:
        """The agency of this agent, new unless there is one."""
        agency = await agents.agency_of(self._node.process.db, UserId(owner.id))
        if agency is not None:
            return agency
        answer = await self._node.api.post(
            "/agencies", json={"name": "Bole Homes", "city": "Addis Ababa"}, token=owner.token
        )
        assert answer.status == 201, answer.json
        return UUID(answer.json["id"])

    async def colleague(self, owner: Person) -> UUID:
        """The profile of somebody new in this agent's agency."""
        agency = await agents.agency_of(self._node.process.db, UserId(owner.id))
        person = await self.agent(agency)
        answer = await self._node.api.get(f"/agencies/{agency}")
        (profile,) = [member["id"] for member in answer.json["members"] if member["user_id"] == str(person.id)]
        return UUID(profile)

    async def listing(self, seller: Person) -> UUID:
        """A published property."""
        answer = await self._node.api.post("/properties", json=a_property(), token=seller.token)
        assert answer.status == 201, answer.json
        return UUID(answer.json["id"])

    async def vehicle(self, seller: Person) -> UUID:
        """A published vehicle."""
        answer = await self._node.api.post("/vehicles", json=a_vehicle(), token=seller.token)
        assert answer.status == 201, answer.json
        return UUID(answer.json["id"])

    async def upload(self, person: Person) -> UUID:
        """Something announced, whose bytes are to come."""
        wish = {"purpose": "image", "name": "a.jpg", "media_type": "image/jpeg", "bytes": 5, "sha256": "0a" * 32}
        answer = await self._node.api.post("/uploads", json=wish, token=person.token)
        assert answer.status == 201, answer.json
        return UUID(answer.json["media_id"])

    async def image(self, seller: Person, listing: UUID) -> UUID:
        """A picture of this listing."""
        answer = await self._node.api.post(f"/listings/{listing}/images", data=form(photo()), token=seller.token)
        assert answer.status == 201, answer.json
        return UUID(answer.json["images"][-1]["id"])

    async def enquire(self, buyer: Person, listing: UUID, text: str = "Is it still free?", **more: Any) -> Any:
        """What opening an enquiry answers."""
        answer = await self._node.api.post(
            f"/listings/{listing}/enquiries", json={"client_id": uuid4().hex, "message": text}, token=buyer.token
        )
        assert answer.status == 201, answer.json
        return answer.json


def a_property(**changes: Any) -> dict[str, Any]:
    return {
        "title": "Apartment with a view over Bole",
        "property_type": "apartment",
        "listing_type": "rent",
        "price": 45000,
        "city": "Addis Ababa",
    } | changes


def a_vehicle(**changes: Any) -> dict[str, Any]:
    return {
        "title": "Corolla from the first owner",
        "brand": "Toyota",
        "model": "Corolla",
        "year": 2014,
        "listing_type": "sale",
        "price": 1_850_000,
        "city": "Addis Ababa",
    } | changes


class LiveError(Exception):
    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.temporary: bool = error.get("temporary", False)

    @property
    def problem(self) -> Any:
        return json.loads(self.message)


@dataclass
class Live:
    """A bare client of the live protocol, as strict as the SDKs are lenient."""

    socket: aiohttp.ClientWebSocketResponse
    events: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    news: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    """What comes besides the events of one's own channel."""
    positions: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Epoch and offset by channel followed."""
    personal: str = ""
    subscription: dict[str, Any] = field(default_factory=dict)
    """That of one's own channel, as connect answered it."""
    disconnect: dict[str, Any] | None = None
    _asked: dict[int, str] = field(default_factory=dict)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _replies: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _ids: int = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, base: str, **more: Any) -> AsyncIterator[Live]:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(base + PATH, timeout=aiohttp.ClientWSTimeout(ws_close=2), **more)
            live = cls(socket)
            reader = asyncio.create_task(live._read())
            try:
                yield live
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
                await socket.close()

    async def connect(
        self, token: str, since: tuple[str, int] | None = None, channel: str = "", **more: Any
    ) -> dict[str, Any]:
        subs = {channel: {"recover": True, "epoch": since[0], "offset": since[1]}} if since else {}
        return await self.command("connect", {"token": token, **({"subs": subs} if subs else {}), **more})

    async def command(self, kind: str, body: Any) -> dict[str, Any]:
        self._ids += 1
        future = self._replies[self._ids] = asyncio.get_running_loop().create_future()
        await self.send({"id": self._ids, kind: body})
        reply = await asyncio.wait_for(future, 10)
        if "error" in reply:
            if kind == "rpc":
                contract.check_refusal(body["method"], reply["error"])
            raise LiveError(reply["error"])
        result: dict[str, Any] = reply[kind]
        if kind == "rpc":
            contract.check_result(body["method"], result["data"])
        return result

    async def rpc(self, method: str, **data: Any) -> Any:
        return (await self.command("rpc", {"method": method, "data": data}))["data"]

    async def send(self, *commands: Any) -> None:
        await self.socket.send_str("\n".join(json.dumps(command) for command in commands))

    async def event(self, type_: str | None = None) -> dict[str, Any]:
        """The next event; it must be of the type asked for."""
        event = await asyncio.wait_for(self.events.get(), 10)
        assert type_ is None or event["type"] == type_, event
        return event

    async def close_code(self) -> int | None:
        await asyncio.wait_for(self.closed.wait(), 15)
        return self.socket.close_code

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                assert message.type is aiohttp.WSMsgType.TEXT
                for line in message.data.split("\n"):
                    await self._take(json.loads(line))
        except AssertionError as error:
            self.events.put_nowait({"type": f"broken: {error}"})
        self.closed.set()

    async def _take(self, reply: dict[str, Any]) -> None:
        if not reply:
            await self.socket.send_str("{}")
        elif "push" in reply:
            self._hear(reply["push"])
        else:
            for kind in ("connect", "subscribe"):  # pushes may follow in the same frame
                if kind in reply:
                    self._follow(kind, reply)
            self._replies.pop(reply["id"]).set_result(reply)

    def _follow(self, kind: str, reply: dict[str, Any]) -> None:
        """Note where each subscription stands, as the SDKs do."""
        if kind == "connect":
            subscriptions = reply["connect"]["subs"]
            self.personal = next((channel for channel in subscriptions if channel.startswith("user:")), "")
            self.subscription = subscriptions.get(self.personal, {})
        else:
            subscriptions = {self._asked.pop(reply["id"]): reply["subscribe"]}
        for channel, subscription in subscriptions.items():
            published = subscription.get("publications", [])
            for publication in published:
                contract.check_publication(channel, publication)
            offset = published[-1]["offset"] if published else subscription.get("offset", 0)
            self.positions[channel] = (subscription.get("epoch", ""), offset)

    def _hear(self, push: dict[str, Any]) -> None:
        if "disconnect" in push:
            self.disconnect = push["disconnect"]
            return
        channel = push["channel"]
        if "subscribe" in push:
            granted = push["subscribe"]
            self.positions[channel] = (granted.get("epoch", ""), granted.get("offset", 0))
        assert channel in self.positions, f"a push of {channel}, which is not followed"
        epoch, offset = self.positions[channel]
        if "pub" in push:
            contract.check_publication(channel, push["pub"])
        if "pub" in push and "offset" in push["pub"]:
            assert push["pub"]["offset"] == offset + 1, "a gap or a duplicate reached the client"
            self.positions[channel] = (epoch, offset + 1)
            if channel == self.personal:
                self.events.put_nowait(push["pub"]["data"])
                return
        if "unsubscribe" in push:
            del self.positions[channel]
        self.news.put_nowait(push)

    async def hear(self, channel: str, kind: str) -> Any:
        """The next news, which must be of this channel and kind: pub, join, leave, subscribe or unsubscribe."""
        push = await asyncio.wait_for(self.news.get(), 10)
        assert push.keys() == {"channel", kind}, push
        assert push["channel"] == channel, push
        return push[kind]

    async def subscribe(self, channel: str, **more: Any) -> dict[str, Any]:
        self._asked[self._ids + 1] = channel
        return await self.command("subscribe", {"channel": channel, **more})

    @property
    def epoch(self) -> str:
        return self.positions[self.personal][0]

    @property
    def offset(self) -> int:
        """Of the newest event of one's own channel."""
        return self.positions[self.personal][1]


def free_port(count: int = 1) -> int:
    """A port of 127.0.0.1 that nobody listens on, with the `count` - 1 after it.

    Below those that the system gives to outgoing connections: one of the thousands that tests open would take it.
    """
    while True:
        first = 10_000 + secrets.randbelow(22_000)
        with ExitStack() as probes, suppress(OSError):
            for port in range(first, first + count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


async def eventually(condition: Callable[[], Awaitable[bool]], *, seconds: float = 10) -> None:
    """Wait until the condition holds; AssertionError if it never does."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"{condition} did not come true within {seconds} s"
        await asyncio.sleep(0.02)


def moment(text: str) -> datetime:
    """A moment of an answer."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    return datetime.fromisoformat(text).astimezone(UTC)
