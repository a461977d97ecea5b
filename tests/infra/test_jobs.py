"""Jobs: done after COMMIT and never without it, tried again, given up and taken up again, shared by many workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import ClassVar

import pytest
from pydantic import SecretStr, ValidationError, field_validator

from k2k.core.errors import Conflict
from k2k.infra.jobs import queue, report
from k2k.infra.jobs.driver import PatientDriver
from k2k.infra.jobs.job import Attempt, GiveUp, Job
from k2k.infra.jobs.worker import Worker, tables
from tests.support import Workplace, eventually


class Bake(Job):
    """Bread number `number`."""

    name: ClassVar[str] = "test.bake"
    tries: ClassVar[int] = 3
    number: int = 0


class Basket:
    """A handler that remembers what it did, after doing what the test wants."""

    def __init__(self, work: Callable[[Bake, Attempt], None] = lambda _job, _attempt: None) -> None:
        self.work = work
        self.numbers: list[int] = []
        self.attempts: list[Attempt] = []

    async def __call__(self, job: Bake, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.work(job, attempt)
        self.numbers.append(job.number)

    def has(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def there() -> bool:
            return len(self.numbers) >= count

        return there


async def baking(workplace: Workplace, basket: Basket, **changes: object) -> Worker:
    worker = workplace.worker(**changes)
    worker.bind(Bake, basket)
    await worker.start()
    return worker


# Enqueueing


async def test_a_job_is_done_once_after_commit_and_at_once(workplace: Workplace) -> None:
    basket = Basket()
    await baking(workplace, basket, poll_seconds=60)
    await asyncio.sleep(0.3)  # the worker sleeps now: only the announcement wakes it
    async with workplace.db.transaction() as tx:
        tx.enqueue(Bake(number=1))
        await asyncio.sleep(0.1)
        assert basket.numbers == []
    await eventually(workplace.empty, seconds=2)
    assert basket.numbers == [1]
    assert [attempt.number for attempt in basket.attempts] == [1]


async def test_a_transaction_that_fails_leaves_no_job(workplace: Workplace) -> None:
    async def fails() -> None:
        async with workplace.db.transaction() as tx:
            tx.enqueue(Bake())
            raise Conflict

    with pytest.raises(Conflict):
        await fails()
    assert await workplace.empty()
    assert await workplace.db.records("select from pgqueuer_log", ()) == []


async def test_a_single_statement_takes_no_job(workplace: Workplace) -> None:
    with pytest.raises(RuntimeError, match=r"db\.transaction\(\)"):
        async with workplace.db.single() as tx:
            tx.enqueue(Bake())
    assert await workplace.empty()


async def test_many_jobs_are_one_statement(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    async with workplace.db.transaction() as tx:
        ran: list[str] = []
        real = tx.records

        async def counted(text: str, arguments: object) -> object:
            ran.append(text)
            return await real(text, arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(tx, "records", counted)
        for number in range(1000):
            tx.enqueue(Bake(number=number))
    assert len(ran) == 1
    assert await workplace.states() == {("test.bake", "waiting"): 1000}


async def test_of_jobs_with_one_key_one_waits(workplace: Workplace) -> None:
    await workplace.enqueue(Bake(number=1), Bake(number=2), key="rye")
    await workplace.enqueue(Bake(number=3), key="rye")
    await workplace.enqueue(Bake(number=4), key="wheat")
    basket = Basket()
    await baking(workplace, basket)
    await eventually(workplace.empty)
    assert sorted(basket.numbers) == [1, 4]
    await workplace.enqueue(Bake(number=5), key="rye")
    await eventually(basket.has(3))


async def test_transactions_with_the_same_keys_do_not_block_each_other(workplace: Workplace) -> None:
    async def enqueue(keys: list[str]) -> None:
        async with workplace.db.transaction() as tx:
            for key in keys:
                tx.enqueue(Bake(), key=key)

    keys = [str(number) for number in range(50)]
    await asyncio.gather(*(enqueue(keys[::way]) for way in (1, -1, 1, -1)))
    assert await workplace.states() == {("test.bake", "waiting"): 50}


async def test_urgent_jobs_go_first_and_delayed_ones_wait(workplace: Workplace) -> None:
    await workplace.enqueue(Bake(number=1), delay=timedelta(seconds=0.6))
    await workplace.enqueue(Bake(number=2))
    await workplace.enqueue(Bake(number=3), priority=9)
    assert await workplace.states() == {("test.bake", "delayed"): 1, ("test.bake", "waiting"): 2}
    basket = Basket()
    await baking(workplace, basket, at_once=2)  # takes one after the other
    await eventually(basket.has(3))
    assert basket.numbers[2] == 1
    taken = await workplace.db.records("select priority from pgqueuer_log where status = 'picked' order by id", ())
    assert [priority for (priority,) in taken] == [9, 0, 0]


# Trying again, giving up, taking up again


def refuses(_job: Bake, _attempt: Attempt) -> None:
    raise OSError("the oven\nis cold")


async def test_a_failing_job_is_tried_again_then_dead_and_works_when_retried(workplace: Workplace) -> None:
    basket = Basket(refuses)
    worker = workplace.worker()
    told: list[tuple[str, str]] = []
    worker.observe = lambda name, outcome, _seconds: told.append((name, outcome))
    worker.bind(Bake, basket)
    await worker.start()
    await workplace.enqueue(Bake(number=7), key="rye")
    (dead,) = await workplace.dead()
    assert (dead.name, dead.tries) == ("test.bake", 3)
    assert dead.error == "3 tries failed, the last with OSError: the oven is cold"
    assert told == [("test.bake", "retried")] * 2 + [("test.bake", "dead")]
    assert len({(attempt.job_id, attempt.enqueued_at) for attempt in basket.attempts}) == 1

    basket.work = lambda _job, attempt: refuses(_job, attempt) if attempt.number < 3 else None
    await workplace.enqueue(Bake(number=8), key="rye", delay=timedelta(hours=1))
    assert await queue.retry(workplace.db, None) == [dead.id]
    await eventually(basket.has(1))
    assert [attempt.number for attempt in basket.attempts] == [1, 2, 3, 1, 2, 3]
    assert basket.numbers == [7]


async def test_each_wait_is_longer_than_the_one_before(workplace: Workplace) -> None:
    basket = Basket(refuses)
    await baking(workplace, basket, retry_seconds=100)
    waits = []
    for tries in range(2):
        await workplace.enqueue(*[Bake()] if tries == 0 else [])
        await eventually(lambda: _delayed(workplace))
        waiting = "select extract(epoch from execute_after - now())::float8 from pgqueuer"
        ((wait,),) = await workplace.db.records(waiting, ())
        waits.append(wait)
        await workplace.db.records("update pgqueuer set execute_after = now()", ())
    assert 70 < waits[0] < 126
    assert 140 < waits[1] < 251


async def _delayed(workplace: Workplace) -> bool:
    return ("test.bake", "delayed") in await workplace.states()


async def test_a_job_that_takes_too_long_is_broken_off(workplace: Workplace) -> None:
    class Slow(Job):
        name: ClassVar[str] = "test.slow"
        tries: ClassVar[int] = 1
        deadline: ClassVar[timedelta] = timedelta(seconds=0.1)

    async def sleep(_job: Slow, _attempt: Attempt) -> None:
        await asyncio.sleep(60)

    worker = workplace.worker()
    worker.bind(Slow, sleep)
    await worker.start()
    await workplace.enqueue(Slow())
    (dead,) = await workplace.dead()
    assert dead.error == "1 tries failed, the last with not done within 0:00:00.100000"


async def test_a_job_whose_own_wait_is_cancelled_has_failed(workplace: Workplace) -> None:
    def cancelled(_job: Bake, _attempt: Attempt) -> None:
        raise asyncio.CancelledError

    await baking(workplace, Basket(cancelled))
    await workplace.enqueue(Bake())
    (dead,) = await workplace.dead()
    assert dead.tries == 3


async def test_giving_up_needs_one_try(workplace: Workplace) -> None:
    def gives_up(_job: Bake, _attempt: Attempt) -> None:
        raise GiveUp("there is no flour in this world")

    await baking(workplace, Basket(gives_up))
    await workplace.enqueue(Bake())
    (dead,) = await workplace.dead()
    assert (dead.tries, dead.error) == (1, "there is no flour in this world")


# What nothing can be made of


class Secretive(Job):
    name: ClassVar[str] = "test.bake"  # another form of the same job, as an older process would write it
    number: str
    token: str = "Hunter2"

    @field_validator("number")
    @classmethod
    def never(cls, value: str) -> str:
        if value == "Hunter2":
            raise ValueError(f"{value} is refused")
        return value


async def test_content_that_no_longer_fits_is_a_dead_letter_that_tells_no_secret(
    workplace: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    basket = Basket()
    with caplog.at_level(logging.DEBUG):
        await baking(workplace, basket)
        await workplace.enqueue(Secretive(number="many"))
        (dead,) = await workplace.dead()
    assert dead.error == "its content does not fit Bake: number: int_parsing; token: extra_forbidden"
    assert basket.attempts == []
    assert "Hunter2" not in dead.traceback + caplog.text


async def test_a_validation_error_inside_a_handler_tells_no_secret(workplace: Workplace) -> None:
    def validates(_job: Bake, _attempt: Attempt) -> None:
        with pytest.raises(ValidationError) as caught:
            Secretive(number="Hunter2")
        raise caught.value

    await baking(workplace, Basket(validates))
    await workplace.enqueue(Bake())
    (dead,) = await workplace.dead()
    assert dead.error == "3 tries failed, the last with ValidationError: number: value_error"
    assert "Hunter2" not in dead.error


async def test_a_name_that_nobody_knows_waits_for_its_process_and_is_then_a_dead_letter(workplace: Workplace) -> None:
    await workplace.enqueue(Bake())
    worker = await baking_nothing(workplace)
    await queue.bury_unknown(workplace.db, worker.names, timedelta(hours=1))
    assert await workplace.states() == {("test.bake", "waiting"): 1}
    await queue.bury_unknown(workplace.db, [*worker.names, Bake.name], timedelta())
    assert await workplace.states() == {("test.bake", "waiting"): 1}
    await queue.bury_unknown(workplace.db, worker.names, timedelta())
    (dead,) = await workplace.dead()
    assert dead.error == "no process has a handler for test.bake"


async def baking_nothing(workplace: Workplace) -> Worker:
    worker = workplace.worker()
    await worker.start()
    return worker


# Many workers


async def test_two_workers_share_the_work_and_nothing_is_done_twice(workplace: Workplace) -> None:
    baskets = [Basket(), Basket()]
    for basket in baskets:
        await baking(workplace, basket)
    await workplace.enqueue(*(Bake(number=number) for number in range(500)))
    await eventually(workplace.empty)
    assert all(basket.numbers for basket in baskets)
    assert sorted(baskets[0].numbers + baskets[1].numbers) == list(range(500))


async def test_no_more_run_at_once_than_is_allowed(workplace: Workplace) -> None:
    class Scarce(Job):
        name: ClassVar[str] = "test.scarce"
        at_once: ClassVar[int] = 2

    running, most = set[int](), 0

    async def work(_job: Scarce, attempt: Attempt) -> None:
        nonlocal most
        running.add(attempt.job_id)
        most = max(most, len(running))
        await asyncio.sleep(0.02)
        running.discard(attempt.job_id)

    for _ in range(2):
        worker = workplace.worker(poll_seconds=0.1)
        worker.bind(Scarce, work)
        await worker.start()
    await workplace.enqueue(*(Scarce() for _ in range(12)))
    await eventually(workplace.empty)
    assert most == 2


async def test_a_schedule_runs_once_over_all_workers(workplace: Workplace) -> None:
    ran: list[int] = []
    for number in range(2):
        worker = workplace.worker()
        worker.every("* * * * * *", "test.tick", _noting(ran, number))
        await worker.start()

    async def twice() -> bool:
        return len(ran) >= 2

    await eventually(twice, seconds=15)
    fired = "select count(*), count(distinct date_trunc('second', created)) from pgqueuer_log where status = 'queued'"
    ((count, seconds),) = await workplace.db.records(fired, ())
    assert count == seconds


def _noting(ran: list[int], number: int) -> Callable[[], Awaitable[None]]:
    async def note() -> None:
        ran.append(number)

    return note


async def test_two_handlers_for_one_name_are_a_mistake(workplace: Workplace) -> None:
    worker = workplace.worker()
    worker.bind(Bake, Basket())
    with pytest.raises(ValueError, match=r"two handlers for test\.bake"):
        worker.every("* * * * *", "test.bake", _noting([], 0))


# Stopping


async def test_a_stopping_worker_lets_its_jobs_finish(workplace: Workplace) -> None:
    started, done = asyncio.Event(), []

    async def slow(job: Bake, _attempt: Attempt) -> None:
        started.set()
        await asyncio.sleep(0.3)
        done.append(job.number)

    worker = workplace.worker()
    worker.bind(Bake, slow)
    await worker.start()
    await workplace.enqueue(Bake(number=1))
    await started.wait()
    await worker.stop()
    assert done == [1]
    assert await workplace.empty()


async def test_what_takes_longer_is_given_back_and_the_try_does_not_count(workplace: Workplace) -> None:
    started = asyncio.Event()
    told: list[str] = []

    async def endless(_job: Bake, _attempt: Attempt) -> None:
        started.set()
        await asyncio.sleep(60)

    worker = workplace.worker(stop_seconds=0.1)
    worker.observe = lambda _name, outcome, _seconds: told.append(outcome)
    worker.bind(Bake, endless)
    await worker.start()
    await workplace.enqueue(Bake(number=1))
    await started.wait()
    await worker.stop()
    assert told == ["given-back"]
    assert await workplace.states() == {("test.bake", "waiting"): 1}
    basket = Basket()
    await baking(workplace, basket)
    await eventually(workplace.empty)
    assert (basket.numbers, basket.attempts[0].number) == ([1], 1)


# What a person sees


async def test_the_report_tells_everything_but_the_content(workplace: Workplace) -> None:
    assert await report.answer(workplace.db, "list", []) == "No jobs."
    await baking(workplace, Basket(refuses))
    await workplace.enqueue(Bake(number=424242), Bake(number=424242))
    first, second = await workplace.dead(2)
    overview = await report.answer(workplace.db, "list", [])
    assert "test.bake                dead           2" in overview
    assert overview.count("OSError: the oven is cold") == 2
    letter = await report.answer(workplace.db, "show", [first.id])
    assert "in refuses" in letter
    assert "424242" not in overview + letter
    assert await report.answer(workplace.db, "drop", [first.id]) == "1 dropped"
    with pytest.raises(report.NotDead, match=f"1 to be tried anew\nNo dead letter: {first.id}$"):
        await report.answer(workplace.db, "retry", [first.id, second.id])
    with pytest.raises(report.NotDead, match=r"^No dead letter: 77$"):
        await report.answer(workplace.db, "show", [77])
    await workplace.dead()
    assert await report.answer(workplace.db, "retry", None) == "1 to be tried anew"


async def test_the_history_of_finished_jobs_is_forgotten_and_of_others_kept(workplace: Workplace) -> None:
    await baking(workplace, Basket(lambda job, attempt: refuses(job, attempt) if job.number else None))
    await workplace.enqueue(Bake(number=0), Bake(number=1))
    (dead,) = await workplace.dead()
    await queue.clean_log(workplace.db, timedelta(days=1))
    assert len(await workplace.db.records("select distinct job_id from pgqueuer_log", ())) == 2
    await queue.clean_log(workplace.db, timedelta())
    ((kept,),) = await workplace.db.records("select distinct job_id from pgqueuer_log", ())
    assert kept == dead.id


async def test_the_tables_are_those_of_the_installed_pgqueuer(workplace: Workplace) -> None:
    url = workplace.settings.database.url.get_secret_value()
    plan = await tables(PatientDriver(workplace.db, url)).plan_upgrade()
    assert (list(plan.statements), list(plan.notes)) == ([], [])
    await workplace.db.records("drop index pgqueuer_log_status", ())
    (statement,) = (await tables(PatientDriver(workplace.db, url)).plan_upgrade()).statements
    await workplace.db.records(statement, ())


async def test_a_stray_environment_does_not_rename_the_tables(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHANNEL", "TRIGGER", "PGQUEUER_PREFIX", "QUEUE_TABLE"):
        monkeypatch.setenv(name, "stray")
    await baking(workplace, Basket())
    await workplace.enqueue(Bake())
    await eventually(workplace.empty)


async def test_a_worker_that_finds_no_database_says_so(workplace: Workplace) -> None:
    nowhere = SecretStr("postgresql://k2k:x@127.0.0.1:1/k2k")
    worker = Worker(workplace.settings.database.model_copy(update={"url": nowhere}), workplace.settings.jobs)
    with pytest.raises(OSError, match="127"):
        await worker.start()
    await worker.stop()


async def test_connections_of_a_worker_are_three(workplace: Workplace) -> None:
    asked = (
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'"
    )
    ((before,),) = await workplace.db.records(asked, ())
    await baking(workplace, Basket())
    await workplace.enqueue(*(Bake() for _ in range(200)))
    await eventually(workplace.empty)
    ((after,),) = await workplace.db.records(asked, ())
    assert after - before <= 3
