"""The channels one session follows: who may, joining without a hole, paging through a long absence, and being cut off.

A channel is either asked for by the client (`subscribe`) or granted by the server (on connect, or when a permission
comes); losing one's place in the first kind ends the subscription, in the second the connection, as the SDKs know no
other way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from k2k.core.errors import DomainError
from k2k.core.ids import Channel
from k2k.infra.streams import Position
from k2k.live import wire
from k2k.live.command import Commands
from k2k.live.hub import Joined
from k2k.live.wire import Push, Refused
from k2k.ops.authenticator import Principal
from k2k.ops.channels import Address, Kind, Presence


class Follower(Protocol):
    """A session, as far as its channels know it."""

    principal: Principal | None

    def offer(self, push: Push) -> None:
        """Queue a push for sending."""

    async def drained(self) -> None:
        """Wait until the client has taken what was sent."""

    def cut(self, close: wire.Close) -> None: ...

    def appear(self, channel: Channel, kind: Kind) -> None:
        """Be present in the channel."""

    def disappear(self, channel: Channel, kind: Kind) -> None: ...


@dataclass(slots=True, eq=False)
class _Followed:
    """One subscription, from its asking to its end: a member of the channel's line.

    A client that gives a channel up and takes it again is another member, so that what was on its way for the first
    subscription cannot touch the second.
    """

    following: Following
    owner: Follower
    channel: Channel
    kind: Kind
    granted: bool
    """By the server, not asked for by the client."""
    answered: bool = False
    """Whether the client knows."""

    def offer(self, push: Push) -> None:
        self.owner.offer(push)

    def lose(self, _: Channel) -> None:
        self.following.lose(self)


class Following:
    """The channels of one session."""

    __slots__ = ("_channels", "_commands", "_ended", "_follower", "_pages")

    def __init__(self, follower: Follower, commands: Commands) -> None:
        self._follower = follower
        self._commands = commands
        self._channels: dict[Channel, _Followed] = {}
        self._pages: set[asyncio.Task[None]] | None = None
        self._ended = False

    def __contains__(self, channel: str) -> bool:
        return channel in self._channels

    def present(self) -> Iterator[tuple[Channel, Kind]]:
        """The channels in which the session can be seen."""
        for channel, followed in self._channels.items():
            if followed.answered and followed.kind.presence is not Presence.hidden:
                yield channel, followed.kind

    def kind(self, channel: str) -> Kind:
        """The kind of a channel that is followed. Raises Refused."""
        followed = self._channels.get(Channel(channel))
        if followed is None or not followed.answered:
            raise Refused(wire.PERMISSION_DENIED)
        return followed.kind

    async def join(self, address: Address, wish: wire.Recover, *, granted: bool = False) -> Joined | None:
        """Follow a channel from where the client left it; None where the channel has no history.

        The caller answers and then calls `admit`, with no await between. Raises Refused or a domain error.
        """
        self._check_room(address)
        followed = _Followed(self, self._follower, address.channel, address.kind, granted)
        self._channels[address.channel] = followed
        try:
            return await self._join(followed, address, wish)
        except BaseException:
            self._drop(followed, linger=False)
            raise

    async def _join(self, followed: _Followed, address: Address, wish: wire.Recover) -> Joined | None:
        channel, hub = address.channel, self._commands.hub
        if not hub.knows(channel):
            # Nothing is opened, here or in the database, for whoever may not follow it.
            await self._commands.check_access(address, self._follower.principal)
            self._check_current(followed)
        await hub.enter(followed, channel)
        joined = None
        if address.kind.kept is not None:
            self._check_current(followed)
            joined = await hub.catch_up(followed, channel, _since(wish))
        # Only now, as a permission that is lost from here on is heard of.
        await self._commands.check_access(address, self._follower.principal)
        self._check_current(followed)
        return joined

    def admit(self, channel: Channel, joined: Joined | None) -> None:
        """The client has been answered: what was held back and what happens from now on may follow."""
        followed = self._channels[channel]
        followed.answered = True
        if joined is None:
            self._commands.hub.admit_unnumbered(followed, channel)
        elif joined.more:
            self._turn_pages(followed, joined)
        else:
            self._commands.hub.admit(followed, channel, joined.reached)
        if self._is_current(followed):
            self._follower.appear(channel, followed.kind)

    def unsubscribe(self, channel: Channel) -> None:
        """The client no longer wants a channel."""
        followed = self._channels.get(channel)
        if followed is not None and not followed.granted:
            self._drop(followed)

    def lose(self, followed: _Followed) -> None:
        """Its place cannot be continued: the client comes back and is told that it missed something."""
        if not self._is_current(followed):
            return
        self._drop(followed)
        if followed.granted:
            self._follower.cut(wire.INSUFFICIENT_STATE)
        elif followed.answered:
            self._follower.offer(Push(followed.channel, wire.STATE_LOST))

    def lose_access(self, channel: Channel) -> None:
        """The permission to follow the channel is gone: nothing more of it is sent."""
        followed = self._channels.get(channel)
        if followed is not None:
            self._drop(followed)
            if followed.answered:
                self._follower.offer(Push(channel, wire.NO_LONGER_ALLOWED))

    def leave_all(self) -> None:
        """The session has ended."""
        self._ended = True
        for followed in tuple(self._channels.values()):
            self._drop(followed)
        for task in self._pages or ():
            task.cancel()

    def _check_room(self, address: Address) -> None:
        """Raises Refused where one more is too many, it is followed already or the session has ended."""
        if self._ended:
            raise Refused(wire.INTERNAL)
        if address.channel in self._channels:
            raise Refused(wire.ALREADY_SUBSCRIBED)
        same = sum(1 for followed in self._channels.values() if followed.kind is address.kind)
        if address.kind.at_once is not None and same >= address.kind.at_once:
            raise Refused(wire.LIMIT_EXCEEDED)
        if len(self._channels) >= self._commands.settings.subscriptions:
            raise Refused(wire.LIMIT_EXCEEDED)

    def _is_current(self, followed: _Followed) -> bool:
        return self._channels.get(followed.channel) is followed

    def _check_current(self, followed: _Followed) -> None:
        """Raises Refused where it was lost meanwhile; trying again tells why."""
        if not self._is_current(followed):
            raise Refused(wire.INTERNAL)

    def _drop(self, followed: _Followed, *, linger: bool = True) -> None:
        """End a subscription, or what is left of one that was ended while it began."""
        self._commands.hub.leave(followed, followed.channel, linger=linger)
        if self._is_current(followed):
            del self._channels[followed.channel]
            if followed.answered:
                self._follower.disappear(followed.channel, followed.kind)

    def _turn_pages(self, followed: _Followed, joined: Joined) -> None:
        if self._pages is None:
            self._pages = set()
        task = asyncio.get_running_loop().create_task(self._send_pages(followed, joined))
        self._pages.add(task)
        task.add_done_callback(self._pages.discard)

    async def _send_pages(self, followed: _Followed, joined: Joined) -> None:
        """Send what did not fit into the answer, page by page, each once the client has taken the one before."""
        try:
            while joined.more:
                await self._follower.drained()
                self._check_current(followed)
                since = Position(joined.top.epoch, joined.reached)
                joined = await self._commands.hub.catch_up(followed, followed.channel, since)
                self._check_current(followed)
                if not joined.recovered:
                    self.lose(followed)
                    return
                for publication in joined.publications:
                    self._follower.offer(Push(followed.channel, publication))
        except Refused:
            self._drop(followed)
        except Exception as error:
            self.lose(followed)
            if not isinstance(error, DomainError):
                self._commands.unforeseen(error)
        else:
            self._commands.hub.admit(followed, followed.channel, joined.reached)


def _since(wish: wire.Recover) -> Position | None:
    return Position(wish.epoch, wish.offset) if wish.recover else None


def subscription(wish: wire.Recover, joined: Joined | None) -> wire.Subscription:
    """What the client is told of its subscription."""
    if joined is None:
        return wire.Subscription()
    return wire.Subscription(
        epoch=joined.top.epoch,
        offset=joined.top.offset,
        was_recovering=wish.recover,
        recovered=joined.recovered,
        publications=joined.publications,
    )
