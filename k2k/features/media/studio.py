"""What uploads are worked on with: the storage, the darkroom, and a table to lay files on."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from k2k.core.errors import Unavailable
from k2k.core.settings import MediaSettings
from k2k.features.media.darkroom import Darkroom
from k2k.infra.storage.port import Storage


@dataclass(frozen=True, slots=True)
class Studio:
    """Bound by `app` for the operations."""

    storage: Storage
    darkroom: Darkroom
    settings: MediaSettings
    workroom: Path

    async def close(self) -> None:
        """End what is being developed, and close connections."""
        self.darkroom.close()
        await self.storage.close()

    @asynccontextmanager
    async def table(self) -> AsyncIterator[Path]:
        """A directory of its own for one request, gone with it. Raises Unavailable where the disk has no room."""

        def lay() -> Path:
            self.workroom.mkdir(parents=True, exist_ok=True, mode=0o700)
            return Path(tempfile.mkdtemp(dir=self.workroom))

        try:
            table = await asyncio.to_thread(lay)
        except OSError as error:
            raise Unavailable from error
        try:
            yield table
        finally:
            # Whatever becomes of the request: what a killed process leaves is collected.
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, table, ignore_errors=True))
