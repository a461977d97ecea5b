"""Who takes part: the people of bench/market.sql, signed in, and the conversations of pairs of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from bench.rest import fill
from k2k.core.ids import SignInId, UserId
from k2k.core.settings import load
from k2k.features.accounts.tokens import Tokens

PEOPLE = 10_000
PAIRS = 1_000
ROOM_ROWS = Path(__file__).with_name("live.sql")


@dataclass(frozen=True)
class Person:
    id: UUID
    token: str


def row_id(kind: str, number: int) -> UUID:
    """The id that the SQL files give the row."""
    return UUID(hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest())


async def populate(url: str) -> None:
    """Fill a fresh database."""
    await fill(url)
    connection = await asyncpg.connect(url)
    await connection.execute(ROOM_ROWS.read_text())
    await connection.execute("vacuum analyze")
    await connection.close()


def people(key: str, count: int = PEOPLE) -> list[Person]:
    """The first people, each with an access token that outlives the bench."""
    settings = load({}).auth.model_copy(update={"secret": SecretStr(key), "access_minutes": 600})
    make, now = Tokens(settings), datetime.now(UTC)
    found = []
    for number in range(1, count + 1):
        id_ = row_id("user", number)
        found.append(Person(id_, make.access(UserId(id_), SignInId(row_id("sign-in", number)), now)))
    return found
