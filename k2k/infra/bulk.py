"""Filling tables fast: rows by the hundred thousand, on a connection of its own and without the deadlines of calls.

For what makes whole markets in development, never for what serves. All that holds for a row holds here too: checks,
foreign keys, triggers. Only those constraints that may be deferred are looked at when the transaction ends, so that
rows may come in whatever order writes the least.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from k2k.infra.transaction import Reader

SECONDS = 600
"""Longer than any block of rows should take."""


class Bulk(Reader):
    """A connection for rows in great numbers."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Bulk]:
        """Connect to the database of `url`. Raises OSError or asyncpg's errors, as does all that follows."""
        connection = await asyncpg.connect(
            url,
            timeout=5,
            command_timeout=SECONDS,
            server_settings={
                "application_name": "k2k",
                "timezone": "UTC",
                "jit": "off",
                "random_page_cost": "1.1",
                "synchronous_commit": "off",  # what a crash takes is made again
            },
        )
        try:
            await connection.set_builtin_type_codec("citext", schema="public", codec_name="text")
            yield cls(connection)
        finally:
            await connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All of the block or nothing."""
        async with self._connection.transaction():
            await self._connection.execute("set constraints all deferred")
            yield

    async def records(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        return await self._connection.fetch(text, *arguments)

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows by COPY: a statement of its own, whose triggers see all of them at its end."""
        await self._connection.copy_records_to_table(table, columns=columns, records=rows)

    async def analyze(self) -> None:
        """Tell the planner what tables hold that have just been filled."""
        await self._connection.execute("analyze")
