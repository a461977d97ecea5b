"""Keeping what devices acknowledge, so that it is known what was delivered."""

from __future__ import annotations

from collections.abc import Sequence

from k2k.core.errors import DomainError, PositionUnknown
from k2k.core.ids import Channel, UserId
from k2k.features.sync import store
from k2k.features.sync.models import Acknowledged, Acknowledgement, Delivered
from k2k.infra.streams import Position
from k2k.infra.transaction import Reader, Tx


async def acknowledge_many(tx: Tx, items: Sequence[Acknowledgement]) -> list[Acknowledged | DomainError]:
    """Keep each; a smaller offset than before changes nothing. Whether the channel may be read is the caller's to know.

    Outcomes besides: PositionUnknown where the stream is not there, or does not have the position.
    """
    rows = await store.acknowledge_many(tx, items)
    return [_outcome(item, row) for item, row in zip(items, rows, strict=True)]


def _outcome(item: Acknowledgement, row: store.AcknowledgeRow) -> Acknowledged | DomainError:
    if row.offset is None:
        return PositionUnknown()
    return Acknowledged(Position(item.position.epoch, row.offset))


async def delivered(db: Reader, channel: Channel, user: UserId) -> list[Delivered]:
    """How far each living sign-in of the person has acknowledged the channel, the oldest sign-in first."""
    return await store.delivered(db, channel, user)
