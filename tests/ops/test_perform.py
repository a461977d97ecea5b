"""What a keyed call is to its handler: one transaction, that of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from k2k.core.errors import IdempotencyInProgress, IdempotencyMismatch, NotFound, Unavailable
from k2k.core.ids import SignInId, UserId, user_channel
from k2k.features.accounts.events import SessionRevoked
from k2k.infra.streams import Numbered
from k2k.ops.authenticator import Principal
from k2k.ops.call import Call, Services
from k2k.ops.perform import Answered, perform
from k2k.ops.permissions import Permission, Role
from k2k.ops.registry import Handler, Operation, Repeats, Reply, Routes
from k2k.ops.validation import Answer, Input
from tests.support import Node, People, Person, eventually


class Count(Answer):
    number: int


class Wish(Input):
    price: float
    note: str = ""


class Place(Input):
    place: str


def operation(handler: Handler, path: str = "/test") -> Operation:
    routes = Routes("test")
    routes.post(path, may=Permission.own_account)(handler)
    (made,) = routes.operations
    assert made.repeats is Repeats.by_key
    return made


@pytest.fixture
async def person(people: People) -> Person:
    return await people.buyer()


@pytest.fixture
def call(node: Node, person: Person) -> Call:
    now = node.process.db.clock.now()
    principal = Principal(UserId(person.id), SignInId(person.sign_in_id), Role.buyer, now)
    return Call(Services(node.process.db), principal, "test", now)


async def rename(call: Call, name: str) -> None:
    async with call.transaction() as tx:
        await tx.records("update users set full_name = $2 where id = $1", [call.user.id, name])


async def name_of(call: Call) -> str:
    ((name,),) = await call.db.records("select full_name from users where id = $1", [call.user.id])
    return str(name)


async def test_a_handler_reads_what_it_has_written_and_others_do_not(call: Call) -> None:
    before, elsewhere = await name_of(call), call
    seen: list[str] = []

    async def handler(call: Call) -> Count:
        await rename(call, "Sara")
        seen.append(await name_of(call))
        seen.append(await name_of(elsewhere))
        return Count(number=1)

    await perform(operation(handler), call, {}, uuid4().hex)
    assert seen == ["Sara", before]
    assert await name_of(call) == "Sara"


async def test_two_transactions_of_a_handler_are_one(call: Call) -> None:
    before = await name_of(call)

    async def handler(call: Call) -> Count:
        await rename(call, "Sara")
        async with call.transaction():
            raise NotFound

    with pytest.raises(NotFound):
        await perform(operation(handler), call, {}, uuid4().hex)
    assert await name_of(call) == before


async def test_events_are_told_after_commit_in_their_order_and_then_only(
    call: Call, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    channel = user_channel(call.user.id)

    def told(events: Sequence[Numbered]) -> None:
        happened.extend(f"{event.type} {event.offset}" for event in events)

    async def handler(call: Call) -> Count:
        for number in range(3):
            async with call.transaction() as tx:
                tx.emit(SessionRevoked(sign_in_id=call.user.sign_in_id, because="signed-out"), [channel])
                tx.afterwards.append(lambda number=number: happened.append(f"afterwards {number}"))  # type: ignore[misc]
        happened.append("handled")
        return Count(number=1)

    monkeypatch.setattr(node.process.db, "told", told)
    key = uuid4().hex
    first = await perform(operation(handler), call, {}, key)
    type_ = SessionRevoked.type
    expected = ["handled", *(f"afterwards {n}" for n in range(3)), *(f"{type_} {n}" for n in (1, 2, 3))]
    assert happened == expected
    assert await perform(operation(handler), call, {}, key) == first
    assert happened == expected


async def test_a_call_that_fails_tells_nothing_and_does_nothing_afterwards(
    call: Call, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[Any] = []

    async def handler(call: Call) -> Count:
        async with call.transaction() as tx:
            tx.emit(SessionRevoked(sign_in_id=call.user.sign_in_id, because="signed-out"), [user_channel(call.user.id)])
            tx.afterwards.append(lambda: happened.append("afterwards"))
        raise NotFound

    monkeypatch.setattr(node.process.db, "told", happened.append)
    with pytest.raises(NotFound):
        await perform(operation(handler), call, {}, uuid4().hex)
    assert happened == []


class Held:
    """A handler that waits to be let go, and how often it ran."""

    def __init__(self) -> None:
        self.ran = 0
        self.inside = asyncio.Event()
        self.go = asyncio.Event()

    def operation(self) -> Operation:
        async def held(call: Call) -> Count:
            self.ran += 1
            self.inside.set()
            await self.go.wait()
            return Count(number=self.ran)

        return operation(held)


async def test_while_the_first_call_runs_the_second_hears_so_at_once(call: Call) -> None:
    held, key = Held(), uuid4().hex
    first = asyncio.ensure_future(perform(held.operation(), call, {}, key))
    await held.inside.wait()
    async with asyncio.timeout(0.5):
        with pytest.raises(IdempotencyInProgress) as refused:
            await perform(held.operation(), call, {}, key)
    assert refused.value.retry_after == 1
    held.go.set()
    answered = await first
    assert await perform(held.operation(), call, {}, key) == answered
    assert held.ran == 1


async def test_other_keys_other_people_and_other_operations_do_not_wait(call: Call, people: People) -> None:
    held, key = Held(), uuid4().hex
    first = asyncio.ensure_future(perform(held.operation(), call, {}, key))
    await held.inside.wait()

    async def quick(call: Call) -> Count:
        return Count(number=7)

    assert call.principal is not None
    other = replace(call, principal=replace(call.principal, id=UserId((await people.buyer()).id)))
    for asked in (
        perform(operation(quick), call, {}, key),
        perform(operation(quick), other, {}, key),
        perform(operation(quick), call, {}, uuid4().hex),
    ):
        async with asyncio.timeout(1):
            assert (await asked).body == b'{"number":7}'
    held.go.set()
    await first


async def test_a_first_call_that_takes_too_long_keeps_nothing_and_frees_its_key(call: Call) -> None:
    slow = True

    async def handler(call: Call) -> Count:
        await rename(call, "Never")
        await call.db.records("select pg_sleep($1)", [30 if slow else 0])
        return Count(number=1)

    key = uuid4().hex
    with pytest.raises(Unavailable):
        await perform(operation(handler), call, {}, key)
    assert await name_of(call) != "Never"
    slow = False

    async def answered() -> bool:
        """PostgreSQL frees the key when it notices that the connection was cut."""
        try:
            return (await perform(operation(handler), call, {}, key)).body == b'{"number":1}'
        except IdempotencyInProgress:
            return False

    await eventually(answered)


async def test_a_caller_that_is_cancelled_frees_its_key(call: Call) -> None:
    held, key = Held(), uuid4().hex
    first = asyncio.ensure_future(perform(held.operation(), call, {}, key))
    await held.inside.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    held.go.set()
    assert (await perform(held.operation(), call, {}, key)).body == b'{"number":2}'


async def test_the_first_answer_comes_back_with_its_status_and_headers(call: Call) -> None:
    async def handler(call: Call) -> Reply[Count]:
        return Reply(Count(number=1), {"Location": "/here/ü", "X-Total-Count": "1", "Aa": ""})

    key = uuid4().hex
    answers = [await perform(operation(handler), call, {}, key) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[1] == Answered(200, b'{"number":1}', {"Location": "/here/ü", "X-Total-Count": "1", "Aa": ""})


@pytest.mark.parametrize(
    ("first", "again", "same"),
    [
        ('{"price":1}', '{"price":1.0}', True),
        ('{"price":1,"note":"x"}', '{"note":"x","price":1e0}', True),
        ('{"price":1,"note":"\\u0041"}', ' {"price":1,\n"note":"A"} ', True),
        ('{"price":1}', '{"price":1.01}', False),
        ('{"price":1,"note":"x"}', '{"price":1,"note":"X"}', False),
        ('{"price":1,"note":"x"}', '{"price":1,"note":"x "}', False),
    ],
)
async def test_content_is_what_was_meant(call: Call, first: str, again: str, *, same: bool) -> None:
    async def handler(call: Call, body: Wish) -> Count:
        return Count(number=1)

    wish, key = operation(handler), uuid4().hex
    answered = await perform(wish, call, {"body": Wish.model_validate_json(first)}, key)
    repeat = perform(wish, call, {"body": Wish.model_validate_json(again)}, key)
    if same:
        assert await repeat == answered
    else:
        with pytest.raises(IdempotencyMismatch):
            await repeat


async def test_the_order_of_a_handler_s_parts_does_not_matter(call: Call) -> None:
    async def handler(call: Call, body: Wish, path: Place) -> Count:
        return Count(number=1)

    wish, key = operation(handler, "/test/{place}"), uuid4().hex
    parts = {"body": Wish(price=1), "path": Place(place="here")}
    answered = await perform(wish, call, parts, key)
    assert await perform(wish, call, dict(reversed(parts.items())), key) == answered


async def test_a_lock_that_another_key_happens_to_hold_costs_a_wait_and_nothing_else(
    call: Call, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are held by a hash, and found by themselves."""
    held, one, other = Held(), uuid4().hex, uuid4().hex
    db = node.process.db
    async with db.transaction() as tx:
        lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
        made = held.operation()
        await tx.records(lock, [f"{call.user.id} {made.name} {one}"])
        with pytest.raises(IdempotencyInProgress):
            await perform(made, call, {}, one)
    held.go.set()
    assert (await perform(made, call, {}, one)).body == b'{"number":1}'
    assert (await perform(made, call, {}, other)).body == b'{"number":2}'


async def test_many_keyed_calls_at_once_do_not_lock_each_other_up(call: Call, people: People, node: Node) -> None:
    """Each changes its person and tells all of them: more at once than there are connections."""
    persons = [await people.buyer() for _ in range(4)]
    channels = [user_channel(UserId(person.id)) for person in persons]
    assert call.principal is not None

    async def handler(call: Call) -> Count:
        await rename(call, uuid4().hex)
        async with call.transaction() as tx:
            tx.emit(SessionRevoked(sign_in_id=call.user.sign_in_id, because="signed-out"), channels)
        return Count(number=1)

    made = operation(handler)
    answers = await asyncio.gather(
        *(
            perform(
                made,
                replace(call, principal=replace(call.principal, id=UserId(persons[number % 4].id))),
                {},
                f"{uuid4().hex}",
            )
            for number in range(60)
        )
    )
    assert {answer.body for answer in answers} == {b'{"number":1}'}
