"""The pictures of a listing: which, in what order, and the primary one. Whoever changes them holds the listing.

The first picture becomes primary, and so does the next one when the primary one is taken away. The same file twice is
one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from k2k.core.ids import ImageId, ListingId, MediaId, UserId
from k2k.features.listings import service, store
from k2k.features.listings.errors import ImageNotFound, TooManyImages
from k2k.features.listings.models import MOST_IMAGES, Collection
from k2k.features.listings.store import ImageRow
from k2k.features.media import service as media
from k2k.infra.transaction import Reader, Tx


@dataclass(frozen=True, slots=True)
class Changing:
    """Who changes which listing, if it is still at `version` (None: whichever), and when."""

    collection: Collection
    listing: ListingId
    user: UserId
    version: int | None
    now: datetime


async def require_room(db: Reader, it: Changing) -> None:
    """Raises early what `add` would raise late, when files have come all the way."""
    state = await store.find_state(db, it.collection, it.listing)
    await service.require_own(db, it.collection, it.listing, it.user, it.version, state)
    if len(await store.listing_images(db, it.listing)) >= MOST_IMAGES:
        raise TooManyImages


async def add(tx: Tx, it: Changing, uploads: Sequence[MediaId]) -> None:
    """Put images that this person has uploaded after those the listing has.

    Raises what `service.change` raises of the listing, UploadNotFound or TooManyImages.
    """
    shown = await _held(tx, it)
    await _arrange(tx, it, shown, [*(image.media_id for image in shown), *uploads])


async def arrange(tx: Tx, it: Changing, wanted: Sequence[UUID]) -> None:
    """Have just these in this order: pictures of the listing, or uploads of this person. Raises what `add` raises."""
    shown = await _held(tx, it)
    known: dict[UUID, MediaId] = {image.id: image.media_id for image in shown}
    await _arrange(tx, it, shown, [known.get(one, MediaId(one)) for one in wanted])


async def make_primary(tx: Tx, it: Changing, image: ImageId) -> None:
    """Have this picture be the one that lists and maps show. Raises what `add` raises, and ImageNotFound."""
    shown = await _held(tx, it)
    chosen = _find(shown, image)
    await _arrange(tx, it, shown, [one.media_id for one in shown], chosen.media_id)


async def remove(tx: Tx, it: Changing, image: ImageId) -> None:
    """Take a picture away. Raises what `make_primary` raises."""
    shown = await _held(tx, it)
    gone = _find(shown, image)
    left = [one for one in shown if one is not gone]
    following = [*left[shown.index(gone) :], *left]
    primary = following[0].media_id if gone.is_primary and following else None
    await _arrange(tx, it, shown, [one.media_id for one in left], primary)


async def _held(tx: Tx, it: Changing) -> list[ImageRow]:
    """The pictures, which nobody else changes from here on."""
    await service.hold_own(tx, it.collection, it.listing, it.user, it.version)
    # A statement of its own: it must see what was committed before the listing was held.
    return await store.listing_images(tx, it.listing)


async def _arrange(
    tx: Tx, it: Changing, shown: Sequence[ImageRow], wanted: Sequence[MediaId], primary: MediaId | None = None
) -> None:
    """Make `wanted` the pictures, and `primary` (None: the one it was, else the first) the primary one, if not so."""
    hashes = {image.media_id: image.sha256 for image in shown}
    fresh = list(dict.fromkeys(one for one in wanted if one not in hashes))
    hashes |= {picture.id: picture.sha256 for picture in await media.hold_images(tx, fresh, it.user)}
    # What is shown already stays the picture of its file, so it counts before what is new.
    of_file = {hashes[one]: one for one in [*reversed(wanted), *(image.media_id for image in shown)]}
    kept = list(dict.fromkeys(of_file[hashes[one]] for one in wanted))
    if len(kept) > MOST_IMAGES:
        raise TooManyImages(f"A listing has at most {MOST_IMAGES} images")
    before = next((image.media_id for image in shown if image.is_primary), None)
    after = next((one for one in (primary, before) if one in kept), kept[0] if kept else None)
    if ([image.media_id for image in shown], before) != (kept, after):
        await store.arrange_images(tx, it.listing, kept, after, it.user, it.now)
        service.inspect(tx, it.listing)


def _find(shown: Sequence[ImageRow], image: ImageId) -> ImageRow:
    found = next((one for one in shown if one.id == image), None)
    if found is None:
        raise ImageNotFound
    return found
