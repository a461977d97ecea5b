"""How pgqueuer reaches PostgreSQL: through a `Db` of its own, and with patience.

A `QueueManager` whose connection dies forgets which jobs it has just finished, and they would run again. So it never
hears of it: every statement is repeated until PostgreSQL answers, and the listening connection is opened anew.
All of pgqueuer's statements may be repeated; what one of them took without our hearing is taken again when its
heartbeat has grown old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog
from pgqueuer.adapters.drivers.asyncpg import Relay
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import NotifyCallback

from k2k.core.errors import Unavailable
from k2k.infra.db import CLIENT_FAULTS, LOST, Db
from k2k.infra.transaction import Reader

PAUSE = 0.2
"""Seconds between two tries to reach PostgreSQL."""
CONNECT = 5.0
"""Seconds a new listening connection may take."""

log = structlog.get_logger()


class PatientDriver(Reader):
    """A pgqueuer driver that waits while PostgreSQL is away, until `patient` is taken from it."""

    def __init__(self, db: Db, url: str) -> None:
        self.patient = True
        self._db = db
        self._url = url
        self._shutdown = asyncio.Event()
        self._listeners: set[asyncio.Task[None]] = set()

    async def records(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """Raises Unavailable only when patience has ended."""
        while True:
            try:
                return await self._db.records(text, arguments)
            except Unavailable:
                if not self.patient:
                    raise
            await asyncio.sleep(PAUSE)

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return [dict(record) for record in await self.records(query, args)]

    async def execute(self, query: str, *args: object) -> str:
        await self.records(query, args)
        return ""  # the status, which nobody looks at

    async def notify(self, channel: str, payload: str) -> None:
        await self.records("select pg_notify($1, $2)", (channel, payload))

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Hear the channel from about now on. What is missed while connecting, polling finds."""
        self._listeners.add(asyncio.create_task(self._listen(channel, callback)))

    async def _listen(self, channel: str, callback: NotifyCallback) -> None:
        while True:
            try:
                connection = await asyncpg.connect(self._url, timeout=CONNECT)
                lost = asyncio.Event()
                connection.add_termination_listener(lambda _, lost=lost: lost.set())
                try:
                    async with asyncio.timeout(CONNECT):
                        await connection.add_listener(channel, Relay(callback))
                    await lost.wait()
                finally:
                    connection.terminate()
            except (*LOST, *CLIENT_FAULTS) as error:
                log.warning("jobs are found by polling: no connection to listen on", error=repr(error))
            await asyncio.sleep(PAUSE)

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return TaskManager()

    async def __aenter__(self) -> PatientDriver:
        return self

    async def __aexit__(self, *_: object) -> None:
        """The queue and the schedules both enter; `close` ends it for both."""

    async def close(self) -> None:
        """Stop listening and close the connections."""
        for task in self._listeners:
            task.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        await self._db.close()
