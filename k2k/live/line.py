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
from k2k.infra.streams import Position, Replay
from k2k.live import wire

# Resuming clients mostly missed a handful of events; those cost no query.
RECENT = 64
# Frames held for a member whose replay is being read. Reading takes milliseconds: more is a stall.
MOST_HELD = 1000


class Member(Protocol):
    """A session, as far as a line knows it."""

    def offer(self, frame: bytes) -> None:
        """Queue a frame for sending; never blocks."""

    def lose(self) -> None:
        """Its place in the stream cannot be continued: it must reconnect and fetch its state."""


@dataclass
class _Joining:
    """A member between registering and being level with the line."""

    held: list[tuple[int, bytes]] = field(default_factory=list)
    position: int | None = None
    """The offset its replay ended with; None until the replay is answered."""


@dataclass
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
    early: dict[int, tuple[str, bytes, str]] = field(default_factory=dict)
    """Publications that wait for those before them, by offset, each between its epoch and its type."""
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def empty(self) -> bool:
        return not self.live and not self.joining

    @property
    def gap(self) -> bool:
        """Whether something between the position and what was heard of has not arrived."""
        return self.position is not None and self.wanted > self.position.offset

    def members(self) -> Iterator[Member]:
        yield from self.live
        yield from self.joining

    def register(self, member: Member) -> None:
        """Hold back for this member whatever is handed on from now, until `admit`."""
        self.joining[member] = _Joining()

    def remove(self, member: Member) -> None:
        self.live.discard(member)
        self.joining.pop(member, None)

    def hear(self, position: Position) -> None:
        """The stream is said to stand at `position`."""
        if self.position is not None and position.epoch != self.position.epoch:
            self._renumbered()
        self.wanted = max(self.wanted, position.offset)

    def arrive(self, position: Position, publication: bytes, type_: str = "") -> bool:
        """A publication that may be new, doubled, out of order, or from before the first read.

        Whether it was the next one, and so was handed on at once.
        """
        self.hear(position)
        if self.position is None or position.offset > self.position.offset + 1:
            self.early[position.offset] = position.epoch, publication, type_
            return False
        if position.offset <= self.position.offset:
            return False
        self._hand_on(position.offset, publication, type_)
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
                self._hand_on(event.offset, wire.publication(event.body, event.offset), event.type)
        self.wanted = max(self.wanted, top.offset)
        self._hand_on_early()

    def skip_to(self, top: Position) -> None:
        """What is missing is no longer stored: everybody who waited for it has lost their place."""
        if self.position is not None and top.offset <= self.position.offset:
            return
        for member in self.live:
            member.lose()
        for member, joining in self.joining.items():
            # Its replay may have been read before what is now missing; only one that reaches beyond is safe.
            if joining.position is None or joining.position < top.offset:
                member.lose()
        self.position, self.wanted = top, max(self.wanted, top.offset)
        self.recent.clear()
        self._hand_on_early()

    def recall(self, since: Position) -> list[bytes] | None:
        """The publications after `since` from memory; None where memory does not reach."""
        if self.position is None or since.epoch != self.position.epoch or since.offset > self.position.offset:
            return None
        missed = self.position.offset - since.offset
        if missed > len(self.recent):
            return None
        return [publication for _, publication in self.recent][len(self.recent) - missed :]

    def admit(self, member: Member, position: int) -> None:
        """The member has its replay up to `position`: give it what was held back beyond, then let it go live."""
        joining = self.joining.get(member)
        if joining is None:
            return
        beyond = [(offset, frame) for offset, frame in joining.held if offset > position]
        joining.held.clear()
        if (
            self.position is not None
            and self.position.offset > position
            and (not beyond or beyond[0][0] != position + 1)
        ):
            # Another member's later read began the line further on: what lies between was never handed on.
            member.lose()
            return
        for _, frame in beyond:
            member.offer(frame)
        joining.position = position
        self._level(member, joining)

    def _level(self, member: Member, joining: _Joining) -> None:
        """A member ahead of the line (it came from another process) waits until the line has caught up."""
        if self.position is not None and joining.position is not None and joining.position <= self.position.offset:
            del self.joining[member]
            self.live.add(member)

    def _hand_on(self, offset: int, publication: bytes, type_: str) -> None:
        assert self.position is not None  # noqa: S101 - callers looked
        self.position = Position(self.position.epoch, offset)
        if type_ in self.fleeting:
            self.recent.clear()
        else:
            self.recent.append((offset, publication))
        frame = wire.push(self.channel, publication)
        for member in self.live:
            member.offer(frame)
        for member, joining in tuple(self.joining.items()):
            if joining.position is None:
                joining.held.append((offset, frame))
                if len(joining.held) > MOST_HELD:
                    member.lose()
            else:
                if offset > joining.position:
                    member.offer(frame)
                self._level(member, joining)

    def _hand_on_early(self) -> None:
        if not self.early:
            return
        assert self.position is not None  # noqa: S101 - callers looked
        epoch = self.position.epoch
        # What came before the first read may be of a numbering that has ended since.
        self.early = {offset: kept for offset, kept in self.early.items() if kept[0] == epoch}
        while (offset := self.position.offset + 1) in self.early:
            self._hand_on(offset, *self.early.pop(offset)[1:])
        for offset in [offset for offset in self.early if offset <= self.position.offset]:
            del self.early[offset]

    def _renumbered(self) -> None:
        """The stream began anew (a restored database): offsets of before mean nothing now."""
        for member in self.members():
            member.lose()
        self.position, self.wanted = None, 0
        self.early.clear()
        self.recent.clear()
