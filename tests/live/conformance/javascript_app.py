"""Apps with the JavaScript SDK: javascript_app.mjs under Node.js, ordered about by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tests.live.conformance.app import PATIENCE, App, Heard, Member, Past, Refused
from tools import node

PROGRAM = Path(__file__).with_suffix(".mjs")


class JavaScript:
    """One Node.js process for all apps. It starts with the first, ends with `close`, and starts anew if it died."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._numbers = count(1)
        self._apps: dict[int, JavaScriptApp] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def app(self, *, protobuf: bool) -> JavaScriptApp:
        """Another app, which knows nothing of the others."""
        if self._process is None or self._process.returncode is not None:
            await self._start()
        name = next(self._numbers)
        self._apps[name] = JavaScriptApp(self, name, protobuf=protobuf)
        return self._apps[name]

    async def order(self, app: int, order: str, **what: Any) -> Any:
        """What the app answers. Raises Refused if the server refused, ConnectionError if the process ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"app": app, "order": order, "number": number, **what})
        self._process.stdin.write(line.encode() + b"\n")
        return await asyncio.wait_for(answer, PATIENCE)

    def forget(self, app: int) -> None:
        """Whatever is still told of the app goes nowhere."""
        del self._apps[app]

    async def close(self) -> None:
        """The process ends."""
        if self._process is None or self._reader is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._reader

    async def _start(self) -> None:
        command = node.node()
        assert command is not None
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *command, str(PROGRAM), stdin=pipe, stdout=pipe, limit=2**20
        )
        assert self._process.stdout is not None
        assert await asyncio.wait_for(self._process.stdout.readline(), PATIENCE) == b"ready\n"
        self._reader = asyncio.create_task(self._read(self._process.stdout))

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            match json.loads(line):
                case {"app": app, "heard": heard}:
                    if app in self._apps:
                        self._apps[app].note(Heard(**heard))
                case {"number": number, "answer": answer}:
                    self._answers.pop(number).set_result(answer)
                case {"number": number, "refused": refused}:
                    self._answers.pop(number).set_exception(Refused(*refused))
        for waiting in self._answers.values():
            waiting.set_exception(ConnectionError("Node.js ended"))
        self._answers.clear()


class JavaScriptApp(App):
    """A client in the process that all of them share."""

    def __init__(self, javascript: JavaScript, name: int, *, protobuf: bool) -> None:
        super().__init__()
        self._javascript = javascript
        self._name = name
        self._protobuf = protobuf

    async def open(
        self, address: str, token: str = "", *, data: Any = None, tokens: Sequence[str] | None = None
    ) -> None:
        await self._order("open", protobuf=self._protobuf, address=address, token=token, data=data, tokens=tokens)

    async def connect(self) -> None:
        await self._order("connect")

    async def disconnect(self) -> None:
        await self._order("disconnect")

    async def subscribe(
        self, channel: str, *, joins: bool = False, states: Sequence[tuple[str, int]] | None = None
    ) -> None:
        await self._order("subscribe", channel=channel, joins=joins, states=states)

    async def unsubscribe(self, channel: str) -> None:
        await self._order("unsubscribe", channel=channel)

    async def subscribe_again(self, channel: str) -> None:
        await self._order("subscribe_again", channel=channel)

    async def rpc(self, method: str, data: Any) -> Any:
        return await self._order("rpc", method=method, data=data)

    async def publish(self, channel: str, data: Any) -> None:
        await self._order("publish", channel=channel, data=data)

    async def presence(self, channel: str) -> list[Member]:
        return [Member(*one) for one in await self._order("presence", channel=channel)]

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        clients, users = await self._order("presence_stats", channel=channel)
        return clients, users

    async def history(
        self, channel: str, *, limit: int = 0, since: tuple[str, int] | None = None, reverse: bool = False
    ) -> Past:
        return Past(*await self._order("history", channel=channel, limit=limit, since=since, reverse=reverse))

    async def send(self, data: Any) -> None:
        await self._order("send", data=data)

    async def close(self) -> None:
        await self._order("close")
        self._javascript.forget(self._name)

    async def _order(self, order: str, **what: Any) -> Any:
        return await self._javascript.order(self._name, order, **what)
