"""Numbering under many writers, and reading: nothing is skipped, doubled or taken for complete when it is not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest
from pydantic import SecretStr
from pydantic_core import from_json, to_json

from k2k.core.clock import Clock
from k2k.core.ids import Channel
from k2k.core.settings import Settings
from k2k.infra import migrations
from k2k.infra.db import Db
from k2k.infra.sql import Statement
from k2k.infra.streams import NEWEST, PAGE_BYTES, Event, Mark, Numbered, Past, Position, Replay, Streams
from k2k.infra.transaction import Emitted
from tests.conftest import TEMPLATE

MOST = 5
REACH = 12


class Counted(Event):
    type: ClassVar[str] = "test.counted"
    number: int


class Renamed(Event):
    type: ClassVar[str] = "test.renamed"
    number: int


@dataclass(frozen=True, slots=True)
class AnnouncedRow:
    position: int
    events: bytes
    extra: str


# Each of $2 rows makes two events for all of $1, with text that is sent along and not kept; $3 rows make none.
ANNOUNCE = Statement(
    "announce",
    """
with outcome as (
    select place::int as position,
           case when place > $2 then '[]' else jsonb_build_array(
               jsonb_build_object('type', 'test.counted', 'to', $1::text[], 'data', small,
                                  'joined', jsonb_build_object('text', 'words ' || place)),
               jsonb_build_object('type', 'test.renamed', 'to', $1::text[], 'data', small))
           end as events, 'row ' || place as extra
    from generate_series(1, $2::int + $3::int) as place, jsonb_build_object('number', place) as small
)
select * from outcome""",
    AnnouncedRow,
)


def channels(count: int) -> list[Channel]:
    """Channels of nobody else's, in no order."""
    return [Channel(f"test:{uuid4()}") for _ in range(count)]


async def opened(settings: Settings, url: str) -> Db:
    database = settings.database.model_copy(update={"url": SecretStr(url), "pool_min": 1, "pool_max": 8})
    return await Db.open(database, Clock())


@pytest.fixture
async def db(settings: Settings, database_url: str) -> AsyncIterator[Db]:
    db = await opened(settings, database_url)
    yield db
    await db.close()


@pytest.fixture
async def other_db(settings: Settings, database_url: str) -> AsyncIterator[Db]:
    db = await opened(settings, database_url)
    yield db
    await db.close()


@pytest.fixture
async def outside(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def stored(outside: asyncpg.Connection[asyncpg.Record], of: Sequence[Channel]) -> dict[Channel, list[Any]]:
    """What the tables hold of each channel, by offset: (offset, id, type, data)."""
    rows = await outside.fetch(
        'select channel, "offset", events.id, type, data::text as data from events'
        ' join streams on streams.id = stream_id where channel = any ($1) order by channel, "offset"',
        of,
    )
    found: dict[Channel, list[Any]] = {channel: [] for channel in of}
    for channel, *row in rows:
        found[channel].append(tuple(row))
    return found


class Told:
    """What a Db told after each COMMIT."""

    def __init__(self, db: Db) -> None:
        self.events: list[Numbered] = []
        db.told = self.events.extend


async def count(db: Db, number: int, to: Sequence[Channel]) -> Emitted:
    async with db.transaction() as tx:
        return tx.emit(Counted(number=number), to)


# Writing


async def test_many_writers_on_two_processes_number_without_holes_and_never_lock_each_other(
    db: Db, other_db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Sixteen writers each; targets overlap, are named in any order and are partly new; some give up at the end."""
    shared, told = channels(9), (Told(db), Told(other_db))
    kept: list[Emitted] = []

    async def write(home: Db, seed: int) -> None:
        chance = Random(seed)  # noqa: S311 - the same targets each time
        for number in range(8):
            try:
                async with home.transaction() as tx:
                    emitted = [
                        tx.emit(Counted(number=number), chance.sample(shared, chance.randint(1, 7)))
                        for _ in range(chance.randint(1, 3))
                    ]
                    if number % 4 == 3:
                        await tx.finish()
                        raise LookupError
            except LookupError:
                continue
            kept.extend(emitted)

    await asyncio.gather(*(write(home, seed) for seed in range(16) for home in (db, other_db)))
    found = await stored(outside, shared)
    for rows in found.values():
        assert [offset for offset, *_ in rows] == list(range(1, len(rows) + 1))
    heard = told[0].events + told[1].events
    assert sorted((event.channel, event.offset) for event in heard) == sorted(
        (channel, offset) for channel, rows in found.items() for offset, *_ in rows
    )
    assert sorted((event.channel, event.offset) for emitted in kept for event in emitted.numbered) == sorted(
        (event.channel, event.offset) for event in heard
    )
    ids = {(event.channel, event.offset): UUID(from_json(event.body)["id"]) for event in heard}
    assert ids == {(channel, offset): id_ for channel, rows in found.items() for offset, id_, *_ in rows}
    for emitted in kept:
        assert len({from_json(event.body)["id"] for event in emitted.numbered}) == 1


async def test_an_event_is_the_same_in_every_stream_it_stands_in(db: Db) -> None:
    targets = channels(4)
    await count(db, 0, targets[2:])
    emitted = await count(db, 1, [*targets, targets[0]])
    assert {event.channel: event.offset for event in emitted.numbered} == dict(zip(targets, (1, 1, 2, 2), strict=True))
    assert len({event.body for event in emitted.numbered}) == 1
    body = from_json(emitted.numbered[0].body)
    assert body.keys() == {"id", "type", "at", "data"}
    assert (body["type"], body["data"]) == ("test.counted", {"number": 1})
    for event in emitted.numbered:
        assert emitted.position(event.channel) == Position(event.epoch, event.offset)
    assert emitted.position(channels(1)[0]) is None


async def test_events_of_one_transaction_stand_in_the_order_they_were_made(db: Db) -> None:
    (channel,) = channels(1)
    told = Told(db)
    async with db.transaction() as tx:
        first = [tx.emit(Counted(number=number), [channel]) for number in range(30)]
        tx.emit(Renamed(number=30), [])
    assert [event.offset for event in told.events] == list(range(1, 31))
    assert [emitted.position(channel) for emitted in first] == [
        Position(event.epoch, event.offset) for event in told.events
    ]


async def test_what_was_rolled_back_took_no_place_and_is_not_told(db: Db) -> None:
    (channel,) = channels(1)
    told = Told(db)

    async def give_up() -> None:
        async with db.transaction() as tx:
            emitted = tx.emit(Counted(number=1), [channel])
            await tx.finish()
            assert [event.offset for event in emitted.numbered] == [1]
            raise LookupError

    with pytest.raises(LookupError):
        await give_up()
    assert told.events == []
    assert [event.offset for event in (await count(db, 2, [channel])).numbered] == [1]


@pytest.mark.parametrize(("making", "idle"), [(1, 0), (3, 2), (0, 2)])
async def test_a_statement_that_announces_does_what_a_transaction_does(
    db: Db, outside: asyncpg.Connection[asyncpg.Record], making: int, idle: int
) -> None:
    """To forty streams at once: the arrays of channels, offsets and bodies belong together."""
    in_one, in_many = channels(40), channels(40)
    told = Told(db)
    async with db.single() as single:
        once = await single.announce(ANNOUNCE, in_one, making, idle)
    told_once, told.events[:] = list(told.events), []
    async with db.transaction() as tx:
        twice = await tx.announce(ANNOUNCE, in_many, making, idle)
        assert all(announced.emitted.numbered == [] for announced in twice)
    pair = dict(zip(in_one, in_many, strict=True)) | dict(zip(in_many, in_many, strict=True))

    def facts(event: Numbered) -> tuple[Any, ...]:
        body = from_json(event.body)
        return pair[event.channel], event.offset, event.type, body["type"], body["data"]

    assert [(announced.row.position, announced.row.extra) for announced in once] == [
        (announced.row.position, announced.row.extra) for announced in twice
    ]
    assert [announced.row.position for announced in once] == list(range(1, making + idle + 1))
    for one, many in zip(once, twice, strict=True):
        assert sorted(map(facts, one.emitted.numbered), key=str) == sorted(map(facts, many.emitted.numbered), key=str)
        for mine, theirs in zip(in_one, in_many, strict=True):
            assert (one.emitted.position(mine) is None) == (many.emitted.position(theirs) is None)
    assert sorted(map(facts, told_once), key=str) == sorted(map(facts, told.events), key=str)
    assert len(told_once) == making * 2 * 40
    texts = [from_json(event.body)["data"].get("text") for event in told_once if event.type == "test.counted"]
    assert set(texts) == {f"words {place}" for place in range(1, making + 1)}

    def kept(rows: list[Any]) -> list[Any]:
        return [(offset, type_, data) for offset, _, type_, data in rows]

    found = await stored(outside, in_one + in_many)
    assert [kept(found[channel]) for channel in in_one] == [kept(found[channel]) for channel in in_many]
    assert all("text" not in from_json(data) for rows in found.values() for *_, data in rows)
    epochs = {(event.channel, event.epoch) for event in told_once}
    streams = Streams(db, MOST, REACH)
    for channel, epoch in epochs:
        assert (await streams.read(channel, NEWEST)).top == Position(epoch, making * 2)


# Reading


async def test_many_readers_share_a_statement_and_each_gets_their_own(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    known, new = channels(60), channels(60)
    for number in range(4):
        await count(db, number, known)
    statements: list[str] = []
    records = db.records

    async def counted(text: str, arguments: Sequence[Any]) -> Any:
        statements.append(text)
        return await records(text, arguments)

    monkeypatch.setattr(db, "records", counted)
    streams = Streams(db, MOST, REACH)
    asked = [(channel, since) for since in (0, 2, 4, 9, NEWEST) for channel in known]
    asked += [(channel, 0) for channel in new]
    replays = await asyncio.gather(*(streams.read(channel, since) for channel, since in asked))
    assert len(statements) <= 6
    for (channel, since), replay in zip(asked, replays, strict=True):
        numbers = [from_json(event.body)["data"]["number"] for event in replay.events]
        if channel in new:
            assert (replay.top.offset, numbers, replay.complete) == (0, [], True)
            continue
        assert (replay.top.offset, replay.complete) == (4, since <= 4)
        assert numbers == list(range(4))[since:]
        assert [event.offset for event in replay.events] == list(range(since + 1, 5))
        assert {event.channel for event in replay.events} <= {channel}
    assert len({replay.top.epoch for replay in replays}) == len(known) + len(new)


async def test_to_follow_what_may_never_happen_writes_nothing(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Whichever way it is asked, it stands where its first event will be the first."""
    quiet, other = channels(2)
    streams = Streams(db, MOST, REACH)
    top = (await streams.read(quiet, NEWEST)).top
    assert top.offset == 0
    assert await streams.read(quiet, 0) == Replay(top, (), complete=True)
    for reverse in (False, True):
        assert await streams.history(quiet, None, limit=-1, reverse=reverse) == Past(top, ())
    async with db.snapshot() as reader:
        assert await streams.position(reader, quiet) == top
    assert await streams.heads([quiet]) == [(quiet, top)]
    assert (await streams.read(other, NEWEST)).top.epoch != top.epoch
    assert await outside.fetch("select from streams where channel = any ($1)", [quiet, other]) == []
    (first,) = (await count(db, 1, [quiet])).numbered
    assert (first.epoch, first.offset) == (top.epoch, 1)
    replay = await streams.read(quiet, 0)
    assert (replay.top, [event.offset for event in replay.events]) == (Position(top.epoch, 1), [1])


async def test_a_new_stream_has_one_place_however_many_ask_for_it_first(db: Db, other_db: Db) -> None:
    (channel,) = channels(1)
    homes = [Streams(home, MOST, REACH) for home in (db, other_db) for _ in range(4)]
    tops = {replay.top for replay in await asyncio.gather(*(streams.read(channel, 0) for streams in homes))}
    assert len(tops) == 1
    emitted = await count(db, 1, [channel])
    assert emitted.position(channel) == Position(tops.pop().epoch, 1)


async def count_to(db: Db, number: int, channel: Channel) -> None:
    async with db.transaction() as tx:
        for each in range(1, number + 1):
            tx.emit(Counted(number=each), [channel])


async def pages(streams: Streams, channel: Channel, since: int) -> list[Replay]:
    """What a reader is given until it is level."""
    found = [await streams.read(channel, since)]
    while found[-1].more:
        found.append(await streams.read(channel, found[-1].events[-1].offset))
    return found


@pytest.mark.parametrize(
    ("told", "since", "sizes"),
    [(MOST, 0, [5]), (MOST + 1, 0, [5, 1]), (MOST + 1, 1, [5]), (REACH, 0, [5, 5, 2]), (REACH + 3, 3, [5, 5, 2])],
)
async def test_a_reader_gets_page_after_page_until_it_is_level(db: Db, told: int, since: int, sizes: list[int]) -> None:
    (channel,) = channels(1)
    await count_to(db, told, channel)
    found = await pages(Streams(db, MOST, REACH), channel, since)
    assert [len(page.events) for page in found] == sizes
    assert [event.offset for page in found for event in page.events] == list(range(since + 1, told + 1))
    assert {(page.top.offset, page.complete) for page in found} == {(told, True)}


@pytest.mark.parametrize("since", [0, 2])
async def test_a_reader_that_is_too_far_behind_gets_no_part(
    db: Db, since: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (channel,) = channels(1)
    await count_to(db, REACH + since + 1, channel)
    read: list[Any] = []
    records = db.records

    async def noted(text: str, arguments: Sequence[Any]) -> Any:
        read.extend(await records(text, arguments))
        return read

    monkeypatch.setattr(db, "records", noted)
    replay = await Streams(db, MOST, REACH).read(channel, since)
    assert replay == Replay(Position(replay.top.epoch, REACH + since + 1), (), complete=False, more=False)
    assert len(read) == 1, "its events were fetched though it gets none"


async def test_a_page_of_long_texts_ends_before_it_is_too_heavy(db: Db) -> None:
    """The texts are joined: what is stored is small."""
    (channel,) = channels(1)
    await count_to(db, 30, channel)

    async def joiner(_: Db, told: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        return [{"text": "ሰ" * 4000} for _ in told]

    found = await pages(Streams(db, 100, 1000, {Counted.type: joiner}), channel, 0)
    assert [event.offset for page in found for event in page.events] == list(range(1, 31))
    sizes = [sum(len(event.body) for event in page.events) for page in found]
    assert max(sizes) < PAGE_BYTES + 13_000
    assert min(sizes[:-1]) >= PAGE_BYTES
    (one_by_one,) = channels(1)
    await count_to(db, 2, one_by_one)

    async def heavy(_: Db, told: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        return [{"text": "x" * PAGE_BYTES} for _ in told]

    found = await pages(Streams(db, 100, 1000, {Counted.type: heavy}), one_by_one, 0)
    assert [len(page.events) for page in found] == [1, 1]


async def test_a_hole_is_found_on_the_page_where_it_is(db: Db, outside: asyncpg.Connection[asyncpg.Record]) -> None:
    (channel,) = channels(1)
    await count_to(db, 10, channel)
    await outside.execute(
        'delete from events using streams where streams.id = stream_id and channel = $1 and "offset" = 7', channel
    )
    found = await pages(Streams(db, MOST, REACH), channel, 0)
    assert [(len(page.events), page.complete, page.more) for page in found] == [(5, True, True), (0, False, False)]


@pytest.mark.parametrize(
    ("gone", "since", "complete"),
    [
        ([1], 0, False),
        ([1], 1, True),
        ([2], 0, False),
        ([2], 1, False),
        ([2], 2, True),
        ([4], 2, False),
        ([4], 4, True),
    ],
)
async def test_what_is_no_longer_stored_makes_a_replay_incomplete(
    db: Db, outside: asyncpg.Connection[asyncpg.Record], gone: list[int], since: int, complete: bool
) -> None:
    (channel,) = channels(1)
    for number in range(1, 5):
        await count(db, number, [channel])
    await outside.execute(
        'delete from events using streams where streams.id = stream_id and channel = $1 and "offset" = any ($2)',
        channel,
        gone,
    )
    replay = await Streams(db, MOST, REACH).read(channel, since)
    assert (replay.top.offset, replay.complete) == (4, complete)
    assert [event.offset for event in replay.events] == (list(range(since + 1, 5)) if complete else [])


async def test_joiners_add_todays_text_to_their_own_events_of_all_readers(db: Db) -> None:
    first, second = channels(2)
    async with db.transaction() as tx:
        for number in range(1, 5):
            tx.emit((Renamed if number % 2 else Counted)(number=number), [first, second] if number > 1 else [first])
    asked: list[list[int]] = []

    async def joiner(_: Db, told: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        asked.append([data["number"] for data in told])
        return [{"text": f"text {data['number']}"} for data in told]

    streams = Streams(db, MOST, REACH, {Renamed.type: joiner})
    plain = await streams.read(first, NEWEST)
    replays = await asyncio.gather(streams.read(first, 0), streams.read(second, 0))
    assert plain.events == ()
    assert sorted(number for call in asked for number in call) == [1, 3, 3]
    for replay in replays:
        for event in replay.events:
            data = from_json(event.body)["data"]
            assert data.get("text") == (f"text {data['number']}" if event.type == Renamed.type else None)


async def test_a_restored_database_numbers_anew(settings: Settings, servers: tuple[str, str], worker: str) -> None:
    """The generation is changed by a restore: no position of before holds."""
    url = await migrations.ensure_database(servers[0], f"k2k_{worker}_restored", template=TEMPLATE)
    db = await opened(settings, url)
    try:
        (channel,) = channels(1)
        before = (await count(db, 1, [channel])).position(channel)
        async with db.transaction() as tx:
            await tx.records("update deployment set generation = 'restored'", ())
        after = (await count(db, 2, [channel])).position(channel)
        assert before is not None
        assert after is not None
        assert (after.offset, after.epoch != before.epoch) == (2, True)
        assert (await Streams(db, MOST, REACH).read(channel, 0)).top == after
    finally:
        await db.close()


# The tail


async def test_the_tail_sees_every_stream_that_moved_though_commits_come_late_and_some_never(
    db: Db, other_db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    shared = channels(6)
    streams, seen, writing = Streams(db, MOST, REACH), dict[Channel, int](), True
    mark = await streams.first_mark()

    async def write(home: Db, seed: int) -> None:
        chance = Random(seed)  # noqa: S311
        for number in range(10):
            try:
                async with home.transaction() as tx:
                    tx.emit(Counted(number=number), chance.sample(shared, 2))
                    await tx.finish()
                    # Committed later than others that began later.
                    await tx.records("select pg_sleep($1)", (chance.random() / 50,))
                    if number % 5 == 4:
                        raise LookupError
            except LookupError:
                continue

    async def follow() -> None:
        nonlocal mark
        while writing:
            mark, newest = await streams.tail(mark)
            for channel, position in newest:
                seen[channel] = max(seen.get(channel, 0), position.offset)

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(home, seed) for seed in range(3) for home in (db, other_db)))
    writing = False
    await following
    mark, newest = await streams.tail(mark)
    for channel, position in newest:
        seen[channel] = max(seen.get(channel, 0), position.offset)
    tops = {channel: rows[-1][0] for channel, rows in (await stored(outside, shared)).items()}
    assert {channel: seen.get(channel) for channel in shared} == tops
    _, again = await streams.tail(mark)
    assert not {channel for channel, _ in again} & set(shared)


async def test_the_tail_passes_over_what_a_restore_brought_from_a_later_server(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A dump restored into a new server holds transaction ids that are yet to come there."""
    restored, fresh = channels(2)
    streams = Streams(db, MOST, REACH)
    mark = await streams.first_mark()
    await count(db, 1, [restored])
    await outside.execute(
        "update events set xid = '9000000000000' from streams where streams.id = stream_id and channel = $1", restored
    )
    await count(db, 1, [fresh])
    _, newest = await streams.tail(mark)
    assert {channel for channel, _ in newest} & {restored, fresh} == {fresh}


def test_a_mark_of_another_numbering_or_of_an_earlier_moment_does_not_follow() -> None:
    mark = Mark.of("100:105:100,103", 104, "one")
    assert mark.follows(mark)
    assert Mark.of("99:106:99", 105, "one").follows(mark)
    assert not Mark.of("100:104:", 103, "one").follows(mark)
    assert not Mark.of("110:110:", 109, "two").follows(mark)


def test_a_crash_that_takes_back_numbers_of_what_never_committed_ends_nothing() -> None:
    mark = Mark.of("1250:1250:", 1239, "one")
    assert Mark.of("1244:1246:1244", 1239, "one").follows(mark)
    assert not Mark.of("1239:1239:", 1230, "one").follows(mark), "an event that was seen is not there any more"


def test_a_mark_has_seen_nothing_beyond_the_newest_event() -> None:
    assert Mark.of("1250:1250:", 1239, "one").snapshot == "1240:1240:"
    assert Mark.of("1230:1250:1230,1238,1245", 1239, "one").snapshot == "1230:1240:1230,1238"
    assert Mark.of("5:5:", 0, "one").snapshot == "1:1:"


async def test_events_under_numbers_that_were_given_before_are_found(
    db: Db, outside: asyncpg.Connection[asyncpg.Record]
) -> None:
    """After a crash the numbers of transactions that were in no log are given again, and below a snapshot seen then."""
    (again,) = channels(1)
    streams = Streams(db, MOST, REACH)
    mark = await streams.first_mark()
    for _ in range(5):  # takes numbers and commits nothing
        await outside.execute("begin; select pg_current_xact_id(); rollback")
    mark, _ = await streams.tail(mark)
    taken = await outside.fetchval("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    await count(db, 1, [again])
    await outside.execute(
        "update events set xid = $1::text::xid8 from streams where streams.id = stream_id and channel = $2",
        str(taken - 2),
        again,
    )
    later, newest = await streams.tail(mark)
    assert again in {channel for channel, _ in newest}
    _, newest = await streams.tail(later)
    assert again not in {channel for channel, _ in newest}


async def test_heads_tell_of_streams_that_there_are_and_of_those_that_there_are_not(db: Db) -> None:
    known = channels(510)
    (gone,) = channels(1)
    (first,) = (await count(db, 1, known[:1])).numbered
    async with db.transaction() as tx:
        tx.emit(Counted(number=2), known)
    streams = Streams(db, MOST, REACH)
    heads = dict(await streams.heads([*known, gone]))
    assert len(heads) == 511
    assert heads[known[0]] == Position(first.epoch, 2)
    assert {heads[channel].offset for channel in known[1:]} == {1}
    assert heads[gone] == (await streams.read(gone, 0)).top
    assert heads[gone].offset == 0


# Migrating


async def test_streams_of_before_keep_their_epoch_and_the_release_before_knows_the_new_ones(
    servers: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While both releases run, processes of either speak of the same positions."""
    name = f"k2k_named_{uuid4().hex[:8]}"
    url = await migrations.ensure_database(servers[0], name)
    shutil.copytree(migrations.MIGRATIONS, tmp_path / "earlier")
    for path in (tmp_path / "earlier").glob("00*.sql"):
        if path.name >= "0012":
            path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", tmp_path / "earlier")
        migrations.migrate(url)
    outside = await asyncpg.connect(url)

    async def emit(*to: str) -> dict[str, tuple[str, int]]:
        announced = to_json([{"type": "test.told", "to": to, "data": {}}]).decode()
        told = await outside.fetch('select channel, epoch, "offset" from emit($1)', announced)
        return {channel: (epoch, offset) for channel, epoch, offset in told}

    try:
        epoch, _ = (await emit("user:1"))["user:1"]
        await outside.execute("insert into streams (channel) values ('map:12/1/1')")
        quiet = await outside.fetchval("select stream_epoch(id) from streams where channel = 'map:12/1/1'")
        migrations.migrate(url)
        told = await emit("user:1", "user:2", "map:12/1/1")
        assert told["user:1"] == (epoch, 2)
        assert told["map:12/1/1"] == (quiet, 1)
        of_before = await outside.fetch("select channel, stream_epoch(id), top from streams")
        assert {channel: (epoch, top) for channel, epoch, top in of_before} == told
        assert (await outside.fetchval("select stream_epoch(0)")).endswith(".0")
    finally:
        await outside.close()
        with psycopg.connect(servers[0], autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)")
