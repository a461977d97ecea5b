"""The port: what keeps files by name, whatever it is made of.

A name is `<kind>/<rest>` and was made from an id, so it never means anything else later. Nothing of what people call
their files gets in here. Every call ends: in its result, or in Unavailable where the storage is away, slow or full.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from k2k.core.errors import Invalid

NAME = re.compile(r"[a-z]{1,20}/[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
PUBLIC = "images/"
"""Names that begin so may be read by everybody, and for ever; no others may."""


class NotStored(Exception):
    """There is nothing under this name."""


class NotAsAnnounced(Invalid):
    """What was uploaded is longer, shorter, other or of another kind than what was announced. It was not kept."""

    code = "not-as-announced"
    number = 1034
    title = "The upload is not what was announced"


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies under a name."""

    name: str
    size: int
    """In bytes."""
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class SignedPut:
    """Where somebody else may put one file by themselves (HTTP PUT), and the headers they must send with it."""

    url: str
    headers: Mapping[str, str]


class Storage(Protocol):
    """Keeps files. All raise Unavailable; ValueError for a name that is none."""

    async def put(self, name: str, file: Path, media_type: str) -> None:
        """Keep what this file holds, in place of what lay there before: wholly or not at all."""

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """What lies there, in parts; close it, also where the end is not wanted. Raises NotStored."""

    async def find(self, name: str) -> Stored | None:
        """What is known of a file without reading it."""

    async def delete(self, names: Iterable[str]) -> None:
        """Forget these, whether they are there or not."""

    def list(self, prefix: str, after: str = "") -> AsyncIterator[Stored]:
        """Everything whose name begins with the prefix and is greater than `after`, in the order of the names."""

    async def signed_put(self, name: str, media_type: str, size: int, sha256: bytes, seconds: int) -> SignedPut:
        """Leave to put exactly such a file, of `size` bytes, for so many seconds."""

    async def signed_get(self, name: str, media_type: str, disposition: str, seconds: int) -> str:
        """The address where this file can be read for so many seconds, with this Content-Disposition."""

    async def close(self) -> None:
        """Close connections."""


def checked(name: str) -> str:
    """The name, if it is one. ValueError otherwise: names are made by us, so it is our mistake."""
    if not NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is no name in a storage")
    return name
