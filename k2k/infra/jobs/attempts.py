"""One try at a job: counted, given its deadline, and ended in one of four ways.

finished    the handler returned: the job leaves the queue
retried     it raised: the job waits, longer each time, and is tried again
dead        it raised GiveUp, or the last try failed, or nothing can be made of the job: a dead letter
given-back  the process is stopping: the job waits for another, and the try does not count
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

import structlog
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Job as Row
from pydantic import ValidationError

from k2k.core.settings import JobSettings
from k2k.infra.jobs.driver import PatientDriver
from k2k.infra.jobs.job import Attempt, GiveUp, Handler, Job
from k2k.infra.sql import Queries

DEATHS = 3
"""Processes that may end while they run one job before the job is held to be the cause."""
REASON = 300
"""Characters of an error that are kept for people to read."""

Outcome = Literal["finished", "retried", "dead", "given-back"]
Observe = Callable[[str, Outcome, float], None]
"""Told of every try: the job's name, how it ended, and the seconds it took."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Begun:
    number: int
    deaths: int


_queries = Queries("jobs")
BEGIN = _queries.rows("begin_try", _Begun)
UNCOUNT = _queries.command("uncount_try")


@dataclass(frozen=True, slots=True)
class Bound:
    """A kind of job and who does it."""

    kind: type[Job]
    handler: Handler[Any]


class DeadLetter(Exception):
    """Ends a job for good; the message is the reason."""


class GivenBack(RetryRequested):
    """Asks pgqueuer to have the job waiting again at once."""


class Attempts:
    """Runs what pgqueuer took. `observe` is told of each try."""

    def __init__(self, driver: PatientDriver, settings: JobSettings, observe: Observe) -> None:
        self._driver = driver
        self._settings = settings
        self._observe = observe
        self._running: set[asyncio.Task[Any]] = set()

    def give_back(self) -> None:
        """Break off what runs; each of these jobs waits again and its try does not count."""
        for task in self._running:
            task.cancel()

    async def run(self, bound: Bound, row: Row) -> None:
        """Try one job. Returns, or raises RetryRequested or DeadLetter: the words pgqueuer understands."""
        begun = await self._driver.find(BEGIN, row.id)
        if begun is None:
            return  # it ran elsewhere to its end while this process was taken for dead
        start = time.monotonic()
        outcome: Outcome = "finished"
        try:
            await self._run(bound, row, begun)
        except GivenBack:
            outcome = "given-back"
            raise
        except RetryRequested as error:
            outcome = "retried"
            again = round(error.delay.total_seconds(), 1)
            log.warning("job failed", job=row.entrypoint, id=row.id, error=error.reason, seconds_until_again=again)
            raise
        except DeadLetter:
            outcome = "dead"
            raise
        finally:
            self._observe(row.entrypoint, outcome, time.monotonic() - start)

    async def _run(self, bound: Bound, row: Row, begun: _Begun) -> None:
        if begun.deaths >= DEATHS:
            raise DeadLetter(f"{begun.deaths} processes ended while they ran it")
        job = _parsed(bound.kind, row.payload or b"")
        attempt = Attempt(row.id, row.created, begun.number)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._running.add(task)
        try:
            async with asyncio.timeout(bound.kind.deadline.total_seconds()) as deadline:
                await bound.handler(job, attempt)
        except asyncio.CancelledError as error:
            if not task.cancelling():  # a wait of the handler's own was cancelled
                raise self._again(bound.kind, row, _reason(error)) from error
            # Left to itself pgqueuer would take the job for cancelled, and delete it.
            task.uncancel()
            await self._driver.run(UNCOUNT, row.id)
            raise GivenBack(reason="the process stopped") from None
        except GiveUp as error:
            raise DeadLetter(_reason(error)) from error
        except Exception as error:  # whatever it is, trying again is the answer
            why = f"not done within {bound.kind.deadline}" if deadline.expired() else _reason(error)
            raise self._again(bound.kind, row, why) from error
        finally:
            self._running.discard(task)

    def _again(self, kind: type[Job], row: Row, why: str) -> Exception:
        """Later, doubling from try to try and never two jobs in step; or not at all."""
        if row.attempts + 1 >= kind.tries:
            return DeadLetter(f"{kind.tries} tries failed, the last with {why}")
        first, most = self._settings.retry_seconds, self._settings.retry_seconds_most
        seconds = min(first * 2.0 ** min(row.attempts, 60), most) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads
        return RetryRequested(timedelta(seconds=seconds), why)


def _parsed(kind: type[Job], payload: bytes) -> Job:
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        raise DeadLetter(f"its content does not fit {kind.__name__}: {_faults(error)}") from None


def _reason(error: BaseException) -> str:
    """The error for a person: on one line, and without the input that a validation error would quote."""
    text = _faults(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
    name = "" if isinstance(error, GiveUp) else f"{type(error).__name__}: "
    return f"{name}{text}"[:REASON]


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'all of it'}: {fault['type']}" for fault in faults)[:REASON]
