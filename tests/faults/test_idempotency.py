"""A process, or its connection, dies while it writes under an Idempotency-Key: the repeat finds out, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import aiohttp
import pytest

from k2k.core.settings import Settings
from tests.support import Api, Node, People, Person, Response, Subprocess, a_property, eventually, free_port

SLOW_COMMIT = """
    do $do$ begin
        create function dawdle() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.7); return null; end $$;
        create constraint trigger slow after insert on idempotency
            deferrable initially deferred for each row execute function dawdle();
    end $do$
"""


@pytest.fixture
async def slow_commit(node: Node) -> AsyncIterator[None]:
    """A COMMIT that keeps an answer takes long enough for something to happen meanwhile."""
    await node.process.db.records(SLOW_COMMIT, ())
    yield
    await node.process.db.records("drop function dawdle cascade", ())


async def publish(api: Api, seller: Person, key: str) -> Response:
    return await api.post("/properties", json=a_property(), token=seller.token, headers={"Idempotency-Key": key})


async def published(node: Node, seller: Person) -> list[str]:
    found = await node.process.db.records("select id from listings where owner_id = $1", [seller.id])
    return [str(row["id"]) for row in found]


def committing(node: Node) -> Callable[[], Awaitable[bool]]:
    """Whether somebody's COMMIT is under way."""

    async def found() -> bool:
        text = "select 1 from pg_stat_activity where state = 'active' and query ilike 'commit%' and datname = $1"
        ((name,),) = await node.process.db.records("select current_database()", ())
        return bool(await node.process.db.records(text, [name]))

    return found


async def test_a_process_killed_while_it_writes_leaves_nothing_and_the_repeat_writes(
    settings: Settings, node: Node, people: People, spawn: type[Subprocess]
) -> None:
    seller, key = await people.agent(), uuid4().hex
    victim = await spawn.start(settings, free_port())
    async with node.process.db.transaction() as tx:
        await tx.records("lock table properties in exclusive mode", ())
        lost = asyncio.ensure_future(publish(victim.api, seller, key))

        async def waits() -> bool:
            return bool(await tx.records("select 1 from pg_locks where not granted and locktype = 'relation'", ()))

        await eventually(waits, seconds=1.5)
        await victim.kill()
        with pytest.raises(aiohttp.ClientError):
            await lost
    answers: list[Response] = []

    async def answered() -> bool:
        answers.append(await publish(node.api, seller, key))
        return answers[-1].status == 201

    await eventually(answered)
    assert {answer.json["code"] for answer in answers[:-1]} <= {"idempotency-in-progress"}
    assert await published(node, seller) == [answers[-1].json["id"]]
    assert (await publish(node.api, seller, key)).raw == answers[-1].raw


async def test_a_process_killed_after_its_commit_was_sent_has_written_and_the_repeat_hears_what(
    settings: Settings, node: Node, people: People, spawn: type[Subprocess], slow_commit: None
) -> None:
    seller, key = await people.agent(), uuid4().hex
    victim = await spawn.start(settings, free_port())
    lost = asyncio.ensure_future(publish(victim.api, seller, key))
    await eventually(committing(node), seconds=5)
    await victim.kill()
    with pytest.raises(aiohttp.ClientError):
        await lost

    async def committed() -> bool:
        return len(await published(node, seller)) == 1

    await eventually(committed)
    again = await publish(node.api, seller, key)
    assert again.status == 201
    assert again.headers["Location"].endswith(again.json["id"])
    assert await published(node, seller) == [again.json["id"]]


@pytest.mark.parametrize("ended", ["connection", "server"])
async def test_an_unknown_outcome_is_found_out_under_the_key(
    node: Node, second_node: Node, people: People, slow_commit: None, ended: str
) -> None:
    """The connection is cut: COMMIT succeeds unheard. The server ends it: COMMIT fails. Either way there is one."""
    seller, key, db = await people.agent(), uuid4().hex, node.process.db
    asked = asyncio.ensure_future(publish(second_node.api, seller, key))
    await eventually(committing(node), seconds=5)
    if ended == "connection":
        for holder in second_node.process.db.pool._holders:  # type: ignore[attr-defined]
            if holder._in_use is not None:
                holder._con.terminate()
    else:
        await db.records(
            "select pg_terminate_backend(pid) from pg_stat_activity where state = 'active' and query ilike 'commit%'",
            (),
        )
    lost = await asked
    assert (lost.status, lost.json["code"]) == (503, "outcome-unknown")
    assert lost.headers["Retry-After"] == "1"
    answers: list[Response] = []

    async def answered() -> bool:
        answers.append(await publish(node.api, seller, key))
        return answers[-1].status == 201

    await eventually(answered)
    assert {answer.json["code"] for answer in answers[:-1]} <= {"idempotency-in-progress"}
    ((id_,),) = [await published(node, seller)]
    assert UUID(id_) == UUID(answers[-1].json["id"])
