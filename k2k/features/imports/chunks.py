"""Working through a file: some rows at a time, each time in one transaction.

A chunk writes the listings, what was wrong, how far the file is done, and the job for the chunk after it, or none of
these. A job names the byte it begins at, so one that is run twice finds its place passed and does nothing. Chunks are
small, for a transaction must be over long before its deadline: how many rows that makes is measured, and halved with
each try that failed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from k2k.core.errors import DomainError
from k2k.core.ids import ImportId, ListingId, UserId, user_channel
from k2k.core.settings import ListingSettings
from k2k.features.accounts import service as accounts
from k2k.features.imports import reading, store
from k2k.features.imports.events import ImportFinished, ImportProgress
from k2k.features.imports.models import Failure, Format, ImportState
from k2k.features.imports.reading import Place, Row, Unreadable
from k2k.features.imports.store import Done, StandRow, TakenRow
from k2k.features.imports.wishes import Change, New, Refused, Removal, Wish, reference_of, refused, wish_of
from k2k.features.listings import service as listings
from k2k.features.listings.models import Collection
from k2k.infra.db import Db
from k2k.infra.jobs.job import Attempt, Handler, Job
from k2k.infra.transaction import Tx
from k2k.ops.permissions import Permission

ERRORS_KEPT = 1000
FIRST_ROWS = 100
FEWEST, MOST = 25, 800
"""Rows of a chunk, while all is well."""
SECONDS = 0.4
"""A chunk should take."""


class ImportChunk(Job):
    """Some rows of a file, from byte `at` on, `rows` of them at most."""

    name: ClassVar[str] = "import.chunk"
    # In all processes together: whatever people import, the rest of the service has the database to itself.
    at_once: ClassVar[int] = 2
    import_id: ImportId
    owner_id: UserId
    at: int
    rows: int = FIRST_ROWS


def importing(db: Db, settings: ListingSettings) -> Handler[ImportChunk]:
    """Who does the chunks."""

    async def handle(job: ImportChunk, attempt: Attempt) -> None:
        async with db.transaction() as tx:
            writer = _Writer(tx, job.owner_id, settings, db.clock.now())
            await _work(writer, job, max(1, job.rows >> (attempt.number - 1)))

    return handle


async def end(tx: Tx, import_id: ImportId, owner: UserId, state: ImportState, reason: Failure | None = None) -> bool:
    """End an import and tell its owner; false if it had ended before or is another person's."""
    stand = await store.end_import(tx, import_id, owner, state, reason)
    if stand is not None:
        event = ImportFinished.model_validate({"import_id": import_id, **_told(stand)})
        tx.emit(event, to=[user_channel(owner)])
    return stand is not None


def _told(stand: StandRow) -> dict[str, object]:
    return {"state": stand.state, "rows": stand.rows, "failed": stand.failed, "percent": stand.percent}


async def _work(writer: _Writer, job: ImportChunk, most: int) -> None:
    began, tx = time.monotonic(), writer.tx
    await store.hold_imports(tx, job.owner_id)
    taken = await store.take_import(tx, job.import_id, job.at)
    if taken is None:  # it has ended, or this chunk is done
        return
    if not await accounts.may(tx, job.owner_id, Permission.offer_listings):
        await end(tx, job.import_id, job.owner_id, ImportState.failed, Failure.denied)
        return
    rows, goes_on = await _read(tx, job.import_id, taken, most)
    wishes = await _wishes(tx, job.owner_id, rows)
    failed = await writer.write(wishes)
    stand = await _note(tx, job.import_id, taken, _done(rows, wishes, failed), failed, goes_on)
    if taken.torn + _torn(rows) > reading.TORN_MOST:
        await end(tx, job.import_id, job.owner_id, ImportState.failed, Failure.unreadable)
    elif stand.next_byte == stand.bytes:
        await end(tx, job.import_id, job.owner_id, ImportState.finished)
    else:
        pace = len(rows) / (time.monotonic() - began)
        _go_on(tx, job, taken, stand, min(MOST, max(FEWEST, int(pace * SECONDS))))


async def _read(tx: Tx, import_id: ImportId, taken: TakenRow, most: int) -> tuple[Sequence[Row], Place]:
    """The next rows and where they end: before one whose reference stands among them already, at the latest."""
    at = taken.place
    window = await store.read_window(tx, import_id, at.byte, reading.WINDOW)
    last = at.byte + len(window) >= taken.bytes
    format_ = Format(taken.format)
    rows, goes_on = await asyncio.to_thread(reading.read, format_, taken.columns, window, at, last=last, most=most)
    seen: set[str] = set()
    for number, row in enumerate(rows):
        reference = reference_of(row)
        if reference in seen:
            return rows[:number], rows[number - 1].end
        if reference is not None:
            seen.add(reference)
    return rows, goes_on


async def _wishes(tx: Tx, owner: UserId, rows: Sequence[Row]) -> list[Wish]:
    references = [name for row in rows if (name := reference_of(row)) is not None]
    known = await store.known_references(tx, owner, references) if references else {}
    return await asyncio.to_thread(lambda: [wish_of(row, known) for row in rows])


@dataclass(frozen=True, slots=True)
class _Writer:
    """What turns a person's wishes into listings."""

    tx: Tx
    owner: UserId
    settings: ListingSettings
    now: datetime

    async def write(self, wishes: Sequence[Wish]) -> list[Refused]:
        """Do what can be done; what was not, in the order of the lines."""
        failed = [wish for wish in wishes if isinstance(wish, Refused)]
        known = [wish.known.listing for wish in wishes if isinstance(wish, Change | Removal)]
        if known:
            await store.hold_known(self.tx, known)
        failed += await self._publish([wish for wish in wishes if isinstance(wish, New)])
        for wish in wishes:
            if isinstance(wish, Change | Removal) and (refusal := await self._try(wish)):
                failed.append(refusal)
        return sorted(failed, key=lambda refusal: refusal.line)

    async def _publish(self, new: Sequence[New]) -> list[Refused]:
        if not new:
            return []
        outcomes = await listings.publish_many(
            self.tx, self.owner, [wish.draft for wish in new], self.settings, self.now
        )
        named: dict[str, ListingId] = {}
        failed: list[Refused] = []
        for wish, outcome in zip(new, outcomes, strict=True):
            if isinstance(outcome, DomainError):
                failed.append(refused(wish.line, outcome))
            elif wish.reference is not None:
                named[wish.reference] = outcome
        if named:
            await store.keep_references(self.tx, self.owner, named)
        return failed

    async def _try(self, wish: Change | Removal) -> Refused | None:
        """Change or delete one listing as its owner would; why that was refused, if it was."""
        try:
            async with self.tx.part():
                await self._apply(wish)
        except DomainError as error:
            return refused(wish.line, error)
        return None

    async def _apply(self, wish: Change | Removal) -> None:
        listing, any_of = wish.known.listing, Collection.listings
        match wish:
            case Change(change=change):
                await listings.change(self.tx, any_of, listing, self.owner, change, None, self.settings, self.now)
            case Removal():
                await listings.delete(self.tx, any_of, listing, self.owner, None, self.now)


def _done(rows: Sequence[Row], wishes: Sequence[Wish], failed: Sequence[Refused]) -> Done:
    lost = {refusal.line for refusal in failed}
    kinds = Counter(type(wish) for wish in wishes if wish.line not in lost)
    return Done(kinds[New], kinds[Change], kinds[Removal], len(failed), _torn(rows))


def _torn(rows: Sequence[Row]) -> int:
    return sum(isinstance(row.said, Unreadable) and row.said.torn for row in rows)


async def _note(
    tx: Tx, import_id: ImportId, taken: TakenRow, done: Done, failed: Sequence[Refused], goes_on: Place
) -> StandRow:
    """Keep the errors, as far as there is room for them, and how far the file is done."""
    faults = [fault for refusal in failed for fault in refusal.faults][: ERRORS_KEPT - taken.errors]
    if faults:
        await store.keep_errors(tx, import_id, faults)
    return await store.advance_import(tx, import_id, goes_on, done, len(faults))


def _go_on(tx: Tx, job: ImportChunk, before: TakenRow, stand: StandRow, rows: int) -> None:
    """Tell the owner of another percent, and have the next chunk done."""
    if stand.percent > before.next_byte * 100 // max(before.bytes, 1):
        event = ImportProgress.model_validate({"import_id": job.import_id, **_told(stand)})
        tx.emit(event, to=[user_channel(job.owner_id)])
    tx.enqueue(ImportChunk(import_id=job.import_id, owner_id=job.owner_id, at=stand.next_byte, rows=rows))
