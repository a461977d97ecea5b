"""Pictures of what is offered: adding, ordering, choosing the primary one, taking away."""

from __future__ import annotations

from typing import Any

from k2k.core.ids import ListingId
from k2k.core.settings import MediaSettings
from k2k.features.listings import images, store
from k2k.features.listings.errors import (
    ImageNotFound,
    ListingNotFound,
    PropertyNotFound,
    TooManyImages,
    VehicleNotFound,
)
from k2k.features.listings.images import Changing
from k2k.features.listings.kinds import AnyListing
from k2k.features.listings.models import Collection, CollectionPath, ImageOrder, ImagePath
from k2k.features.media import incoming
from k2k.features.media.api import UPLOAD_RATE
from k2k.features.media.errors import FileRefused, MediaBusy, UploadNotFound, UploadsUsedUp
from k2k.features.media.models import IMAGES, Purpose
from k2k.features.media.studio import Studio
from k2k.infra.transaction import Tx
from k2k.ops.call import Call
from k2k.ops.files import Files
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Reply, Routes
from k2k.ops.versions import IfMatch, VersionMismatch, tag

routes = Routes("listings")
OWN = (PropertyNotFound, VehicleNotFound, ListingNotFound, VersionMismatch)


@routes.post(
    "/{collection}/{listing_id}/images",
    may=Permission.offer_listings,
    over=Collection,
    status=201,
    files=IMAGES,
    repeats=Repeats.freely,
    rate=UPLOAD_RATE,
    raises=(*OWN, FileRefused, MediaBusy, UploadsUsedUp, TooManyImages, UploadNotFound),
    headers=("ETag",),
)
async def add_images(call: Call, path: CollectionPath, head: IfMatch, files: Files) -> Reply[Json[AnyListing]]:
    """Upload pictures of one's own listing (JPEG, PNG, WebP or GIF), all or none; they come after those it has.

    The first one becomes the primary image. The same file twice is one picture.
    """
    it, studio = _changing(call, path, head), call.use(Studio)
    await images.require_room(call.db, it)
    uploads = await incoming.receive(call.transaction, studio, it.user, Purpose.image, files, call.now)
    async with call.transaction() as tx:
        await images.add(tx, it, uploads)
        return await _shown(tx, path.listing_id, call)


@routes.put(
    "/{collection}/{listing_id}/images",
    may=Permission.offer_listings,
    over=Collection,
    rpc="listing.arrange_images",
    repeats=Repeats.freely,
    raises=(*OWN, TooManyImages, UploadNotFound),
    headers=("ETag",),
)
async def arrange_images(call: Call, path: CollectionPath, head: IfMatch, body: ImageOrder) -> Reply[Json[AnyListing]]:
    """Say all pictures of one's own listing in their order: images it has, and uploads that are to join them."""
    async with call.transaction() as tx:
        await images.arrange(tx, _changing(call, path, head), body.images)
        return await _shown(tx, path.listing_id, call)


@routes.put(
    "/{collection}/{listing_id}/images/{image_id}/primary",
    may=Permission.offer_listings,
    over=Collection,
    rpc="listing.make_image_primary",
    repeats=Repeats.freely,
    raises=(*OWN, ImageNotFound),
    headers=("ETag",),
)
async def make_image_primary(call: Call, path: ImagePath, head: IfMatch) -> Reply[Json[AnyListing]]:
    """Make a picture of one's own listing the one that lists and maps show."""
    async with call.transaction() as tx:
        await images.make_primary(tx, _changing(call, path, head), path.image_id)
        return await _shown(tx, path.listing_id, call)


@routes.delete(
    "/{collection}/{listing_id}/images/{image_id}",
    may=Permission.offer_listings,
    over=Collection,
    rpc="listing.remove_image",
    raises=(*OWN, ImageNotFound),
    headers=("ETag",),
)
async def remove_image(call: Call, path: ImagePath, head: IfMatch) -> Reply[Json[AnyListing]]:
    """Take a picture away from one's own listing. The one after the primary image takes its place."""
    async with call.transaction() as tx:
        await images.remove(tx, _changing(call, path, head), path.image_id)
        return await _shown(tx, path.listing_id, call)


def _changing(call: Call, path: CollectionPath, head: IfMatch) -> Changing:
    return Changing(path.collection, path.listing_id, call.user.id, head.if_match, call.now)


async def _shown(tx: Tx, listing: ListingId, call: Call) -> Reply[Json[Any]]:
    found = await store.own_listing(tx, listing, call.use(MediaSettings).host)
    return Reply(Json(found.body), {"ETag": tag(found.version, found.body)})
