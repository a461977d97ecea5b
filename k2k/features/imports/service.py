"""Taking files in, and ending imports. What is done with a file once it is there stands in `chunks`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydantic_core import from_json

from k2k.core.ids import ImportId, UserId
from k2k.features.imports import reading, store
from k2k.features.imports.chunks import ImportChunk, end
from k2k.features.imports.errors import ImportEnded, ImportNotFound, TooManyImports, UnusableFile
from k2k.features.imports.models import Import, ImportState, RowError
from k2k.features.imports.reading import Opening
from k2k.features.imports.store import PART, PageRow
from k2k.infra.db import Db
from k2k.infra.transaction import Reader, Tx
from k2k.ops.files import File, Files
from k2k.ops.paging import Page
from k2k.ops.registry import Json

log = structlog.get_logger()

UNDER_WAY = 3
"""Imports of one person at a time."""
COMING = timedelta(minutes=15)
"""After which a file that is not there in whole does not come any more; longer than a request may take."""
SAME_FILE = timedelta(days=1)
KEPT = timedelta(days=90)
"""How long people can look up what became of an import."""
HANDFUL = 20


@dataclass(frozen=True, slots=True)
class Received:
    """A file that is there in whole."""

    import_id: ImportId
    opening: Opening
    sha256: bytes
    size: int


async def receive(db: Db, owner: UserId, files: Files) -> ImportId:
    """Take in the one file that there is, part by part, and begin its import; the same file within a day is the same.

    Raises UnknownFormat, UnusableFile, TooManyImports, and what the files raise. Then nothing is left of it.
    """
    begun: list[ImportId] = []
    try:
        (received,) = [await _take_in(db, owner, file, begun) async for file in files]
        return await _run(db, owner, received)
    except Exception:
        if begun:
            await _forget(db, begun)
        raise


async def _forget(db: Db, begun: Sequence[ImportId]) -> None:
    """Drop what did not come in whole; never raises, as what went wrong first is what the caller must hear.

    Where it is unclear whether the import has begun, it may run: then it stays.
    """
    try:
        async with db.transaction() as tx:
            await store.forget_imports(tx, begun)
    except Exception as error:  # it is forgotten within the hour then
        log.warning("import not forgotten yet", imports=[str(one) for one in begun], error=repr(error))


async def _take_in(db: Db, owner: UserId, file: File, begun: list[ImportId]) -> Received:
    """Store the parts of a file; `begun` is told of the import before the first one."""
    format_, parts = reading.format_of(file), _parts(file.chunks)
    first = await anext(parts, b"")
    opening = reading.opened(format_, first, last=len(first) < PART)
    async with db.transaction() as tx:
        await store.hold_imports(tx, owner)
        since = db.clock.now() - COMING
        import_id = await store.begin_import(tx, owner, file.name, format_, opening, UNDER_WAY, since)
    if import_id is None:
        raise TooManyImports
    begun.append(import_id)
    hashed, size = hashlib.sha256(), 0
    async for n, part in _numbered(first, parts):
        hashed.update(part)
        size += len(part)
        async with db.transaction() as tx:
            await store.add_part(tx, import_id, n, part)
    return Received(import_id, opening, hashed.digest(), size)


async def _parts(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in parts of one length; the last one may be shorter."""
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        while len(waiting) >= PART:
            yield bytes(waiting[:PART])
            del waiting[:PART]
    if waiting:
        yield bytes(waiting)


async def _numbered(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    n = 0
    yield n, first
    async for part in rest:
        n += 1
        yield n, part


async def _run(db: Db, owner: UserId, received: Received) -> ImportId:
    """Begin to work on the file, unless that was done today already: then that import is the answer."""
    async with db.transaction() as tx:
        await store.hold_imports(tx, owner)
        same = await store.find_same_file(tx, owner, received.sha256, db.clock.now() - SAME_FILE)
        if same is not None:
            await store.forget_imports(tx, [received.import_id])
            return same
        if not await store.run_import(tx, received.import_id, received.sha256, received.size):
            raise UnusableFile("It took too long to arrive: send it again")
        start = received.opening.rows.byte
        tx.enqueue(ImportChunk(import_id=received.import_id, owner_id=owner, at=start))
    return received.import_id


async def get_import(db: Reader, import_id: ImportId, owner: UserId) -> Json[Import]:
    """One's own import. Raises ImportNotFound."""
    found = await store.find_import(db, import_id, owner)
    if found is None:
        raise ImportNotFound
    return found


async def list_errors(db: Reader, import_id: ImportId, owner: UserId, page: Page) -> tuple[int, Json[list[RowError]]]:
    """How many errors are kept, and some of them in the order of the file. Raises ImportNotFound."""
    found: PageRow | None = await store.list_errors(db, import_id, owner, page)
    if found is None:
        raise ImportNotFound
    return found.total, Json(found.body)


async def cancel(tx: Tx, import_id: ImportId, owner: UserId) -> Json[Import]:
    """End one's own import where it is; what it has written stays. Once more does nothing.

    Raises ImportNotFound, or ImportEnded where it came to another end.
    """
    ended = await end(tx, import_id, owner, ImportState.cancelled)
    found = await get_import(tx, import_id, owner)
    if not ended and from_json(found)["state"] != ImportState.cancelled:
        raise ImportEnded
    return found


async def forget_old(db: Db) -> None:
    """Drop what never came in whole, and what ended long ago."""
    now = db.clock.now()
    while old := await store.old_imports(db, now - COMING, now - KEPT, HANDFUL):
        async with db.transaction() as tx:
            await store.forget_imports(tx, old, now - KEPT)
