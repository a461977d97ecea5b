"""Keeping what devices acknowledge, so that it is known what was delivered."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from k2k.core.errors import DomainError, PositionUnknown
from k2k.core.ids import Channel, UserId
from k2k.features.sync import store
from k2k.features.sync.models import Acknowledged, Acknowledgement, Delivered, Missed
from k2k.infra.streams import Position
from k2k.infra.transaction import Reader, Tx
from k2k.live.hub import Joined
from k2k.ops.registry import Json


async def acknowledge_many(tx: Tx, items: Sequence[Acknowledgement]) -> list[Acknowledged | DomainError]:
    """Keep each; a smaller offset than before changes nothing. Whether the channel may be read is the caller's to know.

    Outcomes besides: PositionUnknown where the stream is not there, or does not have the position.
    """
    return [_outcome(row) for row in await store.acknowledge_many(tx, items)]


def _outcome(row: store.AcknowledgeRow) -> Acknowledged | DomainError:
    if row.offset is None or row.epoch is None:
        return PositionUnknown()
    return Acknowledged(Position(row.epoch, row.offset))


def missed(joined: Joined) -> Json[Missed]:
    """What a request is answered: events as PostgreSQL rendered them, each with its offset."""
    told = b",".join(b'%s,"offset":%d}' % (one.data.removesuffix(b"}"), one.offset) for one in joined.publications)
    top = joined.top
    about = {
        "epoch": top.epoch,
        "offset": top.offset,
        "next": f"{top.epoch}:{joined.reached}",
        "recovered": joined.recovered,
        "more": joined.more,
    }
    return Json(b'%s,"events":[%s]}' % (to_json(about).removesuffix(b"}"), told))


async def delivered(db: Reader, channel: Channel, user: UserId) -> list[Delivered]:
    """How far each living sign-in of the person has acknowledged the channel, the oldest sign-in first."""
    return await store.delivered(db, channel, user)
