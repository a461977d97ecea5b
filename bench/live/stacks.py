"""What the sides are: how each is started, greeted, written to and published to.

A peer lives below bench/peers: its code, and its packages with their exact versions and hashes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from aiohttp.test_utils import unused_port

from bench.harness import peers
from bench.harness.machine import Cores, versions
from bench.harness.servers import HOME, ROOT, Backing, Running, key2key, process
from bench.live.people import Person, row_id
from k2k.core.settings import load
from k2k.infra.embedded import EmbeddedError
from tools import node

ROOM = f"listing:{row_id('listing', 1)}"
TEXT = "~@T~@N~ " + "x" * 70
"""A message of 100 characters; the mark is filled in when it is sent."""
Dialect = Literal["centrifuge", "plain", "socketio"]
Form = Literal["key2key", "raw", "socketio", "channels"]


@dataclass(frozen=True)
class Ground:
    """What a side is started on."""

    backing: Backing
    key: str
    cores: Cores


class Stack(ABC):
    """One of those that are compared."""

    name: ClassVar[str]
    dialect: ClassVar[Dialect] = "plain"
    path: ClassVar[str] = "/ws"
    form: ClassVar[Form] = "raw"
    """How a publisher writes what goes through Redis."""

    @abstractmethod
    def serve(self, ground: Ground, name: str, port: int | None = None) -> Iterator[Running]:
        """A serving process, as a generator for `contextmanager`."""

    def prepare(self) -> None:  # noqa: B027 -- ours has nothing to install
        """Install what is missing."""

    @abstractmethod
    def versions(self) -> str:
        """Its packages with their versions."""

    def hellos(self, person: Person, rooms: Sequence[str]) -> list[str]:
        """The frames of a new client, each of which is answered by one."""
        return [json.dumps({"token": person.token, "rooms": list(rooms)})]

    def chatting(self, person: Person, conversation: str) -> list[str]:
        """The first frames of somebody who takes part in a conversation, a room with most."""
        return self.hellos(person, [conversation])

    def again(self, person: Person) -> str:
        """The first frame of a client that comes back, with @E and @O for its place; empty: like a new one."""
        return ""

    def message(self, conversation: str, room: str) -> str:
        """The frame with which a message is said; ours name the conversation, peers the room."""
        return json.dumps({"room": room, "client_id": "@N", "message": TEXT})


class Key2Key(Stack):
    name = "Key2Key"
    dialect = "centrifuge"
    path = "/connection/websocket"
    form = "key2key"
    settings: ClassVar[dict[str, str]] = {}

    def serve(self, ground: Ground, name: str, port: int | None = None) -> Iterator[Running]:
        with key2key(name, ground.backing, ground.key, ground.cores, port=port, settings=self.settings) as running:
            yield running

    def versions(self) -> str:
        return versions("aiohttp", "asyncpg", "redis", "uvloop")

    def hellos(self, person: Person, rooms: Sequence[str]) -> list[str]:
        connect = {"id": 1, "connect": {"token": person.token}}
        subscribes = [{"id": 2 + n, "subscribe": {"channel": room}} for n, room in enumerate(rooms)]
        return [json.dumps(command) for command in (connect, *subscribes)]

    def chatting(self, person: Person, conversation: str) -> list[str]:
        return self.hellos(person, [])  # what is said goes to everybody's own channel

    def again(self, person: Person) -> str:
        subs = f'{{"user:{person.id}":{{"recover":true,"epoch":"@E","offset":@O}}}}'
        return f'{{"id":1,"connect":{{"token":"{person.token}","subs":{subs}}}}}'

    def message(self, conversation: str, room: str) -> str:
        sent = f'{{"conversation_id":"{conversation}","client_id":"@N","message":"{TEXT}"}}'
        return f'{{"id":@N,"rpc":{{"method":"chat.send","data":{sent}}}}}'


class Compressing(Key2Key):
    name = "Key2Key, compressing"
    settings: ClassVar[dict[str, str]] = {"K2K_LIVE__COMPRESSION": "true"}


class PythonPeer(Stack):
    peer: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def prepare(self) -> None:
        peers.environment(self.peer)

    def versions(self) -> str:
        return peers.versions(self.peer, *self.packages)

    def serve(self, ground: Ground, name: str, port: int | None = None) -> Iterator[Running]:
        port = port or unused_port()
        command = [str(peers.environment(self.peer)), "-m", "uvicorn", "app:app", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--backlog", "4096"]
        command += ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]
        command += ["--no-access-log", "--log-level", "warning"]
        directory = peers.PEERS / self.peer
        with process(name, command, variables(ground, port), directory, ground.cores.server, port, "/health") as pid:
            yield Running(port, pid)


class FastApi(PythonPeer):
    name = "FastAPI"
    peer = "fastapi_live"
    packages = ("fastapi", "uvicorn", "uvloop", "websockets", "redis", "asyncpg")


class Channels(PythonPeer):
    name = "Django Channels"
    form = "channels"
    peer = "channels"
    packages = ("channels", "channels-redis", "django", "uvicorn", "websockets", "redis")


class Picows(PythonPeer):
    name = "bare picows"
    path = "/"
    peer = "picows"
    packages = ("picows", "uvloop", "redis")

    def serve(self, ground: Ground, name: str, port: int | None = None) -> Iterator[Running]:
        port = port or unused_port()
        command = [str(peers.environment(self.peer)), "app.py"]
        directory = peers.PEERS / self.peer
        with process(name, command, variables(ground, port), directory, ground.cores.server, port, None) as pid:
            yield Running(port, pid)


class NodePeer(Stack):
    peer: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    settings: ClassVar[dict[str, str]] = {}

    def prepare(self) -> None:
        node_home(self.peer)

    def versions(self) -> str:
        said = [f"{one} {installed(self.peer, one)}" for one in self.packages]
        return ", ".join([*said, f"node {node_version()}"])

    def serve(self, ground: Ground, name: str, port: int | None = None) -> Iterator[Running]:
        port = port or unused_port()
        home = node_home(self.peer)
        command = [*node_command(), "app.js"]
        environment = {**variables(ground, port), **self.settings, "NODE_ENV": "production"}
        with process(name, command, environment, home, ground.cores.server, port, "/") as pid:
            yield Running(port, pid)


class NodeWs(NodePeer):
    name = "node ws"
    peer = "node_ws"
    packages = ("ws", "redis", "pg")


class NodeBatched(NodeWs):
    name = "node ws, batching"
    settings: ClassVar[dict[str, str]] = {"BATCHED": "1"}


class SocketIo(NodePeer):
    name = "Socket.IO"
    dialect = "socketio"
    path = "/socket.io/?EIO=4&transport=websocket"
    form = "socketio"
    peer = "socketio"
    packages = ("socket.io", "@socket.io/redis-adapter", "redis", "pg")

    def hellos(self, person: Person, rooms: Sequence[str]) -> list[str]:
        return ["40" + json.dumps({"token": person.token, "rooms": list(rooms)})]

    def message(self, conversation: str, room: str) -> str:
        return "42" + json.dumps(["chat", {"room": room, "client_id": "@N", "message": TEXT}])


@contextmanager
def serving(stack: Stack, ground: Ground, name: str, port: int | None = None) -> Iterator[Running]:
    """A serving process of the stack. `name` names its log."""
    yield from stack.serve(ground, name, port)


def variables(ground: Ground, port: int) -> dict[str, str]:
    """What every peer is told."""
    return {
        "PORT": str(port),
        "SECRET": ground.key,
        "REDIS_URL": ground.backing.redis_url,
        "DATABASE_URL": ground.backing.database_url,
        "POOL": str(load({}).database.pool_max),
        "ROOM": ROOM,
    }


class NoNode(EmbeddedError):
    """There is no Node.js here."""


def node_command() -> list[str]:
    """Raises NoNode."""
    command = node.node()
    if command is None:
        raise NoNode(node.MISSING)
    return command


def node_version() -> str:
    command = [*node_command(), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip().lstrip("v")


def node_home(peer: str) -> Path:
    """The peer's code beside its packages, installed when they are missing or others than the lock file says."""
    source, home = peers.PEERS / peer, HOME / peer
    lock, stamp = source / "package-lock.json", home / "package-lock.sha256"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"Installing the peer {peer} (once) …", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for file in (source / "package.json", lock, ROOT / ".npmrc"):
            shutil.copy(file, home)
        npm = node.npm()
        if npm is None:
            raise NoNode(node.MISSING)
        subprocess.run([*npm, "ci", "--silent"], cwd=home, check=True, timeout=peers.BUILD_SECONDS)
        stamp.write_text(digest)
    shutil.copy(source / "app.js", home)
    return home


def installed(peer: str, package: str) -> str:
    told = json.loads((HOME / peer / "node_modules" / package / "package.json").read_text())
    return str(told["version"])
