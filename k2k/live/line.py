"""A channel as one process knows it: where the stream stands, who listens, and what came too early.

Pure: no socket, no database, no clock. The hub feeds it arrivals and what it read; members get each publication
exactly once and in order, or are told that their place is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from k2k.core.ids import Channel
from k2k.infra.streams import PAGE_BYTES, Position, Replay
from k2k.live.wire import Publication, Push

# Resuming clients mostly missed a handful of events; those cost no query.
RECENT = 64
# Publications held for a member whose replay is being read. Reading takes milliseconds: more is a stall.
MOST_HELD = 1000


class Member(Protocol):
    """A subscription, as far as a line knows it."""

    @property
    def owner(self) -> object:
        """Who is behind it: a session, say."""

    def offer(self, push: Push) -> None:
        """Queue a push for sending; never blocks."""

    def lose(self, channel: Channel) -> None:
        """Its place in the stream cannot be continued: it must subscribe again and fetch its state."""


@dataclass(slots=True)
class _Joining:
    """A member between registering and being level with the line."""

    held: list[tuple[int, Push]] = field(default_factory=list)
    reached: int | None = None
    """The offset its replay ended with; None until the replay is answered."""


@dataclass(slots=True)
class Line:
    """One channel. `position` is the newest publication handed on; None until the stream was first read."""

    channel: Channel
    fleeting: frozenset[str] = frozenset()
    """Types of events whose text may have changed by the time they are sent again: memory does not keep those."""
    position: Position | None = None
    wanted: int = 0
    """The newest offset heard of; above the position, something is missing."""
    live: set[Member] = field(default_factory=set)
    joining: dict[Member, _Joining] = field(default_factory=dict)
    silent: set[object] | None = None
    """Owners that are told nothing here, but must be found: their sign-in may end."""
    early: dict[int, tuple[str, Publication, str]] = field(default_factory=dict)
    """Publications that wait for those before them, by offset, each between its epoch and its type."""
    recent: deque[Publication] | None = None
    """The newest publications, without a hole; made with the first."""

    @property
    def empty(self) -> bool:
        return not self.live and not self.joining and not self.silent

    @property
    def gap(self) -> bool:
        """Whether something between the position and what was heard of has not arrived."""
        return self.position is not None and self.wanted > self.position.offset

    def owners(self) -> Iterator[object]:
        """Whoever is behind a member or is silent; some of them twice."""
        yield from (member.owner for member in self.live)
        yield from (member.owner for member in self.joining)
        yield from self.silent or ()

    def register(self, member: Member) -> None:
        """Hold back for this member whatever is handed on from now, until `admit`; what was held before is let go."""
        self.joining[member] = _Joining()

    def watch(self, owner: object) -> None:
        """Let this owner be found here without being told anything."""
        if self.silent is None:
            self.silent = set()
        self.silent.add(owner)

    def remove(self, member: Member) -> None:
        """The member no longer listens."""
        self.live.discard(member)
        self.joining.pop(member, None)

    def unwatch(self, owner: object) -> None:
        if self.silent:
            self.silent.discard(owner)

    def whisper(self, push: Push) -> None:
        """Hand on what is not numbered: heard now or never."""
        for member in tuple(self.live):
            member.offer(push)

    def hear(self, position: Position) -> None:
        """The stream is said to stand at `position`."""
        if self.position is not None and position.epoch != self.position.epoch:
            self._renumbered()
        self.wanted = max(self.wanted, position.offset)

    def arrive(self, position: Position, publication: Publication, type_: str = "") -> bool:
        """A publication that may be new, doubled, out of order, or from before the first read.

        Whether it was the next one, and so was handed on at once.
        """
        self.hear(position)
        if self.position is None or position.offset > self.position.offset + 1:
            self.early[position.offset] = position.epoch, publication, type_
            return False
        if position.offset <= self.position.offset:
            return False
        self._hand_on(publication, type_)
        self._hand_on_early()
        return True

    def settle(self, replay: Replay) -> None:
        """Take over what was read from the stream, whoever asked for it."""
        top = replay.top
        if self.position is not None and top.epoch != self.position.epoch:
            self._renumbered()
        if self.position is None:
            self.position = top
        for event in replay.events:
            if event.offset == self.position.offset + 1:
                self._hand_on(Publication(event.body, event.offset), event.type)
        self.wanted = max(self.wanted, top.offset)
        self._hand_on_early()

    def skip_to(self, top: Position) -> None:
        """What is missing is no longer stored: everybody who waited for it has lost their place."""
        if self.position is not None and top.offset <= self.position.offset:
            return
        lost = list(self.live)
        for member, joining in self.joining.items():
            # Its replay may have been read before what is now missing; only one that reaches beyond is safe.
            if joining.reached is None or joining.reached < top.offset:
                lost.append(member)
        self.position, self.wanted = top, max(self.wanted, top.offset)
        self.recent = None
        self._lose(lost)
        self._hand_on_early()

    def recall(self, since: Position) -> list[Publication] | None:
        """The publications after `since` from memory; None where memory does not reach, or it is more than a page."""
        if self.position is None or since.epoch != self.position.epoch or since.offset > self.position.offset:
            return None
        missed = self.position.offset - since.offset
        recent = self.recent or ()
        if missed > len(recent):
            return None
        recalled = list(recent)[len(recent) - missed :]
        return recalled if sum(len(one.data) for one in recalled) <= PAGE_BYTES else None

    def admit(self, member: Member, reached: int) -> None:
        """The member has its replay up to `reached`: give it what was held back beyond, then let it go live."""
        joining = self.joining.get(member)
        if joining is None:
            return
        beyond = [(offset, push) for offset, push in joining.held if offset > reached]
        joining.held.clear()
        if self.position is not None and self.position.offset > reached and (not beyond or beyond[0][0] != reached + 1):
            # Another member's later read began the line further on: what lies between was never handed on.
            self._lose([member])
            return
        for _, push in beyond:
            member.offer(push)
        joining.reached = reached
        self._level(member, joining)

    def admit_unnumbered(self, member: Member) -> None:
        """Let a member go live in a channel without history."""
        if self.joining.pop(member, None) is not None:
            self.live.add(member)

    def _level(self, member: Member, joining: _Joining) -> None:
        """A member ahead of the line (it came from another process) waits until the line has caught up."""
        if self.position is not None and joining.reached is not None and joining.reached <= self.position.offset:
            del self.joining[member]
            self.live.add(member)

    def _hand_on(self, publication: Publication, type_: str) -> None:
        assert self.position is not None  # noqa: S101 - callers looked
        offset = publication.offset
        self.position = Position(self.position.epoch, offset)
        if type_ in self.fleeting:
            self.recent = None
        else:
            if self.recent is None:
                self.recent = deque(maxlen=RECENT)
            self.recent.append(publication)
        push = Push(self.channel, publication)
        for member in self.live:
            member.offer(push)
        for member, joining in tuple(self.joining.items()):
            if joining.reached is None:
                joining.held.append((offset, push))
                if len(joining.held) > MOST_HELD:
                    self._lose([member])
            else:
                if offset > joining.reached:
                    member.offer(push)
                self._level(member, joining)

    def _hand_on_early(self) -> None:
        if not self.early:
            return
        assert self.position is not None  # noqa: S101 - callers looked
        epoch = self.position.epoch
        # What came before the first read may be of a numbering that has ended since.
        self.early = {offset: kept for offset, kept in self.early.items() if kept[0] == epoch}
        while (offset := self.position.offset + 1) in self.early:
            self._hand_on(*self.early.pop(offset)[1:])
        for offset in [offset for offset in self.early if offset <= self.position.offset]:
            del self.early[offset]

    def _renumbered(self) -> None:
        """The stream began anew (a restored database): offsets of before mean nothing now."""
        self.position, self.wanted = None, 0
        self.early.clear()
        self.recent = None
        self._lose([*self.live, *self.joining])

    def _lose(self, members: list[Member]) -> None:
        """These members' places are lost: they leave before they are told, for they may come back at once."""
        for member in members:
            self.remove(member)
        for member in members:
            member.lose(self.channel)
