"""Rows of acknowledgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from k2k.core.ids import Channel, UserId
from k2k.features.sync.models import Acknowledgement, Delivered
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx


@dataclass(frozen=True, slots=True)
class AcknowledgeRow:
    position: int
    epoch: str | None
    offset: int | None
    """The greatest offset acknowledged; None where the stream does not have the place."""


_queries = Queries("sync")
ACKNOWLEDGE_MANY = _queries.rows("acknowledge_many", AcknowledgeRow)
DELIVERED = _queries.rows("delivered", Delivered)


async def acknowledge_many(tx: Tx, items: Sequence[Acknowledgement]) -> list[AcknowledgeRow]:
    """One row per item, in order."""
    return await tx.rows(
        ACKNOWLEDGE_MANY,
        [item.channel for item in items],
        [item.sign_in_id for item in items],
        [item.position.epoch for item in items],
        [item.position.offset for item in items],
    )


async def delivered(db: Reader, channel: Channel, user: UserId) -> list[Delivered]:
    return await db.rows(DELIVERED, channel, user)
