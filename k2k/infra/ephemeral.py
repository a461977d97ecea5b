"""Who is where just now, in Redis only: rooms whose members must be heard of again and again, or they are gone.

A room is a sorted set of members by the second until which each counts as present, so a process that was killed takes
its members with it by time alone, and a server that came back empty is full again after one refresh. `departing`
lists those whose departure somebody should be told of, over all rooms. While Redis is away nobody knows anything,
which is not the same as nobody being there: reads raise Unavailable.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from k2k.core.clock import Clock
from k2k.core.errors import Unavailable
from k2k.core.settings import RedisSettings
from k2k.infra.batch import Batch
from k2k.infra.valkey import AWAY, SOCKET_SECONDS, client

log = structlog.get_logger()

# After a failure Redis is left alone for as long: nobody waits for a frozen server twice.
PAUSE_SECONDS = 1.0
KEPT_DAYS = 30
"""How long it is remembered when somebody was last seen."""
ROOM_SECONDS = 86_400
"""How long a room is kept that nobody enters any more: its process may have been killed."""
MOST_DEPARTURES = 200
"""What one look for departures takes on."""

# A member is "person socket description"; the person may be empty. KEYS[1] is the room, ARGV[2] now.
_OTHERS = """
local person, others = string.match(ARGV[1], '^[^ ]*'), 0
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf')) do
    if member ~= ARGV[1] and string.match(member, '^[^ ]*') == person then
        others = others + 1
    end
end
"""
# ARGV[3] is until when, ARGV[4] how long the room is kept. Answers how many other sockets of the person are there.
ENTER = (
    _OTHERS
    + """
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return others
"""
)
# Answers whether the person is gone; a member that was heard of meanwhile stays.
DEPART = (
    _OTHERS
    + """
local kept = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not kept or tonumber(kept) > tonumber(ARGV[2]) then
    return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
return others == 0 and 1 or 0
"""
)
# Takes out whoever is due by ARGV[1], at most ARGV[2], so that exactly one process tells of each.
DUE = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due > 0 then
    redis.call('ZREM', KEYS[1], unpack(due))
end
return due
"""
# Answers the sockets that are present and the people behind them; each socket without a person is one.
COUNT = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
local people, number, sockets = {}, 0, redis.call('ZRANGE', KEYS[1], 0, -1)
for _, member in ipairs(sockets) do
    local person = string.match(member, '^[^ ]*')
    if person == '' or not people[person] then
        people[person] = true
        number = number + 1
    end
end
return {#sockets, number}
"""

Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Occupant:
    """Somebody in a room: a person ("" without a sign-in), one socket of theirs, and how that describes itself."""

    person: str
    socket: str
    description: str
    """Without spaces: compact JSON, say."""

    def __str__(self) -> str:
        return f"{self.person} {self.socket} {self.description}"

    @classmethod
    def parse(cls, text: str) -> Occupant:
        return cls(*text.split(" ", 2))


@dataclass(frozen=True, slots=True)
class Place:
    """An occupant in a room. `told`: when it is gone for good, somebody is to be told."""

    room: str
    occupant: Occupant
    told: bool


class Ephemeral:
    """The rooms of one deployment. Everything that arrives together goes to Redis as one pipeline."""

    def __init__(self, settings: RedisSettings, clock: Clock) -> None:
        self._redis = client(settings)
        self._prefix = f"{settings.prefix}:"
        self._clock = clock
        self._commands: Batch[Command, Any] = Batch(self._run_many, most=1000)
        self._left_alone_until = 0.0

    async def close(self) -> None:
        await self._commands.close()
        await self._redis.aclose()

    async def enter(self, place: Place, seconds: float) -> int:
        """Be in a room for so long; how many other sockets of this person are there. Raises Unavailable.

        It looks at everybody in the room, so that is for rooms of few.
        """
        until = self._now + seconds
        commands = [("EVAL", ENTER, 1, self._room(place.room), str(place.occupant), self._now, until, ROOM_SECONDS)]
        if place.occupant.person:
            commands.append(self._was_seen(place.occupant.person))
        others, *_ = await self._run_all([*commands, *self._will_depart(place, until)])
        return int(others)

    async def stay(self, places: Iterable[Place], seconds: float) -> None:
        """Be there for as long again, or come where nobody asks for others. Raises Unavailable."""
        until = self._now + seconds
        rooms: defaultdict[str, list[Any]] = defaultdict(list)
        for place in places:
            rooms[self._room(place.room)] += (until, str(place.occupant))
            if place.told:
                rooms[self._departing] += (until, _departure(place))
        commands: list[Command] = [("ZADD", room, *members) for room, members in rooms.items()]
        # A room may have been lost with its server, or be a day old: this is its first entry then.
        commands += [("EXPIRE", room, ROOM_SECONDS) for room in rooms if room != self._departing]
        await self._run_all(commands)

    async def leave(self, place: Place, seconds: float) -> None:
        """Go. Where that is told the person counts as there for so long: they may come back unnoticed.

        Raises Unavailable.
        """
        room, until = self._room(place.room), self._now + seconds
        if place.told:
            gone: Command = ("ZADD", room, "XX", until, str(place.occupant))
        else:
            gone = ("ZREM", room, str(place.occupant))
        commands = [gone, *self._will_depart(place, until)]
        if place.occupant.person:
            commands.append(self._was_seen(place.occupant.person))
        await self._run_all(commands)

    async def departed(self) -> list[tuple[str, Occupant]]:
        """The people who are gone from their rooms since anybody last asked. Raises Unavailable."""
        due = await self._run("EVAL", DUE, 1, self._departing, self._now, MOST_DEPARTURES)
        candidates = [entry.decode().split("\n", 1) for entry in due]
        gone = await self._run_all(
            [("EVAL", DEPART, 1, self._room(room), occupant, self._now) for room, occupant in candidates]
        )
        return [(room, Occupant.parse(occupant)) for (room, occupant), one in zip(candidates, gone, strict=True) if one]

    async def occupants(self, room: str) -> list[Occupant]:
        """Who is there. Raises Unavailable."""
        found = await self._run("ZRANGEBYSCORE", self._room(room), f"({self._now}", "+inf")
        return [Occupant.parse(member.decode()) for member in found]

    async def count(self, room: str) -> tuple[int, int]:
        """How many sockets are there, and how many people behind them. Raises Unavailable."""
        sockets, people = await self._run("EVAL", COUNT, 1, self._room(room), self._now)
        return int(sockets), int(people)

    async def last_seen(self, person: str) -> float | None:
        """When a person last came or went (seconds since 1970); None if not for KEPT_DAYS. Raises Unavailable."""
        last = await self._run("GET", self._seen(person))
        return float(last) if last is not None else None

    @property
    def _now(self) -> float:
        """By the database's clock, so that all processes mean the same."""
        return round(self._clock.now().timestamp(), 3)

    @property
    def _departing(self) -> str:
        return self._prefix + "departing"

    def _room(self, room: str) -> str:
        return f"{self._prefix}in:{room}"

    def _seen(self, person: str) -> str:
        return f"{self._prefix}seen:{person}"

    def _was_seen(self, person: str) -> Command:
        return "SET", self._seen(person), self._now, "EX", KEPT_DAYS * 86400

    def _will_depart(self, place: Place, until: float) -> list[Command]:
        return [("ZADD", self._departing, until, _departure(place))] if place.told else []

    async def _run_all(self, commands: Sequence[Command]) -> list[Any]:
        return await asyncio.gather(*(self._run(*command) for command in commands))

    async def _run(self, *command: Any) -> Any:
        if time.monotonic() < self._left_alone_until:
            raise Unavailable
        return await self._commands.add(command)

    async def _run_many(self, commands: Sequence[Command]) -> list[Any]:
        try:
            async with asyncio.timeout(SOCKET_SECONDS):
                pipeline = self._redis.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                return list(await pipeline.execute())
        except AWAY as error:
            self._left_alone_until = time.monotonic() + PAUSE_SECONDS
            log.warning("redis away: presence is unknown", error=repr(error))
            raise Unavailable from error


def _departure(place: Place) -> str:
    """The entry among those that will depart."""
    return f"{place.room}\n{place.occupant}"
