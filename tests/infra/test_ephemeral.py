"""Rooms in Redis: nothing of them stays behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from k2k.core.clock import Clock
from k2k.core.settings import Settings
from k2k.infra.ephemeral import Ephemeral, Occupant, Place
from k2k.infra.valkey import client

MOST_SECONDS = 86_400


@pytest.fixture
async def ephemeral(settings: Settings) -> AsyncIterator[Ephemeral]:
    ephemeral = Ephemeral(settings.redis, Clock())
    yield ephemeral
    await ephemeral.close()


async def seconds_left(settings: Settings, room: str) -> int:
    """Until Redis forgets the room by itself; -1 where it never does, -2 where it does not have it."""
    async with client(settings.redis) as redis:
        left: int = await redis.ttl(f"{settings.redis.prefix}:in:{room}")
        return left


@pytest.mark.parametrize("told", [True, False])
async def test_a_room_that_only_refreshes_filled_is_forgotten_too(
    settings: Settings, ephemeral: Ephemeral, told: bool
) -> None:
    """As after Redis came back empty, or when a socket has stayed for a day; its process may be killed at any time."""
    room = f"room:{uuid4()}"
    place = Place(room, Occupant("somebody", str(uuid4()), "{}"), told=told)
    await ephemeral.stay([place], 60)
    assert 0 < await seconds_left(settings, room) <= MOST_SECONDS
    await ephemeral.leave(place, 5)
    assert len(await ephemeral.occupants(room)) == told
