"""The process under test: run.py as it is, except that it can be told to die, and to be wrong.

PROOF_TRIGGER names a file: while it exists, the process kills itself between its next COMMIT and telling anybody.
PROOF_CLOCK names a file: while it exists, the process's wall clock is wrong by as many seconds as it says.
PROOF_SPOILED names a fault to commit, so that the checker can be seen to find it: `early` acknowledges before COMMIT,
`cursor` follows the database by the highest transaction number seen, `doubles` hands on what was already handed on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import run
from k2k import serving
from k2k.app import Process, build
from k2k.core.errors import OutcomeUnknown, Unavailable
from k2k.core.ids import Channel
from k2k.core.settings import Settings
from k2k.infra.db import CLIENT_FAULTS, LOST, Db
from k2k.infra.streams import Mark, Numbered, Position, Streams
from k2k.infra.transaction import SingleStatement
from k2k.live.line import Line
from k2k.live.wire import Publication, Push

LATE_SECONDS = 0.1
_background: set[asyncio.Task[None]] = set()


def failing(whole: Callable[[Settings], Any], trigger: Path) -> Callable[[Settings], Any]:
    """As `whole`, but what it builds dies before it tells of a commit while `trigger` exists; and counts its tasks."""

    async def built(settings: Settings) -> Process:
        process: Process = await whole(settings)
        told = process.db.told

        def dying(events: Sequence[Numbered]) -> None:
            if events and trigger.exists():
                os.kill(os.getpid(), signal.SIGKILL)
            told(events)

        process.db.told = dying
        process.metrics.watch("proof_tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks()))
        return process

    return built


def misled(given: Path) -> None:
    """Show a wrong wall clock to all of k2k; its monotonic clocks go on as they do when somebody sets the time."""
    true = time.time

    def wrong() -> float:
        with suppress(FileNotFoundError):
            return true() + float(given.read_text() or 0)
        return true()

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Wrong:
            return cls.fromtimestamp(wrong(), tz)

    vars(time)["time"] = wrong
    for name, module in list(sys.modules.items()):
        if name.startswith("k2k.") and "datetime.now(" in Path(module.__file__ or "").read_text():
            vars(module)["datetime"] = Wrong


def early() -> None:
    """Answer a set of writes before it is committed, as a write-behind would."""

    @asynccontextmanager
    async def single(db: Db) -> AsyncIterator[SingleStatement]:
        try:
            connection = await db.pool.acquire()
            begun = connection.transaction()
            await begun.start()
        except (*LOST, *CLIENT_FAULTS) as error:
            raise Unavailable from error
        tx = SingleStatement(connection)
        try:
            yield tx
        except BaseException as error:
            with suppress(*LOST, *CLIENT_FAULTS):
                await begun.rollback()
                await db.pool.release(connection)
            if isinstance(error, (*LOST, *CLIENT_FAULTS)):
                raise OutcomeUnknown from error
            raise

        async def commit() -> None:
            try:
                await asyncio.sleep(LATE_SECONDS)
                await begun.commit()
                db._tell(tx)
            finally:
                await db.pool.release(connection)

        task = asyncio.get_running_loop().create_task(commit())
        _background.add(task)
        task.add_done_callback(_background.discard)

    Db.single = single  # type: ignore[assignment]


def cursor() -> None:
    """Follow the events by number, which a transaction that took its number early and commits late slips under."""
    text = """
        select stream.channel, stream_epoch(stream.channel, stream.id, stream.named_by_id) as epoch,
               max(events."offset") as "offset", max(events.xid::text::bigint) as xid
        from events join streams as stream on stream.id = events.stream_id
        where events.xid > $1::text::xid8 group by stream.id"""
    start = "select coalesce(max(xid::text::bigint), 0)::text as xid from events"

    async def first_mark(streams: Streams) -> Mark:
        return _mark((await streams.db.records(start, ()))[0]["xid"])

    async def tail(streams: Streams, last: Mark) -> tuple[Mark, list[tuple[Channel, Position]]]:
        seen = last.snapshot.split(":")[1]
        rows = await streams.db.records(text, (seen,))
        newest = max((row["xid"] for row in rows), default=int(seen))
        return _mark(newest), [(Channel(row["channel"]), Position(row["epoch"], row["offset"])) for row in rows]

    Streams.first_mark = first_mark  # type: ignore[assignment,method-assign]
    Streams.tail = tail  # type: ignore[assignment,method-assign]


def _mark(xid: object) -> Mark:
    """A number in the place of a snapshot's end."""
    return Mark(f"0:{xid}:", 2**62, "")


def doubles() -> None:
    """Hand on to everybody what this process already handed on."""
    arrive = Line.arrive

    def arriving(line: Line, position: Position, publication: Publication, *more: Any) -> bool:
        known = line.position
        if known is not None and known.epoch == position.epoch and position.offset <= known.offset:
            for member in line.live:
                member.offer(Push(line.channel, publication))
        return arrive(line, position, publication, *more)

    Line.arrive = arriving  # type: ignore[assignment,method-assign]


SPOILED = {"early": early, "cursor": cursor, "doubles": doubles}


def main() -> int:
    """What run.py does with the same words."""
    spoiled = os.environ.get("PROOF_SPOILED")
    if spoiled:
        SPOILED[spoiled]()
    clock = os.environ.get("PROOF_CLOCK")
    if clock:
        misled(Path(clock))
    trigger = os.environ.get("PROOF_TRIGGER")
    if trigger:
        vars(serving)["build"] = failing(build, Path(trigger))
    return run.main()


if __name__ == "__main__":
    sys.exit(main())
