"""Rate limits that hold over all processes: GCRA (the generic cell rate algorithm, ITU-T I.371) in Redis, by its clock.

What arrives together is asked together. While Redis is away each process counts for itself: a limit is then as many
times wider as there are processes, which is better than none and better than refusing everybody.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from k2k.core.settings import RedisSettings
from k2k.infra.batch import Batch
from k2k.infra.metrics import Metrics
from k2k.infra.valkey import AWAY, client

log = structlog.get_logger()

# After a failure Redis is left alone for as long: nobody waits for a frozen server twice.
PAUSE_SECONDS = 1.0
MOST_COUNTED_HERE = 50_000
MICROSECONDS = 1_000_000

# KEYS[1] holds the theoretical arrival time: when everything taken so far will have been paid back, in microseconds.
# It can never be further away than the window, whatever the clock did: a clock set back must not lock anybody out.
# Answers the debt after this call and whether it was granted.
GCRA = """
local clock = redis.call('TIME')
local now, interval, window = clock[1] * 1000000 + clock[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local paid = math.max(now, math.min(tonumber(redis.call('GET', KEYS[1]) or now), now + window))
local debt = paid + interval - now
if debt > window then
    return {paid - now, 0}
end
redis.call('SET', KEYS[1], string.format('%.0f', now + debt), 'PX', math.ceil(debt / 1000))
return {debt, 1}
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
            self._ask, observe=metrics.batches.labels("limits").observe
        )
        self._here: OrderedDict[str, int] = OrderedDict()
        self._left_alone_until = 0.0

    async def take(self, key: str, rate: Rate) -> Standing:
        """Take one under `key`, which must always come with the same rate. Never raises, never waits long."""
        if time.monotonic() >= self._left_alone_until:
            try:
                return await self._asked.add((key, rate))
            except AWAY as error:
                self._left_alone_until = time.monotonic() + PAUSE_SECONDS
                log.warning("redis away: each process limits for itself", error=repr(error))
        return self._take_here(key, rate)

    async def close(self) -> None:
        await self._asked.close()
        await self._redis.aclose()

    async def _ask(self, wishes: Sequence[tuple[str, Rate]]) -> list[Standing | Exception]:
        pipeline = self._redis.pipeline(transaction=False)
        for key, rate in wishes:
            pipeline.execute_command("EVAL", GCRA, 1, self._prefix + key, rate.interval, rate.window)
        answers = await pipeline.execute()
        return [
            Standing(rate, int(debt), granted=bool(granted))
            for (_, rate), (debt, granted) in zip(wishes, answers, strict=True)
        ]

    def _take_here(self, key: str, rate: Rate) -> Standing:
        now = int(time.monotonic() * MICROSECONDS)
        paid = max(now, self._here.get(key, now))
        debt = paid + rate.interval - now
        if debt > rate.window:
            return Standing(rate, paid - now, granted=False)
        self._here[key] = now + debt
        self._here.move_to_end(key)
        if len(self._here) > MOST_COUNTED_HERE:
            self._here.popitem(last=False)
        return Standing(rate, debt, granted=True)
