"""An app with the JavaScript SDK: javascript_app.mjs under Node.js, ordered about by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.live.conformance.app import PATIENCE, App, Heard, Member, Past, Refused
from tools import node

PROGRAM = Path(__file__).with_suffix(".mjs")


class JavaScriptApp(App):
    """A process, which ends with `close`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, *, protobuf: bool) -> JavaScriptApp:
        command = node.node()
        assert command is not None
        encoding = "protobuf" if protobuf else "json"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, str(PROGRAM), encoding, stdin=pipe, stdout=pipe, limit=2**20
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"ready\n"
        return cls(process)

    async def open(
        self, address: str, token: str = "", *, data: Any = None, tokens: Sequence[str] | None = None
    ) -> None:
        await self._order("open", address=address, token=token, data=data, tokens=tokens)

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
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._reader

    async def _order(self, order: str, **what: Any) -> Any:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"order": order, "number": self._number, **what}).encode() + b"\n")
        return await asyncio.wait_for(answer, PATIENCE)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            match json.loads(line):
                case {"heard": heard}:
                    self.note(Heard(**heard))
                case {"number": number, "answer": answer}:
                    self._answers.pop(number).set_result(answer)
                case {"number": number, "refused": refused}:
                    self._answers.pop(number).set_exception(Refused(*refused))
