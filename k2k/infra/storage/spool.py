"""Files on their way in, on disk and never whole in memory. The loop waits for no disk: threads write."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spooled:
    """What came."""

    size: int
    sha256: bytes
    head: bytes
    """The first bytes, by which the kind of a file is known."""


HEAD_BYTES = 32


async def spool(chunks: AsyncIterator[bytes], file: Path, most: int | None = None) -> Spooled:
    """Write what comes to the file. Ends early, with more than `most` bytes, where more come. Raises OSError."""
    digest, size, head = hashlib.sha256(), 0, b""
    with await asyncio.to_thread(file.open, "xb") as opened:

        def keep(chunk: bytes) -> None:
            digest.update(chunk)
            opened.write(chunk)

        async for chunk in chunks:
            size += len(chunk)
            if len(head) < HEAD_BYTES:
                head = (head + chunk)[:HEAD_BYTES]
            await asyncio.to_thread(keep, chunk)
            if most is not None and size > most:
                break
    return Spooled(size, digest.digest(), head)
