"""What devices acknowledge: each at its own pace, never backwards, never beyond what there is."""

from __future__ import annotations

import asyncio
from random import Random
from typing import ClassVar
from uuid import uuid4

import asyncpg
import pytest

from k2k.core.errors import PositionUnknown
from k2k.core.ids import Channel, SignInId, UserId, user_channel
from k2k.features.sync import service
from k2k.features.sync.models import Acknowledged, Acknowledgement
from k2k.infra.db import Db
from k2k.infra.streams import Event, Position, Streams
from tests.support import PASSWORD, Node, People, Person


class Told(Event):
    type: ClassVar[str] = "test.told"


@pytest.fixture
def db(node: Node) -> Db:
    return node.process.db


@pytest.fixture
async def person(people: People) -> Person:
    return await people.buyer()


def channel_of(person: Person) -> Channel:
    return user_channel(UserId(person.id))


async def tell(db: Db, number: int, *channels: Channel) -> Position:
    """So many events; the place of the last."""
    async with db.transaction() as tx:
        emitted = [tx.emit(Told(), channels) for _ in range(number)]
    position = emitted[-1].position(channels[-1])
    assert position is not None
    return position


def word(
    person: Person, position: Position, offset: int | None = None, *, sign_in: SignInId | None = None
) -> Acknowledgement:
    """That this person's device has everything up to the offset."""
    place = Position(position.epoch, position.offset if offset is None else offset)
    return Acknowledgement(channel_of(person), sign_in or SignInId(person.sign_in_id), place)


async def delivered(db: Db, person: Person) -> dict[SignInId, int]:
    found = await service.delivered(db, channel_of(person), UserId(person.id))
    return {one.sign_in_id: one.offset for one in found}


async def second_device(node: Node, person: Person) -> SignInId:
    answer = await node.api.post("/auth/login", json={"email": person.email, "password": PASSWORD})
    assert answer.status == 200
    every = await delivered(node.process.db, person)
    (other,) = set(every) - {SignInId(person.sign_in_id)}
    return other


async def test_each_device_acknowledges_at_its_own_pace(node: Node, db: Db, person: Person) -> None:
    top = await tell(db, 5, channel_of(person))
    first, second = SignInId(person.sign_in_id), await second_device(node, person)
    assert await delivered(db, person) == {first: 0, second: 0}
    assert await db.together(service.acknowledge_many, word(person, top, 2)) == Acknowledged(Position(top.epoch, 2))
    await db.together(service.acknowledge_many, word(person, top, sign_in=second))
    assert await delivered(db, person) == {first: 2, second: 5}


async def test_a_late_word_does_not_turn_back_what_was_acknowledged(db: Db, person: Person) -> None:
    top = await tell(db, 9, channel_of(person))
    for said, kept in ((4, 4), (3, 4), (4, 4), (0, 4), (9, 9), (1, 9)):
        outcome = await db.together(service.acknowledge_many, word(person, top, said))
        assert outcome == Acknowledged(Position(top.epoch, kept))
        assert set((await delivered(db, person)).values()) == {kept}


async def test_of_several_words_in_one_set_the_furthest_counts(db: Db, person: Person, people: People) -> None:
    other = await people.buyer()
    top, others = await tell(db, 9, channel_of(person)), await tell(db, 2, channel_of(other))
    words = [
        word(person, top, 3),
        word(other, others),
        word(person, top, 8),
        word(person, top, 10),
        word(person, top, 5),
    ]
    async with db.transaction() as tx:
        outcomes = await service.acknowledge_many(tx, words)
    assert [one.position.offset if isinstance(one, Acknowledged) else type(one) for one in outcomes] == [
        *(8, 2, 8),
        PositionUnknown,
        8,
    ]
    assert set((await delivered(db, person)).values()) == {8}
    assert set((await delivered(db, other)).values()) == {2}


@pytest.mark.parametrize("fault", ["beyond", "another epoch", "another stream's epoch", "no stream", "negative"])
async def test_a_position_that_there_is_not_is_refused_and_changes_nothing(
    db: Db, person: Person, people: People, fault: str
) -> None:
    top = await tell(db, 3, channel_of(person))
    await db.together(service.acknowledge_many, word(person, top, 1))
    other = await people.buyer()
    bad = {
        "beyond": word(person, top, 4),
        "another epoch": word(person, Position("0000.7", 2)),
        "another stream's epoch": word(person, await tell(db, 3, channel_of(other)), 2),
        "no stream": Acknowledgement(Channel(f"user:{uuid4()}"), SignInId(person.sign_in_id), Position(top.epoch, 1)),
        "negative": word(person, top, -1),
    }[fault]
    with pytest.raises(PositionUnknown):
        await db.together(service.acknowledge_many, bad)
    assert await delivered(db, person) == {SignInId(person.sign_in_id): 1}


async def test_who_was_told_nothing_yet_acknowledges_nothing(db: Db, person: Person) -> None:
    """A position at the very beginning is a good one, and is not kept."""
    nothing = Position((await Streams(db, 10, 10).read(channel_of(person), 0)).top.epoch, 0)
    assert await db.together(service.acknowledge_many, word(person, nothing, 0)) == Acknowledged(nothing)
    assert set((await delivered(db, person)).values()) == {0}
    with pytest.raises(PositionUnknown):
        await db.together(service.acknowledge_many, word(person, nothing, 1))


async def test_what_was_acknowledged_in_a_numbering_that_has_ended_counts_for_nothing(
    db: Db, person: Person, database_url: str
) -> None:
    """As after a restore. Only this row is changed: the generation belongs to the other tests too."""
    top = await tell(db, 5, channel_of(person))
    await db.together(service.acknowledge_many, word(person, top, 5))
    outside = await asyncpg.connect(database_url)
    await outside.execute("update acknowledgements set epoch = 'gone.1' where sign_in_id = $1", person.sign_in_id)
    await outside.close()
    assert set((await delivered(db, person)).values()) == {0}
    assert await db.together(service.acknowledge_many, word(person, top, 2)) == Acknowledged(Position(top.epoch, 2))
    assert set((await delivered(db, person)).values()) == {2}


async def test_a_device_that_was_signed_out_is_not_waited_for(node: Node, db: Db, person: Person) -> None:
    top = await tell(db, 1, channel_of(person))
    await db.together(service.acknowledge_many, word(person, top))
    second = await second_device(node, person)
    assert (await node.api.post("/auth/logout", token=person.token)).status == 200
    assert await delivered(db, person) == {second: 0}


async def test_sets_that_name_the_same_devices_in_any_order_do_not_lock_each_other(
    node: Node, second_node: Node, people: People
) -> None:
    persons = [await people.buyer() for _ in range(8)]
    tops = [await tell(node.process.db, 40, channel_of(person)) for person in persons]

    async def acknowledge(db: Db, seed: int) -> None:
        chance = Random(seed)  # noqa: S311 - the same each time
        for offset in range(1, 41):
            words = [word(person, top, offset) for person, top in zip(persons, tops, strict=True)]
            chance.shuffle(words)
            async with db.transaction() as tx:
                outcomes = await service.acknowledge_many(tx, words)
            assert all(isinstance(one, Acknowledged) and one.position.offset >= offset for one in outcomes)

    homes = (node.process.db, second_node.process.db)
    await asyncio.gather(*(acknowledge(db, seed) for seed in range(3) for db in homes))
    for person in persons:
        assert set((await delivered(node.process.db, person)).values()) == {40}
