"""A fault of ours is told by its request id and nothing else; what went wrong inside stands in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from structlog.testing import capture_logs

from k2k.app import OPERATIONS
from k2k.core.settings import Settings
from k2k.features.accounts.store import SIGN_IN_STATES
from k2k.features.sync.polls import Polls
from k2k.infra.sql import Queries
from k2k.ops.registry import Operation
from tests.samples import file_of, path_of, sample
from tests.support import Live, LiveError, Node, People, Person

INNER = "relation wombats of select secret_words from users"
WITHOUT_DATABASE = {"import_template"}
RPCS = [operation for operation in OPERATIONS if operation.rpc]


class Broken(Exception):
    """Nothing that anybody foresaw."""


class House:
    """A node whose database answers nothing but who somebody is, and what the socket's stream needs."""

    def __init__(self, node: Node, admin: Person) -> None:
        self.node = node
        self.admin = admin

    def break_database(self, patch: pytest.MonkeyPatch) -> None:
        db = self.node.process.db
        streams = Queries("streams")
        well = {SIGN_IN_STATES.text, *(streams.rows(name, type(None)).text for name in streams.names)}
        records = db.records

        async def broken_records(text: str, arguments: Sequence[Any]) -> Any:
            if text in well:
                return await records(text, arguments)
            raise Broken(INNER)

        def broken_transaction(*_: object) -> AbstractAsyncContextManager[Any]:
            raise Broken(INNER)

        patch.setattr(db, "records", broken_records)
        patch.setattr(db, "transaction", broken_transaction)
        patch.setattr(db, "single", broken_transaction)
        patch.setattr(db, "snapshot", broken_transaction)
        patch.setattr(Polls, "catch_up", broken_transaction)  # it asks for what sockets need as well


@pytest.fixture(scope="module")
async def house(settings: Settings) -> AsyncIterator[House]:
    node = await Node.start(settings)
    admin = await People(node).buyer()
    async with node.process.db.transaction() as tx:
        await tx.records("update users set role = 'admin' where id = $1", [admin.id])
    yield House(node, admin)
    await node.stop()


def tells_nothing(problem: dict[str, Any], logged: Sequence[Any]) -> None:
    """A generic document, whose id leads to the exception in the log."""
    assert problem == {
        "type": "/docs/errors#internal",
        "title": "Something went wrong on our side",
        "status": 500,
        "detail": "Something went wrong on our side",
        "code": "internal",
        "request_id": problem["request_id"],
    }
    assert len(problem["request_id"]) == 32
    (line,) = [line for line in logged if line["log_level"] == "error"]
    assert line["event"] == "unforeseen"
    assert line["exc_info"]


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.name not in WITHOUT_DATABASE], ids=lambda operation: operation.name
)
async def test_a_route_that_fails_inside_tells_nothing_of_it(
    house: House, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {part: sample(model) for part, model in operation.models.items()}
    if operation.name == "refresh":
        sent["body"] = {"refresh_token": house.admin.refresh_token}
    if operation.name == "acknowledge":
        sent["body"]["channel"] = f"user:{house.admin.id}"
    more: dict[str, Any] = {"json": sent["body"]} if "body" in sent else {}
    if operation.files is not None:
        more["data"] = file_of()
    house.break_database(monkeypatch)
    with capture_logs() as logged:
        answer = await house.node.api.request(
            operation.method, path_of(operation), token=house.admin.token, params=sent.get("query"), **more
        )
    assert answer.status == 500, answer.json
    tells_nothing(answer.json, logged)


@pytest.mark.parametrize("operation", RPCS, ids=lambda operation: operation.rpc)
async def test_an_rpc_that_fails_inside_tells_nothing_of_it_and_keeps_its_socket(
    house: House, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {name: value for model in operation.models.values() for name, value in sample(model).items()}
    if operation.name == "acknowledge":
        data["channel"] = f"user:{house.admin.id}"
    async with Live.open(house.node.api.base) as live:
        await live.connect(house.admin.token)
        assert operation.rpc is not None
        with monkeypatch.context() as patch:
            house.break_database(patch)
            with capture_logs() as logged, pytest.raises(LiveError) as failed:
                await live.rpc(operation.rpc, **data)
        assert failed.value.code == 1011
        tells_nothing(failed.value.problem, logged)
        assert (await live.rpc("me.get"))["id"] == str(house.admin.id)
