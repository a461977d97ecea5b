"""The worker: takes jobs and runs them, in the serving process or in one of its own.

Any number of processes may work on one queue. pgqueuer takes, finishes and postpones; `attempts` says what a try is;
`driver` outlasts PostgreSQL. What still ends in an error here is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import ClassVar

import structlog
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.core.executors import AsyncCrontab
from pgqueuer.core.qm import QueueManager
from pgqueuer.core.sm import SchedulerManager
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel
from pgqueuer.models import Job as Row
from pgqueuer.models import Schedule
from pgqueuer.queries import Queries as Tables

from k2k.core.clock import Clock
from k2k.core.settings import DatabaseSettings, JobSettings
from k2k.infra.db import Db
from k2k.infra.jobs.attempts import Attempts, Bound, Observe
from k2k.infra.jobs.driver import PatientDriver
from k2k.infra.jobs.job import AnyJob, Attempt, Handler, Job

CONNECTIONS = 2
"""Of one worker, beside the one it listens on: taking jobs must not wait for finishing others."""
RESTART = 1.0
"""Seconds until a worker that ended in an error starts again."""
LAST_WORDS = 5.0
"""Seconds for a stopping worker to give back what it broke off."""

# The names in our migration. pgqueuer would read them from the environment, where a stray TRIGGER or CHANNEL is enough.
NAMES = DBSettings.model_construct(
    prefix="",
    db_schema=None,
    channel=Channel("ch_pgqueuer"),
    function="fn_pgqueuer_changed",
    statistics_table="pgqueuer_statistics",
    queue_status_type="pgqueuer_status",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    trigger="tg_pgqueuer_changed",
    schedules_table="pgqueuer_schedules",
    durability=Durability.durable,
    widen_id=True,
)

log = structlog.get_logger()


def tables(driver: PatientDriver) -> Tables:
    """pgqueuer's statements on the tables of our migration."""
    return Tables(driver, QueryBuilderEnvironment(NAMES), QueryQueueBuilder(NAMES), QuerySchedulerBuilder(NAMES))


class Worker:
    """Runs the jobs whose handlers are bound to it. `observe`, set before the start, is told of every try."""

    def __init__(self, database: DatabaseSettings, settings: JobSettings) -> None:
        self.observe: Observe = lambda _name, _outcome, _seconds: None
        self._database = database
        self._settings = settings
        self._bound: dict[str, Bound] = {}
        self._schedules: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """The names of all jobs that have a handler here."""
        return sorted(self._bound)

    def bind(self, kind: type[AnyJob], handler: Handler[AnyJob]) -> None:
        """Have `handler` do the jobs of this kind. ValueError if somebody else does."""
        if kind.name in self._bound:
            raise ValueError(f"two handlers for {kind.name}")
        self._bound[kind.name] = Bound(kind, handler)

    def every(self, cron: str, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Have `work` done as the job `name` whenever `cron` says (UTC), once over all processes.

        A time that passed while no process ran is made up for, once; a time whose forerunner still waits or runs is
        left out.
        """
        given = name

        class Scheduled(Job):
            name: ClassVar[str] = given

        async def handle(_job: Scheduled, _attempt: Attempt) -> None:
            await work()

        self.bind(Scheduled, handle)
        self._schedules[name] = cron

    async def start(self) -> None:
        """Begin to take jobs. Raises OSError or asyncpg's errors while the database cannot be reached."""
        url = self._database.url.get_secret_value()
        own = self._database.model_copy(update={"pool_min": 1, "pool_max": CONNECTIONS})
        driver = PatientDriver(await Db.open(own, Clock()), url)
        self._attempts = Attempts(driver, self._settings, self.observe)
        self._driver = driver
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Take no more jobs, let those that run finish, break off what takes longer than `stop_seconds`."""
        if self._task is None:
            return
        self._stopping.set()
        await asyncio.wait({self._task}, timeout=self._settings.stop_seconds)
        self._attempts.give_back()
        await asyncio.wait({self._task}, timeout=LAST_WORDS)
        self._driver.patient = False
        _, still = await asyncio.wait({self._task}, timeout=LAST_WORDS)
        if still:
            log.error("a job does not let itself be broken off: it runs again after its heartbeat has grown old")
            self._task.cancel()
        await self._driver.close()

    async def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._work()
            except Exception:  # whatever ended it, the queue must be worked on
                log.exception("the worker ended and is started again")
                await asyncio.wait({asyncio.ensure_future(self._stopping.wait())}, timeout=RESTART)

    async def _work(self) -> None:
        """Work until asked to stop, or until one part ends in an error."""
        queue, scheduler = self._managers()
        running = [
            asyncio.create_task(
                queue.run(
                    dequeue_timeout=timedelta(seconds=self._settings.poll_seconds),
                    batch_size=max(1, self._settings.at_once // 2),
                    max_concurrent_tasks=self._settings.at_once,
                    heartbeat_timeout=timedelta(seconds=self._settings.heartbeat_seconds),
                    log_aggregation_interval=timedelta(0),
                )
            ),
            asyncio.create_task(scheduler.run()),
        ]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            queue.shutdown.set()
            scheduler.shutdown.set()
            await asyncio.gather(*running)

    def _managers(self) -> tuple[QueueManager, SchedulerManager]:
        found = tables(self._driver)
        queue = QueueManager(found, channel=NAMES.channel)
        for name, bound in self._bound.items():
            queue.entrypoint(name, on_failure="hold", concurrency_limit=bound.kind.at_once, accepts_context=False)(
                partial(self._attempt, bound)
            )
        scheduler = SchedulerManager(found)
        for name, cron in self._schedules.items():
            scheduler.schedule(name, cron, accepts_context=False)(_enqueuing(found, name))
        return queue, scheduler

    async def _attempt(self, bound: Bound, row: Row) -> None:
        await self._attempts.run(bound, row)


def _enqueuing(found: Tables, name: str) -> AsyncCrontab:
    """What a schedule does: the work itself is a job, with a job's tries and deadline."""

    async def enqueue(_schedule: Schedule) -> None:
        await found.enqueue(name, b"{}", dedupe_key=f"{name}:schedule", on_conflict="skip")

    return enqueue
