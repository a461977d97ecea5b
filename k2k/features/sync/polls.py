"""A socket's deliveries for those who cannot hold a socket: one request that waits until there is something to tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from k2k.core.ids import Channel, UserId, user_channel
from k2k.infra.streams import Position
from k2k.live.hub import Hub, Joined
from k2k.live.wire import Publication, Push

# A phone has one, an account a few. More are a loop gone wild, or were left behind by phones whose network changed and
# nobody reads their answer: the one that waits longest makes room. Each process counts for itself.
MOST_OF_A_PERSON = 10


class _Poll:
    """A member of a line for as long as one request."""

    def __init__(self) -> None:
        self.heard: list[Publication] = []
        self.lost = False
        self.something = asyncio.Event()

    @property
    def owner(self) -> _Poll:
        return self

    def offer(self, push: Push) -> None:
        if isinstance(push.news, Publication):
            self.heard.append(push.news)
            self.something.set()

    def lose(self, _: Channel) -> None:
        self.lost = True
        self.something.set()


class Polls:
    """The requests that wait on this process. Once it is `leaving` they are answered with what there is."""

    def __init__(self, hub: Hub, leaving: asyncio.Event) -> None:
        self._hub = hub
        self._leaving = leaving
        self._waiting_of: dict[UserId, list[_Poll]] = {}
        """The polls of each person that wait, the oldest first."""

    async def catch_up(self, user: UserId, since: Position | None, seconds: float) -> Joined:
        """What the person has missed after `since`, as a socket would be told; waits so long for the first event.

        Without `since`: where the stream stands, at once. One too many of a person ends the one that waits longest,
        which is answered with what there is. Raises Unavailable.
        """
        channel, poll = user_channel(user), _Poll()
        try:
            await self._hub.enter(poll, channel)
            joined = await self._hub.catch_up(poll, channel, since)
            if since is None or joined.publications or not joined.recovered or not seconds:
                return joined
            self._hub.admit(poll, channel, joined.reached)
            with self._waiting(user, poll):
                await self._something(poll, seconds)
            return _heard(poll, joined)
        finally:
            self._hub.leave(poll, channel)

    async def _something(self, poll: _Poll, seconds: float) -> None:
        """Wait for whatever ends the waiting."""
        waiting = [asyncio.create_task(event.wait()) for event in (poll.something, self._leaving)]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    @contextmanager
    def _waiting(self, user: UserId, poll: _Poll) -> Iterator[None]:
        """Count the poll among those that wait, in the place of the oldest where there are too many."""
        polls = self._waiting_of.setdefault(user, [])
        polls.append(poll)
        if len(polls) > MOST_OF_A_PERSON:
            polls.pop(0).something.set()
        try:
            yield
        finally:
            if poll in polls:
                polls.remove(poll)
            if not polls and self._waiting_of.get(user) is polls:
                del self._waiting_of[user]


def _heard(poll: _Poll, joined: Joined) -> Joined:
    """What came while waiting; a place that was lost is found out by asking again."""
    if not poll.heard:
        return joined
    top = Position(joined.top.epoch, poll.heard[-1].offset)
    return Joined(top, poll.heard, recovered=True, reached=top.offset)
