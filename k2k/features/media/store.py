"""Rows of media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from k2k.core.ids import MediaId, UserId
from k2k.features.media.darkroom import Developed
from k2k.features.media.models import Purpose, Upload
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.registry import Json


@dataclass(frozen=True, slots=True)
class Announced:
    """A file that is to become an upload."""

    name: str
    media_type: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class KnownRow:
    id: MediaId
    sha256: bytes


@dataclass(frozen=True, slots=True)
class UploadRow:
    id: MediaId
    purpose: str
    state: str
    name: str | None
    media_type: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class CountRow:
    uploads: int


@dataclass(frozen=True, slots=True)
class UploadingRow:
    held: bool


@dataclass(frozen=True, slots=True)
class HeldRow:
    id: MediaId


@dataclass(frozen=True, slots=True)
class WaitingRow:
    id: MediaId
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GoneRow:
    id: MediaId
    purpose: str


@dataclass(frozen=True, slots=True)
class StateRow:
    id: MediaId
    state: str


_queries = Queries("media")
UPLOADS_SINCE = _queries.rows("uploads_since", CountRow)
HOLD_UPLOADING = _queries.rows("hold_uploading", UploadingRow)
TOUCH_KNOWN = _queries.rows("touch_known", KnownRow)
ADD_UPLOADS = _queries.rows("add_uploads", KnownRow)
FINISH_UPLOAD = _queries.command("finish_upload")
FIND_UPLOAD = _queries.rows("find_upload", UploadRow)
GET_UPLOAD = _queries.json("get_upload")
LIST_UPLOADS = _queries.json("list_uploads")
HOLD_IMAGES = _queries.rows("hold_images", KnownRow)
HOLD_UPLOAD = _queries.rows("hold_upload", HeldRow)
DELETE_UPLOAD = _queries.rows("delete_upload", GoneRow)
HOLD_WAITING = _queries.rows("hold_waiting", WaitingRow)
NEXT_MEDIA = _queries.rows("next_media", HeldRow)
HOLD_ORPHANS = _queries.rows("hold_orphans", HeldRow)
DELETE_ORPHANS = _queries.rows("delete_orphans", GoneRow)
KNOWN_MEDIA = _queries.rows("known_media", StateRow)


async def uploads_since(db: Reader, owner: UserId, moment: datetime) -> int:
    (row,) = await db.rows(UPLOADS_SINCE, owner, moment)
    return row.uploads


async def hold_uploading(tx: Tx, owner: UserId) -> None:
    """Nobody else counts or adds uploads of this person until the transaction ends."""
    await tx.rows(HOLD_UPLOADING, owner)


async def touch_known(
    tx: Tx, owner: UserId, purpose: Purpose, hashes: Sequence[bytes], now: datetime
) -> dict[bytes, MediaId]:
    """Those of the files that this person has uploaded before, by their hash."""
    rows = await tx.rows(TOUCH_KNOWN, owner, purpose, hashes, now)
    return {row.sha256: row.id for row in sorted(rows, key=lambda row: row.id, reverse=True)}


async def add_uploads(
    tx: Tx, owner: UserId, purpose: Purpose, files: Sequence[Announced], now: datetime
) -> dict[bytes, MediaId]:
    """New ids by the hashes of the files, of which no two may be the same."""
    names, types = [file.name for file in files], [file.media_type for file in files]
    sizes, hashes = [file.size for file in files], [file.sha256 for file in files]
    rows = await tx.rows(ADD_UPLOADS, owner, purpose, names, types, sizes, hashes, now)
    return {row.sha256: row.id for row in rows}


async def finish_upload(tx: Tx, media: MediaId, media_type: str, seen: Developed | None, now: datetime) -> None:
    """It is stored. `seen` is what is known of it where it is an image."""
    known = (seen.width, seen.height, seen.color, seen.blurhash, seen.phash) if seen else (None,) * 5
    await tx.run(FINISH_UPLOAD, media, now, media_type, *known)


async def find_upload(db: Reader, media: MediaId, owner: UserId) -> UploadRow | None:
    return await db.find(FIND_UPLOAD, media, owner)


async def get_upload(db: Reader, media: MediaId, owner: UserId, host: str) -> Json[Upload] | None:
    body = await db.find(GET_UPLOAD, media, owner, host)
    return Json(body) if body is not None else None


async def list_uploads(db: Reader, media: Sequence[MediaId], host: str) -> Json[list[Upload]]:
    (body,) = await db.rows(LIST_UPLOADS, media, host)
    return Json(body)


async def hold_images(tx: Tx, media: Sequence[MediaId], owner: UserId) -> list[KnownRow]:
    return await tx.rows(HOLD_IMAGES, media, owner)


async def delete_upload(tx: Tx, media: MediaId, owner: UserId) -> GoneRow | None:
    """What is gone; None if it is not this person's or in use."""
    await tx.rows(HOLD_UPLOAD, media, owner)
    # A statement of its own, for only a later one sees who came to show it before it was held.
    return await tx.find(DELETE_UPLOAD, media, owner)


async def hold_waiting(tx: Tx, before: datetime, after: WaitingRow, most: int) -> list[WaitingRow]:
    """Those that wait since before that moment, the oldest first, beginning after that one."""
    return await tx.rows(HOLD_WAITING, before, after.created_at, after.id, most)


async def next_media(db: Reader, after: MediaId, most: int) -> list[MediaId]:
    """Whatever there is after that id, in the order of ids."""
    return [row.id for row in await db.rows(NEXT_MEDIA, after, most)]


async def hold_orphans(tx: Tx, page: Sequence[MediaId], before: datetime) -> list[MediaId]:
    """Those of the page that nothing has referred to since that moment."""
    return [row.id for row in await tx.rows(HOLD_ORPHANS, page, before)]


async def delete_orphans(tx: Tx, held: Sequence[MediaId]) -> list[GoneRow]:
    """Delete those that are held, but for what was referred to before they were."""
    return await tx.rows(DELETE_ORPHANS, held) if held else []


async def known_media(db: Reader, media: Sequence[MediaId]) -> dict[MediaId, str]:
    """The states of those that there are."""
    return {row.id: row.state for row in await db.rows(KNOWN_MEDIA, media)}
