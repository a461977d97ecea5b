"""Files that come with a request: laid on a table, looked at, kept. Either all of a request's are kept or none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from k2k.core.errors import Unavailable
from k2k.core.ids import MediaId, UserId
from k2k.features.media import store
from k2k.features.media.darkroom import Developed
from k2k.features.media.errors import FileRefused, UploadsUsedUp
from k2k.features.media.models import DOCUMENTS, IMAGES, TYPES, UNSAID, Purpose, Size, image_key, keys
from k2k.features.media.store import Announced
from k2k.features.media.studio import Studio
from k2k.infra.storage.spool import Spooled, spool
from k2k.infra.transaction import Tx
from k2k.ops.files import Files

Result = TypeVar("Result")
Begin = Callable[[], AbstractAsyncContextManager[Tx]]
"""Opens a transaction: developing and storing take seconds, and no transaction lasts so long."""

MOST = {Purpose.image: IMAGES.most, Purpose.document: DOCUMENTS.most}
"""Files that a request may bring."""
MAGIC = {b"%PDF-": "application/pdf", b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
"""How documents begin."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A file on the table."""

    name: str
    path: Path
    spooled: Spooled
    place: int

    @property
    def sha256(self) -> bytes:
        return self.spooled.sha256

    @property
    def sizes(self) -> Path:
        """The directory for what is developed of it."""
        return self.path.with_suffix(".sizes")


@dataclass(frozen=True, slots=True)
class Looked:
    """A file whose content is known."""

    laid: Laid
    media_type: str
    seen: Developed | None

    @property
    def announced(self) -> Announced:
        return Announced(self.laid.name, self.media_type, self.laid.spooled.size, self.laid.sha256)


async def receive(
    begin: Begin, studio: Studio, owner: UserId, purpose: Purpose, files: Files, now: datetime
) -> list[MediaId]:
    """Keep the files; their ids, in their order. What this person has uploaded before keeps the id it has.

    Raises FileRefused for the first that is not taken, UploadsUsedUp, MediaBusy, Unavailable and what `Files` raises.
    """
    async with begin() as tx:
        await spare(tx, studio, owner, 1, now)
    if purpose is Purpose.image:
        studio.darkroom.require_room(owner)
    async with studio.table(owner, purpose, MOST[purpose]) as table:
        laid = await _lay(table, purpose, files)
        first = {one.sha256: one for one in reversed(laid)}
        async with begin() as tx:
            known = await store.touch_known(tx, owner, purpose, list(first), now)
            fresh = [one for one in laid if one is first[one.sha256] and one.sha256 not in known]
            if fresh:  # now, and not only after all of them have been developed
                await spare(tx, studio, owner, len(fresh), now)
        looked = await look(studio, owner, purpose, fresh)
        known |= await _keep(begin, studio, owner, purpose, looked, now)
    return [known[one.sha256] for one in laid]


async def spare(tx: Tx, studio: Studio, owner: UserId, coming: int, now: datetime) -> None:
    """Raises UploadsUsedUp where so many more would be too much of late. What was discarded does not count."""
    since = now - timedelta(days=1)
    if await store.uploads_since(tx, owner, since) + coming > studio.settings.uploads_per_day:
        raise UploadsUsedUp


async def add(
    tx: Tx, studio: Studio, owner: UserId, purpose: Purpose, files: Sequence[Announced], now: datetime
) -> dict[bytes, MediaId]:
    """Rows for files that are to come; ids by hash. Of those who ask at once, each counts what the others have added.

    Raises UploadsUsedUp.
    """
    await store.hold_uploading(tx, owner)
    await spare(tx, studio, owner, len(files), now)
    return await store.add_uploads(tx, owner, purpose, files, now)


async def _lay(table: Path, purpose: Purpose, files: Files) -> list[Laid]:
    laid: list[Laid] = []
    async for file in files:
        if file.media_type not in TYPES[purpose] | UNSAID:
            wanted = ", ".join(sorted(TYPES[purpose]))
            raise FileRefused.because("media-type", f"A file of that media type is not taken: {wanted}", len(laid))
        path = table / str(len(laid))
        try:
            spooled = await spool(file.chunks, path)
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:
            raise Unavailable from error
        laid.append(Laid(file.name, path, spooled, len(laid)))
    return laid


async def look(studio: Studio, owner: UserId, purpose: Purpose, laid: Sequence[Laid]) -> list[Looked]:
    """What the files really are, whatever was said of them.

    Raises FileRefused as soon as one is not taken, and does not look at those that still wait: none would be kept. Of
    several that were looked at it is for the first.
    """
    steps = [asyncio.ensure_future(_look(studio, owner, purpose, one)) for one in laid]
    try:
        if steps:
            await asyncio.wait(steps, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for step in steps:
            step.cancel()
        ended = await asyncio.gather(*steps, return_exceptions=True)
    # What was stopped for another's sake comes last.
    faults = [one for one in ended if isinstance(one, BaseException)]
    for fault in sorted(faults, key=lambda one: isinstance(one, asyncio.CancelledError)):
        raise fault
    return [one for one in ended if isinstance(one, Looked)]


async def _look(studio: Studio, owner: UserId, purpose: Purpose, laid: Laid) -> Looked:
    if purpose is Purpose.image:
        seen = await studio.darkroom.develop(laid.path, laid.sizes, owner, laid.place)
        return Looked(laid, seen.media_type, seen)
    kind = next((kind for magic, kind in MAGIC.items() if laid.spooled.head.startswith(magic)), None)
    if kind is None:
        raise FileRefused.because("no-document", "It is no PDF document, and no JPEG or PNG image", laid.place)
    return Looked(laid, kind, None)


async def _keep(
    begin: Begin, studio: Studio, owner: UserId, purpose: Purpose, looked: Sequence[Looked], now: datetime
) -> dict[bytes, MediaId]:
    """Store what is new; ids by hash. The row comes first: a file that nobody knows is collected, whenever we die.

    Raises UploadsUsedUp before anything is stored.
    """
    if not looked:
        return {}
    async with begin() as tx:
        ids = await add(tx, studio, owner, purpose, [one.announced for one in looked], now)
    await _every(put(studio, ids[one.laid.sha256], purpose, one) for one in looked)
    async with begin() as tx:
        for one in looked:
            await store.finish_upload(tx, ids[one.laid.sha256], one.media_type, one.seen, now)
    return ids


async def put(studio: Studio, media: MediaId, purpose: Purpose, looked: Looked) -> None:
    """Into the storage, under the names of this upload. Raises Unavailable."""
    if purpose is Purpose.document:
        (key,) = keys(media, purpose)
        await studio.storage.put(key, looked.laid.path, looked.media_type)
        return
    for size in Size:
        await studio.storage.put(image_key(media, size), looked.laid.sizes / f"{size}.webp", "image/webp")


async def _every(steps: Iterable[Awaitable[Result]]) -> list[Result]:
    """What all came to, in their order, once all are through. Raises what the first of them in that order raised."""
    results = []
    for one in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(one, BaseException):
            raise one
        results.append(one)
    return results
