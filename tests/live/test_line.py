"""A Line under every order of events: what arrives late, twice, never, or from before a restore; who joins when.

The machine plays the world around a line: the stream in the database (whose beginning is dropped and whose numbering
may begin anew), Redis (loses, doubles, reorders), clients that join from any position, and the hub's reads, whose
answers come when they come. Each client holds what it is handed against the stream itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from k2k.core.ids import Channel
from k2k.infra.streams import NEWEST, Numbered, Position, Replay
from k2k.live.line import MOST_HELD, RECENT, Line
from k2k.live.wire import Publication, Push

CHANNEL = Channel("user:somebody")
MOST = 3
"""What a page holds: small, so that clients and lines are often further behind than that."""
REACH = 6
"""How far behind somebody may be and be told everything."""


def numbered(epoch: str, offset: int) -> Numbered:
    """The event of a place: its body says which place that is."""
    return Numbered(CHANNEL, epoch, offset, "told", b'"%s/%d"' % (epoch.encode(), offset))


def arrive(line: Line, epoch: str, offset: int) -> None:
    event = numbered(epoch, offset)
    line.arrive(Position(epoch, offset), Publication(event.body, offset))


@dataclass(eq=False)
class Client:
    """A member of the line that knows what it must be handed."""

    epoch: str = ""
    position: int | None = None
    """None until it was answered: nothing may be handed to it before."""
    lost: bool = False

    @property
    def owner(self) -> Client:
        return self

    def offer(self, push: Push) -> None:
        assert not self.lost, "handed something after its place was lost"
        assert push.channel == CHANNEL
        assert self.position is not None, "handed something before its answer"
        assert isinstance(push.news, Publication)
        self.take(push.news)

    def lose(self, channel: Channel) -> None:
        assert channel == CHANNEL
        self.lost = True

    def take(self, publication: Publication) -> None:
        assert self.position is not None
        assert publication.offset == self.position + 1, "a hole or a duplicate"
        assert publication.data == f'"{self.epoch}/{publication.offset}"'.encode(), "another stream's event"
        self.position += 1


@dataclass
class Stream:
    """The truth: offsets (kept, top] can be read."""

    epoch: str = "e1"
    top: int = 0
    kept: int = 0

    def read(self, since: int) -> Replay:
        """As Streams.read answers it."""
        top = Position(self.epoch, self.top)
        if not (since <= self.top <= since + REACH) or since < min(self.kept, self.top):
            return Replay(top, (), complete=False)
        found = [numbered(self.epoch, offset) for offset in range(since + 1, self.top + 1)]
        return Replay(top, tuple(found[:MOST]), complete=True, more=len(found) > MOST)


@dataclass
class Join:
    """A client that has registered and whose stream is being read; `again` if it has some pages already."""

    client: Client
    since: Position | None
    read: Replay | None = None
    again: bool = False


@dataclass
class Fill:
    """The hub filling a gap: what was wanted when it asked, and the answer that has not come yet."""

    wanted: int
    read: Replay


@dataclass
class World:
    stream: Stream = field(default_factory=Stream)
    line: Line = field(default_factory=lambda: Line(CHANNEL))
    flying: list[tuple[str, int]] = field(default_factory=list)
    joining: list[Join] = field(default_factory=list)
    joined: list[Client] = field(default_factory=list)
    fill: Fill | None = None
    recovered: int = 0

    def join(self, since: Position | None, *, prompt: bool) -> None:
        """As Hub.join: register, then from memory or by a read, which `prompt` answers before anything happens."""
        client = Client()
        self.line.register(client)
        if since is not None and (recalled := self.line.recall(since)) is not None:
            assert self.line.position is not None
            self.answer(Join(client, since), Replay(self.line.position, (), complete=True), recalled)
        else:
            self.joining.append(Join(client, since))
            while prompt and self.joining and self.joining[-1].client is client:
                self.read_for(self.joining[-1])
                self.finish_join(self.joining[-1])

    def read_for(self, join: Join) -> None:
        join.read = self.stream.read(NEWEST if join.since is None else join.since.offset)

    def finish_join(self, join: Join) -> None:
        self.joining.remove(join)
        assert join.read is not None
        replay, since = join.read, join.since
        self.line.settle(replay)
        if join.client.lost:  # its session is gone, or has told the app to begin afresh
            return
        recovered = since is not None and replay.complete and since.epoch in ("", replay.top.epoch)
        told = [Publication(event.body, event.offset) for event in replay.events]
        self.answer(join, replay, told if recovered else None)

    def answer(self, join: Join, replay: Replay, told: list[Publication] | None) -> None:
        """As Following does: the replay's first page, then its other pages, then live. None told: not recovered."""
        client, since = join.client, join.since
        if told is None:
            if join.again:
                self.line.remove(client)
                client.lose(CHANNEL)
                return
            client.epoch, client.position = replay.top.epoch, replay.top.offset
        else:
            assert since is not None
            assert since.epoch in ("", replay.top.epoch)
            client.epoch, client.position = replay.top.epoch, since.offset
            for publication in told:
                client.take(publication)
            self.recovered += 1
        if replay.more and told is not None:
            self.line.register(client)
            self.joining.append(Join(client, Position(client.epoch, client.position), again=True))
            return
        assert client.position == replay.top.offset, "the replay ends before its position"
        self.joined.append(client)
        self.line.admit(client, client.position)

    def begin_fill(self) -> None:
        assert self.line.position is not None
        self.fill = Fill(self.line.wanted, self.stream.read(self.line.position.offset))

    def finish_fill(self) -> None:
        """As Hub._fill."""
        assert self.fill is not None
        fill, self.fill = self.fill, None
        self.line.settle(fill.read)
        if not fill.read.complete and self.line.gap:
            self.line.skip_to(fill.read.top)
        if self.line.wanted == fill.wanted > fill.read.top.offset:
            self.line.wanted = fill.read.top.offset


class LineUnderWeather(RuleBasedStateMachine):
    """Rules are what may happen next; the end of each run lets the world come to rest and looks at everybody."""

    @initialize(told_before=st.integers(0, 5), kept=st.integers(0, 5), listeners=st.integers(0, 2))
    def begin(self, told_before: int, kept: int, listeners: int) -> None:
        self.world = World(Stream(top=told_before, kept=min(kept, told_before)))
        for _ in range(listeners):
            self.world.join(None, prompt=True)

    @rule(count=st.integers(1, 4))
    def tell(self, count: int) -> None:
        """Events are committed; their messages are on the way."""
        stream = self.world.stream
        for _ in range(count):
            stream.top += 1
            self.world.flying.append((stream.epoch, stream.top))

    @rule(count=st.integers(1, 4), heard=st.integers(1, 2))
    def tell_here(self, count: int, heard: int) -> None:
        """Events committed by this process: the line hears at once, and perhaps again from Redis."""
        stream = self.world.stream
        for _ in range(count):
            stream.top += 1
            for _ in range(heard):
                arrive(self.world.line, stream.epoch, stream.top)

    @rule(many=st.sampled_from([1, 2, MOST + 1, REACH + 1, REACH + 2]), noticed=st.booleans())
    def tell_unheard(self, many: int, noticed: bool) -> None:
        """Redis loses all of it, and it may be more than a read answers; the tail may notice."""
        self.world.stream.top += many
        if noticed:
            self.tail()
            if self.world.line.gap and self.world.fill is None:
                self.world.begin_fill()
                self.world.finish_fill()

    @precondition(lambda self: self.world.flying)
    @rule(
        order=st.sampled_from(["first", "first", "last", "any"]),
        fate=st.sampled_from(["once", "once", "twice", "lost", "again later"]),
        which=st.integers(0, 1000),
    )
    def carry(self, order: str, fate: str, which: int) -> None:
        """Redis does with one message what it does."""
        flying = self.world.flying
        place = {"first": 0, "last": len(flying) - 1, "any": which % len(flying)}[order]
        epoch, offset = flying[place] if fate == "again later" else flying.pop(place)
        for _ in range({"lost": 0, "twice": 2}.get(fate, 1)):
            arrive(self.world.line, epoch, offset)

    @rule(count=st.integers(1, 8))
    def forget(self, count: int) -> None:
        """Retention drops the stream's beginning."""
        stream = self.world.stream
        stream.kept = min(stream.top, stream.kept + count)

    @precondition(lambda self: self.world.stream.top > 8)
    @rule(top=st.integers(0, 3))
    def begin_anew(self, top: int) -> None:
        """The database is restored: another epoch. Messages of the old one may still be on the way."""
        stream = self.world.stream
        self.world.stream = Stream(epoch=f"e{int(stream.epoch[1:]) + 1}", top=top)

    @rule(
        back=st.integers(-2, 8),
        epoch=st.sampled_from(["known", "known", "known", "unnamed", "other"]),
        prompt=st.booleans(),
    )
    def join_from_a_position(self, back: int, epoch: str, prompt: bool) -> None:
        """Also from beyond the line's own head (learned on another process) and from beyond the stream's."""
        stream = self.world.stream
        name = {"known": stream.epoch, "unnamed": "", "other": "e0"}[epoch]
        self.world.join(Position(name, max(0, stream.top - back)), prompt=prompt)

    @rule(prompt=st.booleans())
    def join_afresh(self, prompt: bool) -> None:
        self.world.join(None, prompt=prompt)

    @precondition(lambda self: self.world.joining)
    @rule(which=st.integers(0, 1000))
    def read_for_a_join(self, which: int) -> None:
        self.world.read_for(self.world.joining[which % len(self.world.joining)])

    @precondition(lambda self: any(join.read for join in self.world.joining))
    @rule(which=st.integers(0, 1000))
    def answer_a_join(self, which: int) -> None:
        ready = [join for join in self.world.joining if join.read]
        self.world.finish_join(ready[which % len(ready)])

    @precondition(lambda self: self.world.line.gap and self.world.fill is None)
    @rule()
    def read_for_the_gap(self) -> None:
        self.world.begin_fill()

    @precondition(lambda self: self.world.fill is not None)
    @rule()
    def fill_the_gap(self) -> None:
        self.world.finish_fill()

    @rule()
    def tail(self) -> None:
        """The tail saw where the stream stands."""
        self.world.line.hear(Position(self.world.stream.epoch, self.world.stream.top))

    @rule(beyond=st.integers(1, 3))
    def hear_nonsense(self, beyond: int) -> None:
        """Somebody speaks of an offset that there is not."""
        self.world.line.hear(Position(self.world.stream.epoch, self.world.stream.top + beyond))

    @precondition(lambda self: self.world.joined)
    @rule(which=st.integers(0, 1000))
    def leave(self, which: int) -> None:
        self.world.line.remove(self.world.joined.pop(which % len(self.world.joined)))

    @precondition(lambda self: self.world.joining)
    @rule(which=st.integers(0, 1000))
    def give_up_joining(self, which: int) -> None:
        self.world.line.remove(self.world.joining.pop(which % len(self.world.joining)).client)

    @invariant()
    def memory_is_small(self) -> None:
        assert len(self.world.line.recent or ()) <= RECENT

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self._come_to_rest()

    def _come_to_rest(self) -> None:
        """Reads are answered, the tail looks once more: now everybody has everything, or was told."""
        world, line = self.world, self.world.line
        while world.joining:
            if world.joining[0].read is None:
                world.read_for(world.joining[0])
            world.finish_join(world.joining[0])
        if world.fill is not None:
            world.finish_fill()
        self.tail()
        while line.gap:
            world.begin_fill()
            world.finish_fill()
        world.stream.top += 1
        arrive(line, world.stream.epoch, world.stream.top)
        for client in world.joined:
            if not client.lost:
                assert (client.epoch, client.position) == (world.stream.epoch, world.stream.top)
        if any(not client.lost for client in world.joined):
            assert not line.early, "kept what nobody waits for"


# The same runs each time: what this finds is found on every machine, and a new search is a change of this file.
SEARCH = settings(
    max_examples=100,
    stateful_step_count=45,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def test_every_member_gets_everything_once_and_in_order_or_is_told_that_its_place_is_lost() -> None:
    run_state_machine_as_test(LineUnderWeather, settings=SEARCH)


def joined(line: Line, at: int) -> Client:
    """A live member that came afresh while the stream stood at `at`."""
    client = Client("e1", at)
    line.register(client)
    line.settle(Replay(Position("e1", at), (), complete=False))
    line.admit(client, at)
    return client


def test_a_member_ahead_of_its_line_is_told_when_the_line_jumps_over_what_it_misses() -> None:
    """It came while the line lagged behind: what the line can no longer get, it has not got either."""
    line = Line(CHANNEL)
    joined(line, 10)
    ahead = joined(line, 200)
    line.skip_to(Position("e1", 203))
    arrive(line, "e1", 204)
    assert ahead.lost or ahead.position == 204


def test_a_member_that_is_still_being_answered_does_not_miss_what_the_line_jumps_over() -> None:
    line = Line(CHANNEL)
    joined(line, 10)
    waiting = Client("e1")
    line.register(waiting)
    line.hear(Position("e1", 300))
    line.skip_to(Position("e1", 300))
    waiting.position = 120
    line.admit(waiting, 120)
    arrive(line, "e1", 301)
    assert waiting.lost


def test_an_old_answer_does_not_turn_the_line_back() -> None:
    line = Line(CHANNEL)
    member = joined(line, 10)
    for offset in range(11, 31):
        arrive(line, "e1", offset)
    line.hear(Position("e1", 33))
    line.skip_to(Position("e1", 20))
    assert line.position == Position("e1", 30)
    assert not member.lost


def test_memory_does_not_reach_over_a_jump() -> None:
    line = Line(CHANNEL)
    joined(line, 10)
    for offset in range(11, 16):
        arrive(line, "e1", offset)
    assert line.recall(Position("e1", 13)) == [Publication(b'"e1/%d"' % offset, offset) for offset in (14, 15)]
    line.hear(Position("e1", 100))
    line.skip_to(Position("e1", 100))
    assert line.recall(Position("e1", 98)) is None
    assert line.recall(Position("e1", 100)) == []


def test_an_event_of_another_numbering_that_came_early_is_never_handed_on() -> None:
    """The first read of a line was made before a restore; what it heard meanwhile is from after."""
    line = Line(CHANNEL)
    client = Client("e1")
    line.register(client)
    arrive(line, "e2", 6)
    line.settle(Replay(Position("e1", 5), (), complete=False))
    client.position = 5
    line.admit(client, 5)
    assert client.lost or client.position == 5
    assert Publication(b'"e2/6"', 6) not in (line.recent or ())


def test_a_member_whose_answer_never_comes_is_not_held_for_without_end() -> None:
    line = Line(CHANNEL)
    joined(line, 0)
    waiting = Client("e1")
    line.register(waiting)
    for offset in range(1, MOST_HELD + 1):
        arrive(line, "e1", offset)
    assert not waiting.lost
    arrive(line, "e1", MOST_HELD + 1)
    assert waiting.lost
