"""Collecting what nothing refers to: uploads that never came or are shown nowhere, and files that no row knows.

A row goes before its files, and the files go by a job that its transaction enqueues. What is left over all the same,
because a process or a storage died in between, is found by its name.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import structlog

from k2k.core.ids import MediaId
from k2k.features.media import store
from k2k.features.media.models import Purpose, UploadState, incoming_key, keys
from k2k.features.media.service import DropFiles
from k2k.features.media.store import WaitingRow
from k2k.features.media.studio import Studio
from k2k.infra.db import Db
from k2k.infra.jobs.job import Attempt, Handler
from k2k.infra.storage.directory import UNFINISHED
from k2k.infra.storage.port import Storage, Stored
from k2k.infra.transaction import Tx

HANDFUL = 500
PREFIXES = ("images/", "documents/", "incoming/", UNFINISHED)
OLDEST = WaitingRow(MediaId(UUID(int=0)), datetime.min.replace(tzinfo=UTC))
"""Before everything there is."""
NEWEST = timedelta(days=3)
"""How far back the hourly look goes. A file is left over within a day of its birth, or by a deletion."""

log = structlog.get_logger()


def dropping(storage: Storage) -> Handler[DropFiles]:
    """The handler of DropFiles."""

    async def drop(wish: DropFiles, _attempt: Attempt) -> None:
        await storage.delete(wish.names)

    return drop


async def collect(db: Db, studio: Studio, *, everything: bool = False) -> list[str]:
    """Collect what is due; what was done, in words. With `everything` files of any age are looked at.

    Raises Unavailable.
    """
    before = db.clock.now() - timedelta(hours=studio.settings.keep_hours)
    orphans = await _never_came(db, before) + await _shown_nowhere(db, before)
    since = None if everything else before - NEWEST
    files = sum([await _left_over(db, studio.storage, prefix, before, since) for prefix in PREFIXES])
    await asyncio.to_thread(_clear, studio.workroom, time.time() - studio.settings.keep_hours * 3600)
    done = [f"collected {count} {what}" for count, what in ((orphans, "uploads"), (files, "files")) if count]
    for one in done:
        log.info("media collected", done=one)
    return done


async def _never_came(db: Db, before: datetime) -> int:
    """Delete what was announced before that moment and never came; how many that were."""
    count, last = 0, OLDEST
    while True:
        async with db.transaction() as tx:
            held = await store.hold_waiting(tx, before, last, HANDFUL)
            count += await _delete(tx, [row.id for row in held])
        if len(held) < HANDFUL:
            return count
        last = held[-1]


async def _shown_nowhere(db: Db, before: datetime) -> int:
    """Delete what is ready and was referred to by nothing since that moment; how many that were.

    It goes through all there is once, page by page: each look and each transaction is short, however many there are.
    """
    count, last = 0, OLDEST.id
    while page := await store.next_media(db, last, HANDFUL):
        async with db.transaction() as tx:
            count += await _delete(tx, await store.hold_orphans(tx, page, before))
        last = page[-1]
    return count


async def _delete(tx: Tx, held: Sequence[MediaId]) -> int:
    """Delete what is held and still referred to by nothing, and have its files deleted; how many that were."""
    gone = await store.delete_orphans(tx, held)
    if gone:
        names = [name for row in gone for name in (*keys(row.id, Purpose(row.purpose)), incoming_key(row.id))]
        tx.enqueue(DropFiles(names=names))
    return len(gone)


async def _left_over(db: Db, storage: Storage, prefix: str, before: datetime, since: datetime | None) -> int:
    """Delete the files below the prefix that are older than `before` and that no row knows."""
    # Ids begin with their time of birth, so names are in the order of their age. What is unfinished has none.
    after = f"{prefix}{_first_id(since)}" if since is not None and prefix != UNFINISHED else ""
    count, some = 0, list[Stored]()
    async for stored in storage.list(prefix, after):
        if stored.changed_at < before:
            some.append(stored)
        if len(some) == HANDFUL:
            count += await _drop_unknown(db, storage, some)
            some.clear()
    return count + await _drop_unknown(db, storage, some)


async def _drop_unknown(db: Db, storage: Storage, files: Sequence[Stored]) -> int:
    ids = {file.name: _id(file.name) for file in files}
    known = await store.known_media(db, [found for found in set(ids.values()) if found is not None])
    unknown = [name for name, found in ids.items() if found is None or not _needed(name, known.get(found))]
    if unknown:
        await storage.delete(unknown)
    return len(unknown)


def _needed(name: str, state: str | None) -> bool:
    """Whether a row in that state (None: there is none) needs the file. What was announced is not needed once ready."""
    return state is not None and not (name.startswith("incoming/") and state == UploadState.ready)


def _id(name: str) -> MediaId | None:
    """The id that a name was made from."""
    try:
        return MediaId(UUID(name.partition("/")[2][:36])) if not name.startswith(UNFINISHED) else None
    except ValueError:
        return None


def _first_id(moment: datetime) -> str:
    """What is less than every UUIDv7 born at that moment or later."""
    return str(UUID(int=int(moment.timestamp() * 1000) << 80))


def _clear(workroom: Path, before: float) -> None:
    """Remove tables that a killed process left."""
    for table in workroom.iterdir() if workroom.is_dir() else ():
        if table.stat().st_mtime < before:
            shutil.rmtree(table, ignore_errors=True)
