"""What uploads are worked on with: the storage, the darkroom, and a table to lay files on."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from k2k.core.errors import Unavailable
from k2k.core.ids import UserId
from k2k.core.settings import MediaSettings
from k2k.features.media.darkroom import Darkroom
from k2k.features.media.errors import MediaBusy
from k2k.features.media.models import IMAGES, Purpose
from k2k.features.media.shares import Shares
from k2k.infra.storage.port import Storage

LAID_AT_ONCE = 3 * IMAGES.most
"""Files of one owner that this process may have on disk: those of three requests with as many as one may bring."""


@dataclass(frozen=True, slots=True)
class Studio:
    """Bound by `app` for the operations."""

    storage: Storage
    darkroom: Darkroom
    settings: MediaSettings
    workroom: Path
    laid: Shares = field(default_factory=lambda: Shares(LAID_AT_ONCE), compare=False)
    """Files that may lie on the tables of one owner."""

    async def close(self) -> None:
        """End what is being developed, and close connections."""
        self.darkroom.close()
        await self.storage.close()

    @asynccontextmanager
    async def table(self, owner: UserId, purpose: Purpose, files: int) -> AsyncIterator[Path]:
        """A directory of its own for one request and at most so many files, gone with it.

        Raises MediaBusy (for documents Unavailable) where too many files of this owner lie on tables of this process,
        so that the disk has room for others' too; and Unavailable where it has none.
        """
        if not self.laid.take(owner, files):
            raise MediaBusy if purpose is Purpose.image else Unavailable
        try:
            async with self._table() as table:
                yield table
        finally:
            self.laid.give_back(owner, files)

    @asynccontextmanager
    async def _table(self) -> AsyncIterator[Path]:

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
