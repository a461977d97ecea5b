"""How Redis (or Valkey) is reached: a frozen server may hold up nobody, so every wait is short, nothing is repeated."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from k2k.core.settings import RedisSettings

# Many times what a healthy server takes.
SOCKET_SECONDS = 0.5
AWAY = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a server that is away, or comes back, makes its clients raise. RuntimeError is uvloop's word for writing to a
connection that has just been lost, where asyncio's own loop says nothing."""


def client(settings: RedisSettings, **options: Any) -> Redis:
    """A client with connections of its own; it connects when first used."""
    return Redis.from_url(
        settings.url.get_secret_value(),
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
