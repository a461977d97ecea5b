"""Delivery without a socket, and what a device says it has."""

from __future__ import annotations

from k2k.core.errors import Denied, PositionUnknown
from k2k.core.ids import Channel, user_channel
from k2k.features.sync import service
from k2k.features.sync.models import Acknowledgement, AckWish, Missed, SyncQuery
from k2k.features.sync.polls import Polls
from k2k.infra.streams import Position
from k2k.ops.call import Call
from k2k.ops.channels import StreamPosition
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Routes

routes = Routes("sync")


@routes.get("/sync", may=Permission.own_account)
async def sync(call: Call, query: SyncQuery) -> Json[Missed]:
    """The same numbered events as over a socket, from where I left off; waits a while if there are none yet.

    Ask again with `next` as `since`. Without `since` it answers at once where my stream stands.
    """
    joined = await call.use(Polls).catch_up(call.user.id, query.position, query.wait)
    return service.missed(joined)


@routes.post(
    "/ack",
    may=Permission.own_account,
    rpc="ack",
    repeats=Repeats.freely,
    raises=(Denied, PositionUnknown),
)
async def acknowledge(call: Call, body: AckWish) -> StreamPosition:
    """Say that this device has everything of my own channel up to an offset. Less than before changes nothing.

    Answers how far the device has acknowledged it now.
    """
    if body.channel != user_channel(call.user.id):
        raise Denied("A device acknowledges its own person's channel")
    word = Acknowledgement(Channel(body.channel), call.user.sign_in_id, Position(body.epoch, body.offset))
    kept = await call.together(service.acknowledge_many, word)
    return StreamPosition.of(kept.position)
