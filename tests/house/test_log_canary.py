"""No secret and nothing personal reaches the log, whichever door it comes through and however it is broken on the way.

A real process with everything said that can be said (level debug) is sent values that exist nowhere else, through
every operation, well formed and malformed; then its output is searched for them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from k2k.app import OPERATIONS
from k2k.core.settings import Settings
from k2k.infra import embedded
from k2k.ops.registry import Operation
from tests import samples
from tests.samples import path_of, sample
from tests.support import PREFIX, Live, LiveError, Node, People, Subprocess


@dataclass
class Canary:
    """Values that would give themselves away, by what they stand for. Each fits wherever its kind is asked for."""

    text: str = field(default_factory=lambda: "canary" + secrets.token_hex(12))
    password: str = field(default_factory=lambda: "canary" + secrets.token_urlsafe(16))
    bearer: str = field(default_factory=lambda: "canary" + secrets.token_hex(16))
    phone: str = field(default_factory=lambda: "+2519" + "".join(secrets.choice("0123456789") for _ in range(10)))
    tokens: set[str] = field(default_factory=set)
    """Of those who really signed in: the whole ones and their signatures."""

    def took(self, *tokens: str) -> None:
        self.tokens |= {piece for token in tokens for piece in (token, token.rpartition(".")[2])}

    def all(self) -> Iterator[str]:
        yield from (self.text, self.password, self.bearer, self.phone, *self.tokens)


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Canary:
    canary = Canary()
    monkeypatch.setattr(samples, "FITTING", (canary.phone, *samples.FITTING))
    return canary


@dataclass(frozen=True)
class Talkative:
    """The process under watch, its output, and somebody's access token."""

    process: Subprocess
    output: Path
    token: str


@pytest.fixture
async def talkative(
    node: Node, spawn: type[Subprocess], settings: Settings, tmp_path: Path, canary: Canary
) -> Talkative:
    output = tmp_path / "output"
    debug = {"K2K_LOG__LEVEL": "debug", "K2K_LOG__FORMAT": "json"}
    process = await spawn.start(settings, embedded._free_port(), output=output, **debug)
    agent = await People(node).agent()
    canary.took(agent.token, agent.refresh_token)
    return Talkative(process, output, agent.token)


async def sign_in(base: str, canary: Canary) -> int:
    """Register, sign in, refresh and sign out with the password of the canary; how many of these went well."""
    email = f"{uuid4().hex}@people.example"
    sent = {"full_name": canary.text, "email": email, "password": canary.password}
    credentials = {"email": email, "password": canary.password}
    async with aiohttp.ClientSession(base) as session:
        statuses = [(await session.post(f"{PREFIX}/auth/register", json=sent)).status]
        statuses.append((await session.post(f"{PREFIX}/auth/login", json={**credentials, "email": "x@y"})).status)
        answer = await session.post(f"{PREFIX}/auth/login", json=credentials)
        pair = await answer.json()
        renewed = await session.post(f"{PREFIX}/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        again = await renewed.json()
        bearer = {"Authorization": f"Bearer {again['access_token']}"}
        left = await session.post(f"{PREFIX}/auth/logout", headers=bearer)
        for each in (pair, again):
            canary.took(each["access_token"], each["refresh_token"])
        statuses += [answer.status, renewed.status, left.status]
    return sum(status < 300 for status in statuses)


def requests(operation: Operation, canary: Canary, token: str) -> Iterator[dict[str, Any]]:
    """One operation asked for in many ways, most of them wrong."""
    ours = {"Authorization": f"Bearer {token}"}
    models = operation.models
    query = sample(models["query"]) if "query" in models else {}
    body = {"json": sample(models["body"], canary.text, everything=True)} if "body" in models else {}
    yield {"headers": ours, "params": query, **body}
    yield {"headers": ours, "params": {**query, "token": canary.bearer, canary.text: canary.phone}, **body}
    yield {"headers": ours, "params": query, "json": {canary.text: canary.password, "password": [canary.phone]}}
    broken = b'{"password": "' + canary.password.encode()
    for type_ in ("application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
        yield {"headers": {**ours, "Content-Type": type_}, "params": query, "data": broken}
    yield {"headers": {**ours, "Content-Encoding": "gzip", "Content-Type": "application/json"}, "data": broken}
    for scheme in ("Bearer", "Basic", ""):
        yield {"headers": {"Authorization": f"{scheme} {canary.bearer}"}, "params": query, **body}
    strange = {"Cookie": f"session={canary.bearer}", "X-Api-Key": canary.bearer, "User-Agent": canary.text}
    yield {"headers": strange, "params": query, **body}


async def ask_everything(base: str, canary: Canary, token: str) -> set[str]:
    """Every operation in every way; the names of those that answered a success at least once."""
    well = set()
    async with aiohttp.ClientSession(base) as session:
        for operation in OPERATIONS:
            for request in requests(operation, canary, token):
                if operation.name == "logout" and request["headers"].get("Authorization") == f"Bearer {token}":
                    continue  # it would end the story
                with suppress(aiohttp.ClientConnectionError):  # it hangs up on a body in no encoding
                    async with session.request(operation.method, PREFIX + path_of(operation), **request) as answer:
                        assert answer.status < 500, await answer.text()
                        if answer.status < 300:
                            well.add(operation.name)
        async with session.get("/nowhere", params={"token": canary.bearer}) as answer:
            assert answer.status == 404
    return well


async def break_http(base: str, canary: Canary) -> None:
    """What the parser itself refuses, the request line and the headers among it."""
    host, port = base.removeprefix("http://").split(":")
    head = f"Host: k2k\r\nAuthorization: Bearer {canary.bearer}"
    for said in (
        f"GET /api/v1/auth/me?token={canary.bearer} HTTP/9.9\r\n{head}\r\n\r\n",
        f"G{{ET /{canary.text} HTTP/1.1\r\n{head}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{head}\x01\r\n\r\n",
        f"GET / HTTP/1.1\r\n{head}\r\nPassword {canary.password}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{head}\r\nX-Phone: {canary.phone * 2000}\r\n\r\n",
        f"POST /api/v1/auth/login HTTP/1.1\r\n{head}\r\nContent-Length: x{canary.text}\r\n\r\n{canary.password}",
        f"POST /api/v1/auth/login HTTP/1.1\r\n{head}\r\nContent-Type: application/json\r\n"
        f'Transfer-Encoding: chunked\r\n\r\nzz\r\n{{"password": "{canary.password}"}}\r\n',
        f"POST /api/v1/auth/login HTTP/1.1\r\n{head}\r\nContent-Type: application/json\r\n"
        f'Content-Length: 500\r\n\r\n{{"password": "{canary.password}"',
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        with suppress(ConnectionError, TimeoutError):
            writer.write(said.encode("latin-1"))
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def talk(base: str, canary: Canary, token: str) -> None:
    """The same over sockets: connects that fail, rpcs good and bad, frames that are none."""
    async with Live.open(base) as live:
        with pytest.raises(LiveError):
            await live.connect(canary.bearer)
    for frame in (f'{{"id":1,"connect":{{"token":"{canary.bearer}"', f'{{"{canary.text}":"{canary.password}"}}'):
        async with Live.open(base) as live:
            await live.socket.send_str(frame)
            await live.close_code()
    async with Live.open(base) as live:
        await live.connect(token)
        with pytest.raises(LiveError):
            await live.command("refresh", {"token": canary.bearer})
        for operation in (operation for operation in OPERATIONS if operation.rpc):
            parts = [sample(model, canary.text) for model in operation.models.values()]
            data = {name: value for part in parts for name, value in part.items()}
            for sent in (data, {**data, "password": canary.password, canary.text: canary.phone}):
                with suppress(LiveError):
                    await live.rpc(str(operation.rpc), **sent)
        with pytest.raises(LiveError):
            await live.rpc(canary.text, token=canary.bearer)


async def test_no_secret_reaches_the_log(talkative: Talkative, canary: Canary) -> None:
    base = talkative.process.api.base
    assert await sign_in(base, canary) == 4
    well = await ask_everything(base, canary, talkative.token)
    assert {"get_me", "change_profile", "publish_property", "list_leads", "list_properties"} <= well
    await break_http(base, canary)
    await talk(base, canary, talkative.token)
    await talkative.process.kill()
    lines = talkative.output.read_text().splitlines()
    told = [line for line in lines if any(value in line for value in canary.all())]
    assert not told, f"take these out of the log:\n{chr(10).join(told)}"
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"redis listening", "client left"} <= {record["event"] for record in records}
    ours = [record for record in records if record["level"] in {"error", "critical"}]
    assert not ours, f"no stranger's nonsense is an error of ours: {ours}"
