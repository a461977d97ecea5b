"""Asking again with the same Idempotency-Key: the first answer, exactly, and nothing written twice.

What is told of every operation that keeps its answers is told of those that are yet to come, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretBytes, SecretStr, TypeAdapter

from k2k.app import OPERATIONS
from k2k.core.ids import STAFF
from k2k.ops import perform
from k2k.ops.permissions import Permission
from k2k.ops.registry import Operation, Repeats
from tests.samples import sample
from tests.support import PREFIX, Api, LiveError, Node, People, Person, Response, a_property, eventually

KEPT = [operation for operation in OPERATIONS if operation.repeats is Repeats.by_key]
KEPT_RPCS = [operation for operation in KEPT if operation.rpc]

Place = Callable[[People, Person], Awaitable[UUID]]

BUYERS = {"open_profile"}
"""What an agent cannot do a first time; everything else is done by agents, some of them admins."""
PLACES: Mapping[str, Place] = {
    "properties": lambda people, person: people.listing(person),
    "vehicles": lambda people, person: people.vehicle(person),
    "listings": lambda people, person: people.listing(person),
    "agencies": lambda people, person: people.found(person),
    "members": lambda people, person: people.colleague(person),
    "uploads": lambda people, person: people.upload(person),
}
"""What a placeholder after this word may stand for, made for whoever asks."""


@dataclass(frozen=True)
class Wish:
    """A request that succeeds once."""

    operation: Operation
    person: Person
    path: str
    body: dict[str, Any] | None

    async def ask(self, api: Api, key: str | None, **more: Any) -> Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        if self.body is not None and "data" not in more:
            more["json"] = self.body
        return await api.request(
            self.operation.method, self.path, token=self.person.token, headers=headers | more.pop("headers", {}), **more
        )

    def flat(self) -> dict[str, Any]:
        """The same as an rpc's data."""
        places = dict(zip(self.operation.path.split("/"), self.path.split("/"), strict=True))
        return {name.strip("{}"): value for name, value in places.items() if "{" in name} | (self.body or {})


async def wish(people: People, operation: Operation, person: Person | None = None) -> Wish:
    """Another one each time: its texts are."""
    if person is None:
        person = await _somebody(people, operation)
    steps = operation.path.split("/")
    places: dict[str, UUID] = {}
    for word, name in pairwise(steps):
        if name == "{image_id}":
            places["image_id"] = await people.image(person, places["listing_id"])
        elif "{" in name:
            places[name.strip("{}")] = await PLACES[word](people, person)
    body = operation.models.get("body")
    sent = sample(body, f"Selam {uuid4().hex[:8]}", everything=operation.method == "PUT") if body else None
    return Wish(operation, person, operation.path.format(**places), sent)


async def _somebody(people: People, operation: Operation) -> Person:
    """Who may do it."""
    if operation.name in BUYERS:
        return await people.buyer()
    return await (people.admin() if operation.may is Permission.moderate else people.agent())


@pytest.fixture(params=KEPT, ids=lambda operation: operation.name)
async def asked(request: pytest.FixtureRequest, people: People) -> Wish:
    return await wish(people, request.param)


async def stored(node: Node) -> dict[str, Any]:
    """What stands in every table, in short, once all jobs are done; the queue moves by itself."""
    db = node.process.db

    async def idle() -> bool:
        return not await db.records("select 1 from pgqueuer where entrypoint = 'listing.inspect'", ())

    await eventually(idle)
    tables = await db.records(
        "select tablename from pg_tables where schemaname = 'public' and tablename !~ '^(_|yoyo|pgqueuer)'", ()
    )
    assert len(tables) > 5
    found = {}
    for (table,) in tables:
        text = f'select count(*), sum(hashtext(t::text)::bigint) from "{table}" t'  # noqa: S608 - our own tables
        found[table] = (await db.records(text, ()))[0]
    return found


async def kept(node: Node, person: Person) -> int:
    """How many answers are kept for the person."""
    found = await node.process.db.records("select 1 from idempotency where user_id = $1", [person.id])
    return len(found)


def same(first: Response, again: Response) -> bool:
    """The answer, not a like one."""
    return (first.status, first.raw, first.headers.get("Location"), first.headers["Content-Type"]) == (
        again.status,
        again.raw,
        again.headers.get("Location"),
        again.headers["Content-Type"],
    )


def refused(response: Response) -> tuple[int, str]:
    return response.status, response.json.get("code", "")


# The same again


async def test_asked_again_it_is_answered_the_same_and_nothing_is_written(
    asked: Wish, node: Node, second_node: Node
) -> None:
    key = uuid4().hex
    first = await asked.ask(node.api, key)
    assert first.status == asked.operation.status, first.json
    before = await stored(node)
    for api in (node.api, second_node.api, node.api):
        assert same(first, await asked.ask(api, key))
    assert await stored(node) == before
    assert await kept(node, asked.person) == 1


async def test_it_is_the_content_that_counts_not_its_spelling(asked: Wish, api: Api) -> None:
    key = uuid4().hex
    first = await asked.ask(api, key)
    assert first.status == asked.operation.status, first.json
    again = await replace(asked, path=f"{respelled(asked.operation.path, asked.path)}/").ask(api, key)
    assert same(first, again), again.json
    if asked.body is not None:
        body = asked.operation.models["body"]
        numbers = {name for name, schema in body.model_json_schema()["properties"].items() if "'number'" in str(schema)}
        turned = {name: float(value) if name in numbers else value for name, value in reversed(asked.body.items())}
        spelled = json.dumps(turned, indent=3).replace('"S', '"\\u0053')
        again = await asked.ask(api, key, data=spelled, headers={"Content-Type": "application/json"})
        assert same(first, again), again.json


def respelled(template: str, path: str) -> str:
    """The same address with its ids in capitals."""
    parts = zip(template.split("/"), path.split("/"), strict=True)
    return "/".join(part.upper() if "{" in name else part for name, part in parts)


async def test_other_content_under_the_key_is_refused(asked: Wish, people: People, node: Node) -> None:
    key = uuid4().hex
    first = await asked.ask(node.api, key)
    other = await wish(people, asked.operation, asked.person)
    if asked.body is not None:
        other = replace(other, path=asked.path)
    before = await stored(node)
    assert refused(await other.ask(node.api, key)) == (422, "idempotency-mismatch")
    assert await stored(node) == before
    assert same(first, await asked.ask(node.api, key))


async def test_somebody_else_s_key_is_another_key(asked: Wish, people: People, node: Node) -> None:
    key = uuid4().hex
    other = await wish(people, asked.operation)
    first, theirs = await asked.ask(node.api, key), await other.ask(node.api, key)
    assert first.status == theirs.status == asked.operation.status
    assert await kept(node, asked.person) == await kept(node, other.person) == 1


async def test_the_key_of_another_operation_is_another_key(people: People, api: Api, node: Node) -> None:
    key, person = uuid4().hex, await people.buyer()
    # Becoming an agent comes first: the others are what agents and admins do.
    for operation in sorted(KEPT, key=lambda operation: operation.name not in BUYERS):
        answer = await (await wish(people, operation, person=person)).ask(api, key)
        assert answer.status == operation.status, answer.json
        if operation.name in BUYERS:
            await people.promote(person)
    assert await kept(node, person) == len(KEPT)


async def test_twenty_at_once_on_two_processes_have_one_effect_and_one_answer(
    asked: Wish, node: Node, second_node: Node
) -> None:
    key = uuid4().hex
    apis = [node.api, second_node.api]
    answers = await asyncio.gather(*(asked.ask(apis[number % 2], key) for number in range(20)))
    for number, answer in enumerate(answers):
        if answer.status == 409:
            assert answer.json["code"] == "idempotency-in-progress"
            assert answer.headers["Retry-After"] == "1"
            assert answer.json["retry_after"] == 1
            answers[number] = await asked.ask(apis[number % 2], key)
    assert answers[0].status == asked.operation.status, answers[0].json
    assert all(same(answers[0], answer) for answer in answers)
    assert await kept(node, asked.person) == 1


async def test_fifty_at_once_publish_one_property(people: People, node: Node, second_node: Node) -> None:
    seller = await people.agent()
    key, apis = uuid4().hex, [node.api, second_node.api]
    headers = {"Idempotency-Key": key}
    await asyncio.gather(
        *(
            apis[number % 2].post("/properties", json=a_property(), token=seller.token, headers=headers)
            for number in range(50)
        )
    )
    ((count,),) = await node.process.db.records("select count(*) from listings where owner_id = $1", [seller.id])
    assert count == 1


# What is kept, and what is not


async def test_what_was_refused_may_succeed_later_under_the_same_key(people: People, node: Node) -> None:
    one, other = await people.agent(), await people.agent()
    headers, license_ = {"Idempotency-Key": uuid4().hex}, uuid4().hex

    async def founds(person: Person, **more: Any) -> Response:
        sent = {"name": "Bole Homes", "city": "Addis Ababa", "license": license_}
        return await node.api.post("/agencies", json=sent, token=person.token, **more)

    founded = await founds(other)
    assert founded.status == 201
    assert refused(await founds(one, headers=headers)) == (409, "license-taken")
    assert await kept(node, one) == 0
    await node.process.db.records("update agencies set license = null where id = $1", [UUID(founded.json["id"])])
    assert (await founds(one, headers=headers)).status == 201
    assert await kept(node, one) == 1


async def test_what_is_invalid_keeps_nothing(people: People, node: Node) -> None:
    seller, headers = await people.agent(), {"Idempotency-Key": uuid4().hex}
    bad = await node.api.post("/properties", json=a_property(price=-1), token=seller.token, headers=headers)
    assert (bad.status, await kept(node, seller)) == (422, 0)
    good = await node.api.post("/properties", json=a_property(), token=seller.token, headers=headers)
    assert good.status == 201


@pytest.fixture
async def late_fault(node: Node) -> AsyncIterator[None]:
    """Whoever keeps an answer learns at COMMIT, and not before, that it cannot be."""
    await node.process.db.records(
        """
        do $do$ begin
            create function refuse_late() returns trigger language plpgsql as
                $$ begin raise exception 'not today' using errcode = '23514'; end $$;
            create constraint trigger late after insert on idempotency
                deferrable initially deferred for each row execute function refuse_late();
        end $do$
        """,
        (),
    )
    yield
    await node.process.db.records("drop function if exists refuse_late cascade", ())


async def test_a_commit_that_fails_keeps_nothing_and_tells_nothing(
    asked: Wish, node: Node, late_fault: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(node.process.db, "told", told.extend)
    before, key = await stored(node), uuid4().hex
    assert (await asked.ask(node.api, key)).status == 500
    assert await stored(node) == before
    # The worker of this process tells moderators what other stories left it to look at.
    assert [event for event in told if event.channel != STAFF] == []
    await node.process.db.records("drop function refuse_late cascade", ())
    assert (await asked.ask(node.api, key)).status == asked.operation.status


async def test_the_answers_of_a_deleted_person_go_with_them(people: People, node: Node) -> None:
    person = await people.buyer()
    answer = await (await wish(people, next(o for o in KEPT if o.name in BUYERS), person=person)).ask(node.api, "k")
    assert answer.status == 201
    assert await kept(node, person) == 1
    async with node.process.db.transaction() as tx:
        await tx.records("delete from refresh_tokens where sign_in_id = $1", [person.sign_in_id])
        await tx.records("delete from sign_ins where user_id = $1", [person.id])
        await tx.records("delete from agent_profiles where user_id = $1", [person.id])
        await tx.records("delete from users where id = $1", [person.id])
    assert await kept(node, person) == 0


@pytest.mark.parametrize("operation", KEPT, ids=lambda operation: operation.name)
def test_what_is_kept_holds_no_secret(operation: Operation) -> None:
    """Neither the answer, nor a hash of the request from which a short secret could be guessed."""
    names: set[str] = set()

    def look(schema: Any) -> None:
        match schema:
            case dict():
                names.update(schema.get("properties", ()))
                for inner in schema.values():
                    look(inner)
            case list():
                for inner in schema:
                    look(inner)

    look(TypeAdapter(operation.answer).json_schema())
    for model in operation.models.values():
        look(model.model_json_schema())
        assert not {SecretStr, SecretBytes} & {info.annotation for info in model.model_fields.values()}
    assert names
    assert not [name for name in names if any(word in name for word in ("token", "password", "secret", "otp"))]


async def test_answers_are_forgotten_after_a_day_a_handful_at_a_time(
    people: People, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perform, "HANDFUL", 10)
    person, db = await people.buyer(), node.process.db
    await db.records("delete from idempotency", ())
    add = """
        insert into idempotency (user_id, operation, key, request_hash, status, headers, body, created_at)
        select $1, 'x', $2 || n, '', 200, '{}', '', now() - $3::interval from generate_series(1, $4) n
    """
    await db.records(add, [person.id, "old", timedelta(hours=24, seconds=1), 35])
    await db.records(add, [person.id, "young", timedelta(hours=23, minutes=59), 5])
    asked, records = [], db.records

    async def noted(text: str, arguments: Any) -> Any:
        asked.append(text)
        return await records(text, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(db, "records", noted)
        await perform.forget_answers(db)
    assert len(asked) == 4
    assert {row["key"][:5] for row in await db.records("select key from idempotency", ())} == {"young"}
    assert await kept(node, person) == 5


# Keys


GOOD = ["k", "~", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a,b", "%00", "!"]
BAD = {
    "empty": b"",
    "256": b"x" * 256,
    "inner space": b"a b",
    "umlaut": "ü".encode(),
    "latin": b"\xfc",
    "tab": b"a\tb",
    "delete": b"a\x7fb",
}


@pytest.mark.parametrize("key", GOOD, ids=lambda key: key[:12])
async def test_visible_ascii_up_to_255_characters_is_a_key(people: People, node: Node, key: str) -> None:
    seller = await people.agent()
    answers = [
        await node.api.post("/properties", json=a_property(), token=seller.token, headers={"Idempotency-Key": key})
        for _ in range(2)
    ]
    assert answers[0].status == 201
    assert same(*answers)


async def raw_post(api: Api, person: Person, lines: list[bytes]) -> tuple[int, dict[str, Any]]:
    """POST /properties with these Idempotency-Key lines, byte for byte."""
    body = json.dumps(a_property()).encode()
    host, port = api.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    keys = b"".join(b"Idempotency-Key: %s\r\n" % line for line in lines)
    writer.write(
        b"POST %s/properties HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n%s\r\n%s"
        % (PREFIX.encode(), person.token.encode(), len(body), keys, body)
    )
    head, _, answer = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(answer)


@pytest.mark.parametrize("key", BAD.values(), ids=BAD.keys())
async def test_anything_else_is_no_key(people: People, node: Node, key: bytes) -> None:
    seller = await people.agent()
    status, problem = await raw_post(node.api, seller, [key])
    if b"\x7f" in key and status == 400:  # then HTTP itself refuses it
        return
    assert (status, problem["code"]) == (422, "invalid"), problem
    (fault,) = problem["errors"]
    assert (fault["pointer"], fault["in"]) == ("/Idempotency-Key", "header")


@pytest.mark.parametrize("lines", [[b"one", b"two"], [b"one", b"one"], [b"one", b""]])
async def test_two_keys_are_none(people: People, node: Node, lines: list[bytes]) -> None:
    """Which of them counts, a proxy and we might see differently."""
    seller = await people.agent()
    status, problem = await raw_post(node.api, seller, lines)
    assert (status, problem["code"]) == (422, "invalid")
    ((count,),) = await node.process.db.records("select count(*) from listings where owner_id = $1", [seller.id])
    assert count == 0


async def test_a_refused_key_is_told_as_the_document_says(people: People, api: Api) -> None:
    seller = await people.agent()
    answer = await api.post("/properties", json=a_property(), token=seller.token, headers={"Idempotency-Key": "a b"})
    assert refused(answer) == (422, "invalid")


async def test_where_no_answer_is_kept_a_key_is_passed_over(people: People, node: Node) -> None:
    person = await people.buyer()
    sent = {"name": "x", "email": f"{uuid4().hex}@people.example", "password": "correct horse battery"}
    for key in ("k", "a b", "x" * 300):
        headers = {"Idempotency-Key": key}
        assert (await node.api.get("/auth/me", token=person.token, headers=headers)).status == 200
        assert (await node.api.post("/auth/login", json=sent, headers=headers)).status in {401, 422}
    assert (await node.api.post("/auth/logout", token=person.token, headers={"Idempotency-Key": "k"})).status == 200
    assert await kept(node, person) == 0


async def test_without_a_key_it_is_done_again(people: People, api: Api) -> None:
    seller = await people.agent()
    ids = {(await api.post("/properties", json=a_property(), token=seller.token)).json["id"] for _ in range(2)}
    assert len(ids) == 2


# The other door


@pytest.mark.parametrize("operation", KEPT_RPCS, ids=lambda operation: operation.rpc)
async def test_asked_by_rest_and_again_by_rpc_it_is_one_wish(people: People, node: Node, operation: Operation) -> None:
    assert operation.rpc is not None
    for rest_first in (True, False):
        asked, key = await wish(people, operation), uuid4().hex
        async with node.live(asked.person.token) as live:
            if rest_first:
                rest = await asked.ask(node.api, key)
                rpc = await live.rpc(operation.rpc, idempotency_key=key, **asked.flat())
            else:
                rpc = await live.rpc(operation.rpc, idempotency_key=key, **asked.flat())
                rest = await asked.ask(node.api, key)
        assert (rest.status, rest.json) == (operation.status, rpc)
        assert "Location" in rest.headers or "Location" not in operation.headers
        assert await kept(node, asked.person) == 1


@pytest.mark.parametrize(
    "key", [1, 1.5, True, False, [], ["k"], {}, {"k": 1}, "", "x" * 256, "ü", "a b", "\u0000", "\n"]
)
async def test_over_a_socket_too_a_key_is_visible_ascii(people: People, node: Node, key: Any) -> None:
    seller = await people.agent()
    async with node.live(seller.token) as live:
        with pytest.raises(LiveError) as failed:
            await live.rpc("property.publish", idempotency_key=key, **a_property())
        assert failed.value.problem["errors"][0]["pointer"] == "/idempotency_key"
        assert failed.value.problem["errors"][0]["in"] == "body"
    assert failed.value.code == 1000


async def test_over_a_socket_too_a_key_is_passed_over_where_no_answer_is_kept(people: People, node: Node) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    async with node.live(agent.token) as live:
        for key in ("k", 7):
            await live.rpc("me.get", idempotency_key=key)
            await live.rpc("lead.claim", lead_id=enquiry["lead_id"], idempotency_key=key)
            talk = enquiry["conversation_id"]
            said = {"conversation_id": talk, "client_id": uuid4().hex, "message": "Selam"}
            await live.rpc("chat.send", idempotency_key=key, **said)
    assert await kept(node, agent) == 0


async def test_null_is_no_key(people: People, node: Node) -> None:
    seller = await people.agent()
    async with node.live(seller.token) as live:
        ids = {(await live.rpc("property.publish", idempotency_key=None, **a_property()))["id"] for _ in range(2)}
    assert len(ids) == 2
