"""Uploads: announcing one and looking at what came, reading, linking and taking away. Files in requests: `incoming`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import ClassVar

from k2k.core.errors import Unavailable
from k2k.core.ids import MediaId, UserId
from k2k.features.media import store
from k2k.features.media.errors import FileRefused, NothingUploaded, UploadInUse, UploadNotFound
from k2k.features.media.incoming import Begin, Laid, Looked, add, look, put
from k2k.features.media.models import (
    Picture,
    Purpose,
    Upload,
    UploadGrant,
    UploadLink,
    UploadState,
    UploadWish,
    incoming_key,
    keys,
)
from k2k.features.media.store import Announced, UploadRow
from k2k.features.media.studio import Studio
from k2k.infra.jobs.job import Job
from k2k.infra.storage.port import NotAsAnnounced, NotStored
from k2k.infra.storage.spool import spool
from k2k.infra.transaction import Reader, Tx
from k2k.ops.registry import Json
from k2k.web.files import attachment


class DropFiles(Job):
    """Files in the storage that nothing names any longer."""

    name: ClassVar[str] = "media.drop"
    names: list[str]


async def announce(tx: Tx, studio: Studio, owner: UserId, wish: UploadWish, now: datetime) -> UploadGrant:
    """Leave to put one file into the storage. Raises UploadsUsedUp."""
    sha256, minutes = bytes.fromhex(wish.sha256), studio.settings.upload_minutes
    file = Announced(wish.name, wish.media_type, wish.bytes, sha256)
    media = (await add(tx, studio, owner, wish.purpose, [file], now))[sha256]
    leave = await studio.storage.signed_put(incoming_key(media), wish.media_type, wish.bytes, sha256, minutes * 60)
    return UploadGrant(
        media_id=media,
        method="PUT",
        url=leave.url,
        headers=dict(leave.headers),
        expires_at=now + timedelta(minutes=minutes),
    )


async def complete(begin: Begin, studio: Studio, media: MediaId, owner: UserId, now: datetime) -> Json[Upload]:
    """Look at what was put into the storage, and keep it if it is what was announced. The second time is as the first.

    Raises UploadNotFound, NothingUploaded, NotAsAnnounced, FileRefused, MediaBusy and Unavailable.
    """
    async with begin() as tx:
        upload = await store.find_upload(tx, media, owner)
    if upload is None:
        raise UploadNotFound
    if upload.state == UploadState.waiting:
        looked = await _finish(studio, upload, owner)
        async with begin() as tx:
            await store.finish_upload(tx, media, looked.media_type, looked.seen, now)
            # Another one could be put there, as long as the leave lives. It would be collected.
            tx.enqueue(DropFiles(names=[incoming_key(media)]))
    async with begin() as tx:
        return await get_upload(tx, media, owner, studio.settings.host)


async def _finish(studio: Studio, upload: UploadRow, owner: UserId) -> Looked:
    """Fetch, hold against what was announced, look at and store. What does not fit is deleted."""
    purpose, key = Purpose(upload.purpose), incoming_key(upload.id)
    if purpose is Purpose.image:
        studio.darkroom.require_room(owner)
    async with studio.table(owner, purpose, 1) as table:
        path = table / "0"
        try:
            async with aclosing(studio.storage.read(key)) as chunks:
                spooled = await spool(chunks, path, upload.size)
        except NotStored:
            raise NothingUploaded from None
        except OSError as error:
            raise Unavailable from error
        try:
            if (spooled.size, spooled.sha256) != (upload.size, upload.sha256):
                raise NotAsAnnounced("It is not the file of that length and that SHA-256 which was announced")
            (looked,) = await look(studio, owner, purpose, [Laid(upload.name or "file", path, spooled, 0)])
            if looked.media_type != upload.media_type:
                raise NotAsAnnounced(f"It was announced as {upload.media_type}, and is {looked.media_type}")
        except (NotAsAnnounced, FileRefused):
            await studio.storage.delete([key])
            raise
        await put(studio, upload.id, purpose, looked)
    return looked


async def get_upload(db: Reader, media: MediaId, owner: UserId, host: str) -> Json[Upload]:
    """One's own upload. Raises UploadNotFound."""
    found = await store.get_upload(db, media, owner, host)
    if found is None:
        raise UploadNotFound
    return found


async def list_uploads(db: Reader, media: Sequence[MediaId], host: str) -> Json[list[Upload]]:
    """Uploads in this order."""
    return await store.list_uploads(db, media, host)


async def link(db: Reader, studio: Studio, media: MediaId, owner: UserId, now: datetime) -> UploadLink:
    """The address of one's own document, for a minute at most. Raises UploadNotFound, NothingUploaded."""
    upload = await store.find_upload(db, media, owner)
    if upload is None or upload.purpose != Purpose.document:
        raise UploadNotFound
    if upload.state != UploadState.ready:
        raise NothingUploaded
    (key,) = keys(media, Purpose.document)
    seconds, shown = studio.settings.link_seconds, attachment(upload.name or "file")
    url = await studio.storage.signed_get(key, upload.media_type, shown, seconds)
    return UploadLink(url=url, expires_at=now + timedelta(seconds=seconds))


async def discard(tx: Tx, media: MediaId, owner: UserId) -> None:
    """Take one's own upload away for good. Raises UploadNotFound, or UploadInUse."""
    gone = await store.delete_upload(tx, media, owner)
    if gone is None:
        found = await store.find_upload(tx, media, owner)
        raise UploadInUse if found is not None else UploadNotFound
    tx.enqueue(DropFiles(names=[*keys(media, Purpose(gone.purpose)), incoming_key(media)]))


async def hold_images(tx: Tx, media: Sequence[MediaId], owner: UserId) -> list[Picture]:
    """These images, in their order, kept until the transaction ends. Raises UploadNotFound for what is none."""
    found = {row.id: Picture(row.id, row.sha256) for row in await store.hold_images(tx, media, owner)} if media else {}
    if missing := [one for one in media if one not in found]:
        raise UploadNotFound(f"There is no image of yours that is ready with the id {missing[0]}")
    return [found[one] for one in media]
