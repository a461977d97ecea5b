"""Uploads by the hundred, as rows: for markets made up in development. Their files are stored by whoever adds them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from k2k.core.ids import MediaId, UserId
from k2k.infra.bulk import Bulk

Digest = bytes  # the row has a column of that name


class MediaRow(NamedTuple):
    """A row of media: an image that is ready."""

    id: MediaId
    owner_id: UserId
    purpose: str
    state: str
    name: str
    media_type: str
    bytes: int
    sha256: Digest
    width: int
    height: int
    color: str
    blurhash: str
    phash: int
    created_at: datetime
    ready_at: datetime


async def load_media(bulk: Bulk, rows: Sequence[MediaRow]) -> None:
    """Add images."""
    await bulk.copy("media", MediaRow._fields, rows)
