"""What arrives together travels together.

A `Batch` runs one call for many callers: while a call is in flight, the items that arrive gather and go as the
next one. There is no timer: an idle batch runs its first item at once, a busy one grows exactly as large as the
load makes it. Used for set writes, reads by id, sign-in checks, catch-up reads and Redis publishes.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from k2k.core.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batch(Generic[Item, Result]):
    """Gathers items for `run`, which answers one result or exception per item, in the same order.

    At most `most` items go at once, one call at a time. An exception raised by `run` is raised to every
    caller of that call. A caller that is cancelled does not take its item back: it may already have been
    written. `observe` is told how many items each call takes.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        most: int = 256,
        observe: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._run = run
        self._most = most
        self._observe = observe
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def add(self, item: Item) -> Result:
        """Have `item` run with the next call and return its result, or raise its exception."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            # In an empty context: the first caller's request id must not leak into everybody's log lines.
            self._task = asyncio.get_running_loop().create_task(self._drain(), context=contextvars.Context())
        return await future

    async def close(self) -> None:
        """Wait until everything that was added has run."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                count = min(self._most, len(self._waiting))
                gathered = [self._waiting.popleft() for _ in range(count)]
                self._observe(count)
                await self._call(gathered)
        finally:
            self._task = None

    async def _call(self, gathered: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in gathered])
            if len(results) != len(gathered):
                raise RuntimeError(f"{len(results)} results for {len(gathered)} items")
        except Exception as error:  # whatever it is belongs to the callers, each of whom gets it
            results = [error] * len(gathered)
        except BaseException:  # the drain itself is being cancelled: nobody may wait for ever
            for _, future in (*gathered, *self._waiting):
                future.cancel()
            self._waiting.clear()
            raise
        if all(isinstance(result, Unavailable) for result in results):
            # What gathered meanwhile was never sent; trying would only wait for the same silence again.
            gathered = [*gathered, *self._waiting]
            results = [*results, *(Unavailable() for _ in self._waiting)]
            self._waiting.clear()
        for (_, future), result in zip(gathered, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
