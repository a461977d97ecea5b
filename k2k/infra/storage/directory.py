"""Files below a directory of this machine, which all processes share. It is served by `web/storage`."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import structlog

from k2k.core.clock import Clock
from k2k.core.errors import Unavailable
from k2k.infra.storage.port import NAME, NotAsAnnounced, NotStored, SignedPut, Stored, checked
from k2k.infra.storage.signing import Signer
from k2k.infra.storage.spool import spool

PIECE = 256 * 1024
TOGETHER = 1000
"""Files that one look into the directory tells of."""
UNFINISHED = "unfinished/"
"""Where files stand until they are whole. What a crash leaves there is collected like everything nobody knows."""
ADDRESS = "/media/"

log = structlog.get_logger()


class Directory:
    """A storage of files. Times of links go by `clock`."""

    def __init__(self, root: Path, signer: Signer, clock: Clock) -> None:
        self.signer = signer
        self.clock = clock
        self._root = root

    def path(self, name: str) -> Path:
        """Where the file of this name is, if it is there."""
        return self._root / checked(name)

    async def require(self, name: str) -> Path:
        """Where the file of this name is. Raises NotStored, and Unavailable where it lies there and cannot be read."""
        path = self.path(name)
        with _disk():
            try:
                await asyncio.to_thread(_try_to_open, path)
            except FileNotFoundError:
                raise NotStored from None
        return path

    async def put(self, name: str, file: Path, media_type: str) -> None:
        def put() -> None:
            unfinished = self._unfinished()
            shutil.copyfile(file, unfinished)
            self._finish(unfinished, name)

        with _disk():
            await asyncio.to_thread(put)

    async def receive(self, name: str, chunks: AsyncIterator[bytes], size: int, sha256: bytes) -> None:
        """Keep what comes if it is just so long and has this hash. Raises NotAsAnnounced and what `chunks` raise."""
        with _disk():
            unfinished = await asyncio.to_thread(self._unfinished)
            try:
                came = await spool(chunks, unfinished, size)
                if (came.size, came.sha256) != (size, sha256):
                    raise NotAsAnnounced("It is not the file of that length and that SHA-256 which was announced")
                await asyncio.to_thread(self._finish, unfinished, name)
            finally:
                await asyncio.to_thread(unfinished.unlink, missing_ok=True)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        with _disk():
            try:
                file = await asyncio.to_thread(self.path(name).open, "rb")
            except FileNotFoundError:
                raise NotStored from None
            with file:
                while piece := await asyncio.to_thread(file.read, PIECE):
                    yield piece

    async def find(self, name: str) -> Stored | None:
        with _disk():
            return await asyncio.to_thread(_stored, self.path(name), name)

    async def delete(self, names: Iterable[str]) -> None:
        paths = [self.path(name) for name in names]

        def delete() -> None:
            for path in paths:
                path.unlink(missing_ok=True)

        with _disk():
            await asyncio.to_thread(delete)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Stored]:
        kind = prefix.partition("/")[0]

        def names() -> list[str]:
            with suppress(FileNotFoundError):
                found = (f"{kind}/{entry}" for entry in os.listdir(self._root / kind))
                return sorted(
                    name for name in found if NAME.fullmatch(name) and name.startswith(prefix) and name > after
                )
            return []

        def looked_at(some: Sequence[str]) -> Iterable[Stored]:
            return [stored for name in some if (stored := _stored(self._root / name, name)) is not None]

        with _disk():
            found = await asyncio.to_thread(names)
            for begin in range(0, len(found), TOGETHER):
                for stored in await asyncio.to_thread(looked_at, found[begin : begin + TOGETHER]):
                    yield stored

    async def signed_put(self, name: str, media_type: str, size: int, sha256: bytes, seconds: int) -> SignedPut:
        fields = {"type": media_type, "bytes": str(size), "sha256": sha256.hex()}
        return SignedPut(self._address("PUT", name, fields, seconds), {"Content-Type": media_type})

    async def signed_get(self, name: str, media_type: str, disposition: str, seconds: int) -> str:
        return self._address("GET", name, {"type": media_type, "disposition": disposition}, seconds)

    async def close(self) -> None:
        """Nothing is open."""

    def _address(self, method: str, name: str, fields: dict[str, str], seconds: int) -> str:
        expires = self.clock.now() + timedelta(seconds=seconds)
        return f"{ADDRESS}{quote(checked(name))}?{self.signer.query(method, name, fields, expires)}"

    def _unfinished(self) -> Path:
        path = self._root / f"{UNFINISHED}{uuid4().hex}"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def _finish(self, unfinished: Path, name: str) -> None:
        """Put a whole file where it belongs: it survives a power cut from here on."""
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)


def _try_to_open(path: Path) -> None:
    with path.open("rb"):
        pass


def _stored(path: Path, name: str) -> Stored | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Stored(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


@contextmanager
def _disk() -> Iterator[None]:
    """A disk that is full, broken or gone is a storage that is away."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise  # of whoever sends a file: a disk knows neither
    except OSError as error:
        log.warning("the directory of the media fails", error=repr(error))
        raise Unavailable from error
