"""Permissions to follow a channel that come and go while people are connected: facts, written with their reason.

Whoever takes a permission away emits `AccessLost` in that same transaction, to the channel itself and to the person's
own one. In the channel it stands before everything that is no longer theirs, so nothing reaches them any more, on
no process; the person's own stream brings it also where the channel keeps no history.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic_core import from_json

from k2k.core.ids import Channel, UserId
from k2k.infra.streams import Event, Numbered
from k2k.live.hub import Hub
from k2k.live.session import Session


class AccessLost(Event):
    """This person, or everybody where `user_id` is null, may not follow the channel any more."""

    type: ClassVar[str] = "access.lost"
    to = ("user", "agency", "listing")
    channel: str
    user_id: UserId | None


class AccessGained(Event):
    """The person may follow the channel from now on."""

    type: ClassVar[str] = "access.gained"
    to = ("user",)
    channel: str


def follow_access(hub: Hub) -> None:
    """Have the sessions of this process act on permissions that come and go."""
    hub.watch(AccessLost.type, lambda event: _lose(hub, event))
    hub.watch(AccessGained.type, lambda event: _gain(hub, event))


def _lose(hub: Hub, event: Numbered) -> None:
    lost = AccessLost.model_validate(from_json(event.body)["data"], strict=False)
    for member in hub.members(Channel(lost.channel)):
        if isinstance(member, Session) and (lost.user_id is None or member.user_id == lost.user_id):
            member.lose_access(Channel(lost.channel))


def _gain(hub: Hub, event: Numbered) -> None:
    gained = AccessGained.model_validate(from_json(event.body)["data"], strict=False)
    for member in hub.members(event.channel):
        if isinstance(member, Session):
            member.gain_access(Channel(gained.channel))
