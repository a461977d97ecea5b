"""What is in the queue: how much, how old, and the dead letters that a person must look at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from k2k.core.errors import Unavailable
from k2k.infra.db import Db
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader

LISTED = 1000
"""Dead letters told at once."""
HANDFUL = 5000
"""Rows deleted by one statement."""

State = Literal["waiting", "delayed", "running", "dead"]


@dataclass(frozen=True, slots=True)
class QueueState:
    """The jobs of one name in one state; `seconds` is how long the oldest has been in it (a waiting one: due)."""

    name: str
    state: State
    jobs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead letter. `error` and `traceback` tell of its last try."""

    id: int
    name: str
    tries: int
    created: datetime
    since: datetime
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class _Id:
    id: int


@dataclass(frozen=True, slots=True)
class _Rows:
    rows: int


_queries = Queries("jobs")
STATE = _queries.rows("queue_state", QueueState)
DEAD = _queries.rows("dead_letters", Dead)
RETRY = _queries.rows("retry_dead", _Id)
DROP = _queries.rows("drop_dead", _Id)
BURY = _queries.command("bury_unknown")
CLEAN = _queries.rows("clean_job_log", _Rows)


async def queue_state(db: Reader) -> list[QueueState]:
    """How much there is to do, by name and state. Raises Unavailable."""
    return await db.rows(STATE)


async def measure(db: Db) -> None:
    """Set the gauges of the queue; they are empty until the database has answered."""
    metrics = db.metrics
    metrics.queue.clear()
    metrics.queue_age.clear()
    with suppress(Unavailable):
        for found in await queue_state(db):
            metrics.queue.labels(found.name, found.state).set(found.jobs)
            metrics.queue_age.labels(found.name, found.state).set(found.seconds)


async def dead_letters(db: Reader, ids: Sequence[int] | None = None) -> list[Dead]:
    """The dead letters, or those of them that are asked for, oldest first and a thousand at most."""
    return await db.rows(DEAD, ids, LISTED)


async def retry(db: Reader, ids: Sequence[int] | None) -> list[int]:
    """Have dead letters (None: all) tried anew, with all their tries; return whose ids were some."""
    return [row.id for row in await db.rows(RETRY, ids)]


async def drop(db: Reader, ids: Sequence[int]) -> list[int]:
    """Throw dead letters away; return whose ids were some."""
    return [row.id for row in await db.rows(DROP, ids)]


async def bury_unknown(db: Reader, known: Sequence[str], after: timedelta) -> None:
    """Make dead letters of the jobs whose name is not among the `known` and that have been due for `after`."""
    await db.run(BURY, known, after)


async def clean_log(db: Db, older: timedelta) -> None:
    """Forget the history of jobs that left the queue, beyond the age of `older`."""
    while (await db.rows(CLEAN, older, HANDFUL))[0].rows == HANDFUL:
        pass
