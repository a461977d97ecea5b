"""Gathering: what travels together, in which order, and what happens to the others when one fails or goes away."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence

import pytest

from k2k.infra.batch import Batch

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("REQUEST", default="nobody's")


class Gated:
    """Work that can be held. It answers "done <item>", or the exception that stands for an item in `refused`."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.refused: dict[int, Exception] = {}
        self.failure: Exception | None = None
        self.running = 0
        self.most_at_once = 0
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: list[int]) -> Sequence[str | Exception]:
        self.calls.append(items)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self.started.set()
        await self.gate.wait()
        self.running -= 1
        if self.failure is not None:
            raise self.failure
        return [self.refused.get(item, f"done {item}") for item in items]


def add(batch: Batch[int, str], items: Sequence[int]) -> list[asyncio.Task[str]]:
    return [asyncio.ensure_future(batch.add(item)) for item in items]


async def held(work: Gated, batch: Batch[int, str], waiting: Sequence[int]) -> list[asyncio.Task[str]]:
    """Item 0 is in flight and held, `waiting` have gathered behind it."""
    work.gate.clear()
    async with asyncio.timeout(5):
        first = add(batch, [0])
        await work.started.wait()
        rest = add(batch, waiting)
        while len(batch) < len(waiting):
            await asyncio.sleep(0)
    return first + rest


async def test_the_first_goes_alone_and_the_rest_together_in_order() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work)
    tasks = await held(work, batch, range(1, 100))
    work.gate.set()
    assert await asyncio.gather(*tasks) == [f"done {item}" for item in range(100)]
    assert work.calls == [[0], list(range(1, 100))]
    assert len(batch) == 0


async def test_a_lone_item_does_not_wait_for_company() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work)
    assert [await batch.add(item) for item in range(3)] == ["done 0", "done 1", "done 2"]
    assert work.calls == [[0], [1], [2]]


async def test_no_call_is_larger_than_most_and_one_runs_at_a_time() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work, most=10)
    tasks = await held(work, batch, range(1, 26))
    work.gate.set()
    await asyncio.gather(*tasks)
    assert [len(call) for call in work.calls] == [1, 10, 10, 5]
    assert [item for call in work.calls for item in call] == list(range(26))
    assert work.most_at_once == 1


async def test_an_exception_of_the_call_reaches_every_caller_and_the_next_call_runs() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work)
    tasks = await held(work, batch, [1, 2])
    work.failure = RuntimeError("broken")
    work.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    work.failure = None
    assert await batch.add(3) == "done 3"


async def test_an_exception_in_place_of_a_result_is_its_own_caller_s_alone() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work)
    work.refused[2] = LookupError("not this one")
    tasks = await held(work, batch, [1, 2, 3])
    work.gate.set()
    one, two, three = (await asyncio.gather(*tasks, return_exceptions=True))[1:]
    assert (one, three) == ("done 1", "done 3")
    assert isinstance(two, LookupError)


@pytest.mark.parametrize("answers", [0, 1, 3])
async def test_a_call_that_answers_too_few_or_too_many_leaves_nobody_waiting(answers: int) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def miscount(items: list[int]) -> list[str]:
        started.set()
        await gate.wait()
        return ["done"] * (answers if len(items) > 1 else 1)

    batch: Batch[int, str] = Batch(miscount)
    tasks = add(batch, [0])
    await started.wait()
    tasks += add(batch, [1, 2])
    await asyncio.sleep(0)
    gate.set()
    done, pending = await asyncio.wait(tasks, timeout=1)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    assert not pending
    assert [task.exception() is None for task in tasks] == [True, False, False]
    assert len(done) == 3


async def test_a_caller_that_goes_away_does_not_take_its_item_back() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work)
    tasks = await held(work, batch, [1, 2])
    for gone in tasks[:2]:
        gone.cancel()
    await asyncio.gather(*tasks[:2], return_exceptions=True)
    work.gate.set()
    assert await tasks[2] == "done 2"
    assert work.calls == [[0], [1, 2]]
    assert all(task.cancelled() for task in tasks[:2])


async def test_nobody_runs_in_the_first_caller_s_context() -> None:
    seen: list[str] = []

    async def look(items: list[int]) -> list[str]:
        seen.append(REQUEST.get())
        return ["seen"] * len(items)

    batch: Batch[int, str] = Batch(look)
    token = REQUEST.set("the first caller's")
    try:
        await batch.add(1)
    finally:
        REQUEST.reset(token)
    assert seen == ["nobody's"]


async def test_close_waits_for_everything_that_was_added() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work)
    tasks = await held(work, batch, [1, 2])
    closing = asyncio.ensure_future(batch.close())
    await asyncio.sleep(0)
    assert not closing.done()
    work.gate.set()
    await closing
    assert work.calls == [[0], [1, 2]]
    assert await asyncio.gather(*tasks) == ["done 0", "done 1", "done 2"]
    await batch.close()


async def test_a_closer_that_gives_up_does_not_stop_the_work() -> None:
    work = Gated()
    batch: Batch[int, str] = Batch(work)
    (task,) = await held(work, batch, [])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await batch.close()
    work.gate.set()
    assert await task == "done 0"


async def test_when_the_work_itself_is_cancelled_nobody_waits_for_ever() -> None:
    started = asyncio.Event()

    async def cancelled(_: list[int]) -> list[str]:
        started.set()
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    batch: Batch[int, str] = Batch(cancelled)
    tasks = add(batch, [0])
    await started.wait()
    tasks += add(batch, [1])
    _, pending = await asyncio.wait(tasks, timeout=1)
    assert not pending
    assert all(task.cancelled() for task in tasks)
