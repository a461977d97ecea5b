"""Chance that is the same on every machine: all of a made-up market follows from one number."""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b
from random import Random
from uuid import UUID


def chance(seed: int, *names: object) -> Random:
    """A source of chance for what is named so, whichever process asks and in whatever order."""
    return Random("/".join(map(str, (seed, *names))))  # noqa: S311 - nothing here is secret


def id_of(seed: int, kind: str, number: int, born: datetime) -> UUID:
    """The UUIDv7 (RFC 9562) of something by its kind and number, born at that moment."""
    digest = blake2b(f"{seed}/{kind}/{number}".encode(), digest_size=10).digest()
    return uuid7(born, int.from_bytes(digest))


def uuid7(born: datetime, bits: int) -> UUID:
    """The UUIDv7 of a moment and 74 further bits (what is beyond them does not count)."""
    milliseconds = int(born.timestamp() * 1000)
    rest = bits & ((1 << 62) - 1)
    middle = (bits >> 62) & 0xFFF
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (middle << 64) | (0b10 << 62) | rest)
