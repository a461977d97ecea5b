"""Rate limits that hold over all processes: GCRA (the generic cell rate algorithm, ITU-T I.371) in Redis, by its clock.

What arrives together is asked together. While Redis is away each process counts for itself: a limit is then as many
times wider as there are processes, which is better than none and better than refusing everybody.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from k2k.core.settings import RedisSettings
from k2k.infra.batch import Batch
from k2k.infra.metrics import Metrics
from k2k.infra.valkey import AWAY, SOCKET_SECONDS, client

log = structlog.get_logger()

# After a failure Redis is left alone for as long: nobody waits for a frozen server twice.
PAUSE_SECONDS = 1.0
MOST_COUNTED_HERE = 50_000
MICROSECONDS = 1_000_000

# KEYS[1] holds the theoretical arrival time: when everything taken so far will have been paid back, in microseconds.
# It is written at every call, refused ones too: after a clock was set back what stands there is too far away, and only
# a debt that is cut to the window once and kept so ends with the window. What else stands there counts as nothing.
# Answers the debt after this call and whether it was granted: `Standing.after`, in Redis.
GCRA = """
local clock = redis.call('TIME')
local now, interval, window = clock[1] * 1000000 + clock[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.pcall('GET', KEYS[1])
local debt = math.max(0, (type(kept) == 'string' and tonumber(kept) or now) - now)
debt = math.min(debt, window)
local granted = debt + interval <= window
if granted then
    debt = debt + interval
end
redis.call('SET', KEYS[1], string.format('%.0f', now + debt), 'PX', math.ceil(debt / 1000))
return {debt, granted and 1 or 0}
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` at once, and as many again, evenly, in each `seconds`."""

    count: int
    seconds: float

    @property
    def interval(self) -> int:
        """Microseconds after which one more is allowed."""
        return max(1, round(self.seconds * MICROSECONDS / self.count))

    @property
    def window(self) -> int:
        """The largest debt, in microseconds."""
        return self.interval * self.count


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands with its rate after it asked for one more."""

    rate: Rate
    debt: int
    """Microseconds until everything taken is paid back."""
    granted: bool

    @classmethod
    def after(cls, debt: int, rate: Rate) -> Standing:
        """Where a key that owes `debt` stands after it asked for one more."""
        debt = min(max(0, debt), rate.window)
        granted = debt + rate.interval <= rate.window
        return cls(rate, debt + rate.interval if granted else debt, granted)

    @property
    def remaining(self) -> int:
        """How many more would be granted now."""
        return (self.rate.window - self.debt) // self.rate.interval

    @property
    def reset(self) -> int:
        """Whole seconds until all of the rate's count is there again."""
        return math.ceil(self.debt / MICROSECONDS)

    @property
    def retry_after(self) -> int:
        """Whole seconds after which one more is granted; 0 if one would be now."""
        return max(0, math.ceil((self.debt + self.rate.interval - self.rate.window) / MICROSECONDS))


class Limits:
    """Counts what is taken under each key."""

    def __init__(self, settings: RedisSettings, metrics: Metrics) -> None:
        self._redis = client(settings)
        self._prefix = f"{settings.prefix}:limit:"
        self._asked: Batch[tuple[str, Rate], Standing] = Batch(
            self._take_many, observe=metrics.batches.labels("limits").observe
        )
        self._here: OrderedDict[str, int] = OrderedDict()
        self._left_alone_until = 0.0

    async def take(self, key: str, rate: Rate) -> Standing:
        """Take one under `key`, which must always come with the same rate. Never raises, never waits long."""
        return self._take_here(key, rate) if self._left_alone else await self._asked.add((key, rate))

    async def close(self) -> None:
        await self._asked.close()
        await self._redis.aclose()

    @property
    def _left_alone(self) -> bool:
        return time.monotonic() < self._left_alone_until

    async def _take_many(self, wishes: Sequence[tuple[str, Rate]]) -> list[Standing]:
        """What Redis answers, or what is counted here while it is away: who gathered meanwhile waits no second time."""
        if not self._left_alone:
            try:
                async with asyncio.timeout(SOCKET_SECONDS):
                    return await self._ask(wishes)
            except AWAY as error:
                self._left_alone_until = time.monotonic() + PAUSE_SECONDS
                log.warning("redis away: each process limits for itself", error=repr(error))
                await self._disconnect()
        return [self._take_here(key, rate) for key, rate in wishes]

    async def _ask(self, wishes: Sequence[tuple[str, Rate]]) -> list[Standing]:
        pipeline = self._redis.pipeline(transaction=False)
        for key, rate in wishes:
            pipeline.execute_command("EVAL", GCRA, 1, self._prefix + key, rate.interval, rate.window)
        answers = await pipeline.execute()
        return [
            Standing(rate, int(debt), granted=bool(granted))
            for (_, rate), (debt, granted) in zip(wishes, answers, strict=True)
        ]

    async def _disconnect(self) -> None:
        """A server that became a replica keeps its connections and refuses to write: the next one looks for the new."""
        with suppress(*AWAY):
            await self._redis.connection_pool.disconnect()

    def _take_here(self, key: str, rate: Rate) -> Standing:
        now = int(time.monotonic() * MICROSECONDS)
        standing = Standing.after(self._here.get(key, now) - now, rate)
        self._here[key] = now + standing.debt
        self._here.move_to_end(key)
        if len(self._here) > MOST_COUNTED_HERE:
            self._here.popitem(last=False)
        return standing
