"""What a job is: work to be done after COMMIT, enqueued in the transaction that makes it necessary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from k2k.infra.sql import Queries

NOW = timedelta()

ENQUEUE = Queries("jobs").command("enqueue_jobs")


class Job(BaseModel):
    """One kind of job; its fields are all that the handler is told.

    A subclass names itself and may say how it is tried. Handlers run at least once, so they must do no harm the
    second time. A field added later needs a default, or the jobs of yesterday become dead letters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    tries: ClassVar[int] = 10
    """Failed tries after which the job is a dead letter: with the default settings about nine minutes."""
    deadline: ClassVar[timedelta] = timedelta(seconds=30)
    """How long one try may take."""
    at_once: ClassVar[int] = 0
    """How many of this kind may run at the same time in all processes together; 0: as many as there is room for."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a job. The same job has the same `job_id` and `enqueued_at` in all its tries."""

    job_id: int
    enqueued_at: datetime
    number: int


Handler = Callable[[AnyJob, Attempt], Awaitable[None]]
"""Does the work. Whatever it raises means "try again later", but GiveUp."""


class GiveUp(Exception):
    """Raised by a handler: no repeat will help. The message is what a person reads of the dead letter."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job on its way into the queue."""

    job: Job
    key: str | None
    delay: timedelta
    priority: int


def columns(jobs: Sequence[Enqueued]) -> tuple[list[Any], ...]:
    """The arguments of ENQUEUE."""
    return (
        [one.job.name for one in jobs],
        [one.job.model_dump_json().encode() for one in jobs],
        [None if one.key is None else f"{one.job.name}:{one.key}" for one in jobs],
        [one.delay for one in jobs],
        [one.priority for one in jobs],
    )
