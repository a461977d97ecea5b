"""Keeping events for as long as promised: partitions made ahead, and dropped when all of their time has passed.

What is due is known by the database (`tend_events` in the migrations); here it is only asked to do it, one thing a
transaction. Any number of processes may ask at once: one does it. Whatever could not be done for want of a lock is
done the next time; until then events stand in a default partition, or longer than promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg
import structlog

from k2k.infra.sql import Queries

log = structlog.get_logger()

STEP_SECONDS = 60
"""Longer than a request may take: moving events that fell into a default partition is a copy of all of them."""


@dataclass(frozen=True, slots=True)
class _Step:
    done: str | None


TEND = Queries("streams").rows("tend_events", _Step)


async def tend(url: str, moment: datetime | None = None) -> list[str]:
    """Do all that is due at `moment` (now) in the database of `url`; say what was done, in order.

    Raises OSError or asyncpg's errors.
    """
    done: list[str] = []
    connection = await asyncpg.connect(url, timeout=5, command_timeout=STEP_SECONDS)
    try:
        while (step := await connection.fetchval(TEND.text, moment)) is not None:
            log.info("events tended", done=step)
            done.append(step)
    finally:
        await connection.close()
    return done
