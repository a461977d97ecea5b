"""Uploads: images and documents, with the request or by a link into the storage."""

from __future__ import annotations

from k2k.features.media import incoming, service
from k2k.features.media.errors import (
    FileRefused,
    MediaBusy,
    NothingUploaded,
    UploadInUse,
    UploadNotFound,
    UploadsUsedUp,
)
from k2k.features.media.models import (
    DOCUMENTS,
    IMAGES,
    Discarded,
    Purpose,
    Upload,
    UploadGrant,
    UploadLink,
    UploadPath,
    UploadWish,
)
from k2k.features.media.studio import Studio
from k2k.infra.limits import Rate
from k2k.infra.storage.port import NotAsAnnounced
from k2k.ops.call import Call
from k2k.ops.files import Files
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Routes

routes = Routes("uploads")

# A listing has at most fifty pictures, and a seller who is busy a few of those.
UPLOAD_RATE = Rate(120, seconds=60)


@routes.post(
    "/uploads/images",
    may=Permission.own_account,
    status=201,
    files=IMAGES,
    repeats=Repeats.freely,
    rate=UPLOAD_RATE,
    raises=(FileRefused, MediaBusy, UploadsUsedUp),
)
async def upload_images(call: Call, files: Files) -> Json[list[Upload]]:
    """Upload images (JPEG, PNG, WebP or GIF), all or none. They are written anew as WebP, without what a camera notes.

    The same file again is the same upload. What nothing refers to is collected after a day.
    """
    return await _received(call, Purpose.image, files)


@routes.post(
    "/uploads/documents",
    may=Permission.own_account,
    status=201,
    files=DOCUMENTS,
    repeats=Repeats.freely,
    rate=UPLOAD_RATE,
    raises=(FileRefused, UploadsUsedUp),
)
async def upload_documents(call: Call, files: Files) -> Json[list[Upload]]:
    """Upload documents (PDF, JPEG or PNG), all or none. Nobody but their owner gets to them.

    The same file again is the same upload. What nothing refers to is collected after a day.
    """
    return await _received(call, Purpose.document, files)


@routes.post(
    "/uploads",
    may=Permission.own_account,
    status=201,
    rpc="upload.announce",
    rate=UPLOAD_RATE,
    raises=(UploadsUsedUp,),
)
async def announce_upload(call: Call, body: UploadWish) -> UploadGrant:
    """Announce a file that you will put into the storage yourself, and then complete. It must be just as announced."""
    async with call.transaction() as tx:
        return await service.announce(tx, call.use(Studio), call.user.id, body, call.now)


@routes.post(
    "/uploads/{media_id}/complete",
    may=Permission.own_account,
    rpc="upload.complete",
    repeats=Repeats.freely,
    rate=UPLOAD_RATE,
    raises=(UploadNotFound, NothingUploaded, NotAsAnnounced, FileRefused, MediaBusy),
)
async def complete_upload(call: Call, path: UploadPath) -> Json[Upload]:
    """The announced file is there: it is held against what was announced, looked at and kept."""
    return await service.complete(call.transaction, call.use(Studio), path.media_id, call.user.id, call.now)


@routes.get("/uploads/{media_id}", may=Permission.own_account, rpc="upload.get", raises=(UploadNotFound,))
async def get_upload(call: Call, path: UploadPath) -> Json[Upload]:
    """One of my uploads."""
    return await service.get_upload(call.db, path.media_id, call.user.id, call.use(Studio).settings.host)


@routes.post(
    "/uploads/{media_id}/link",
    may=Permission.own_account,
    rpc="upload.link",
    repeats=Repeats.freely,
    raises=(UploadNotFound, NothingUploaded),
)
async def link_upload(call: Call, path: UploadPath) -> UploadLink:
    """An address where my document can be saved, for a minute."""
    return await service.link(call.db, call.use(Studio), path.media_id, call.user.id, call.now)


@routes.delete("/uploads/{media_id}", may=Permission.own_account, raises=(UploadNotFound, UploadInUse))
async def discard_upload(call: Call, path: UploadPath) -> Discarded:
    """Take away an upload of mine that nothing shows."""
    async with call.transaction() as tx:
        await service.discard(tx, path.media_id, call.user.id)
    return Discarded(message="Upload deleted successfully")


async def _received(call: Call, purpose: Purpose, files: Files) -> Json[list[Upload]]:
    studio = call.use(Studio)
    kept = await incoming.receive(call.transaction, studio, call.user.id, purpose, files, call.now)
    return await service.list_uploads(call.db, kept, studio.settings.host)
