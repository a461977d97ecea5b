"""What an operation may look like: a wrong declaration is a TypeError at import, a flat rpc object finds its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel

from k2k.app import OPERATIONS
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Operation, Reply, Routes

Handler = Callable[..., Awaitable[Any]]


class ThingPath(BaseModel):
    thing_id: UUID


class ThingQuery(BaseModel):
    limit: int = 10
    order: str = Field("newest", alias="sort-by")


class ThingBody(BaseModel):
    name: str


class Clashing(BaseModel):
    name: str
    thing_id: str


class ClashingAlias(BaseModel):
    order: str = Field(alias="sort-by")


class Things(RootModel[list[ThingBody]]):
    pass


def declare(handler: Handler, path: str = "/things", **more: Any) -> Operation:
    routes = Routes("things")
    routes.declare("POST", path, **{"may": Permission.own_account, **more})(handler)
    (operation,) = routes.operations
    return operation


async def whole(call: Call, path: ThingPath, query: ThingQuery, body: ThingBody) -> ThingBody:
    return body


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_a_permission_must_be_named(method: str) -> None:
    with pytest.raises(TypeError, match="may"):
        getattr(Routes("things"), method)("/things")


def test_an_operation_is_what_its_handler_s_annotations_say() -> None:
    operation = declare(whole, "/things/{thing_id}", rpc="thing.change", status=201)
    assert operation.models == {"path": ThingPath, "query": ThingQuery, "body": ThingBody}
    assert (operation.answer, operation.name, operation.method) == (ThingBody, "whole", "POST")
    assert (operation.rpc, operation.status, operation.tag) == ("thing.change", 201, "things")
    assert operation.render(ThingBody(name="a")) == b'{"name":"a"}'


def test_declaring_leaves_the_handler_as_it_was() -> None:
    routes = Routes("things")
    assert routes.get("/things/{thing_id}", may=Permission.read_market)(whole) is whole


def test_json_of_the_database_is_handed_on_as_it_is() -> None:
    async def list_things(call: Call) -> Reply[Json[list[ThingBody]]]:
        return Reply(Json(b'[{"name":  "a"}]'), {"X-Total-Count": "1"})

    operation = declare(list_things)
    assert operation.answer == list[ThingBody]
    assert operation.render(Json(b'[{"name":  "a"}]')) == b'[{"name":  "a"}]'


async def without_call(body: ThingBody) -> ThingBody:
    return body


async def call_not_first(body: ThingBody, call: Call) -> ThingBody:
    return body


async def unknown_parameter(call: Call, payload: ThingBody) -> ThingBody:
    return payload


async def list_body(call: Call, body: list[ThingBody]) -> ThingBody:
    return body[0]


async def union_body(call: Call, body: ThingBody | ThingPath) -> ThingBody:
    raise NotImplementedError


async def optional_body(call: Call, body: ThingBody | None) -> ThingBody:
    raise NotImplementedError


async def root_body(call: Call, body: Things) -> ThingBody:
    raise NotImplementedError


async def dict_body(call: Call, body: dict[str, Any]) -> ThingBody:
    raise NotImplementedError


async def plain_query(call: Call, query: str) -> ThingBody:
    raise NotImplementedError


async def bare_body(call: Call, body) -> ThingBody:  # type: ignore[no-untyped-def]
    raise NotImplementedError


async def bare_answer(call: Call, body: ThingBody):  # type: ignore[no-untyped-def]
    raise NotImplementedError


@pytest.mark.parametrize(
    "handler",
    [
        without_call,
        call_not_first,
        unknown_parameter,
        list_body,
        union_body,
        optional_body,
        root_body,
        dict_body,
        plain_query,
        bare_body,
        bare_answer,
    ],
)
def test_parameters_are_call_and_models_with_named_fields(handler: Handler) -> None:
    with pytest.raises(TypeError, match=handler.__name__):
        declare(handler)


async def with_path(call: Call, path: ThingPath) -> ThingBody:
    raise NotImplementedError


async def without_path(call: Call) -> ThingBody:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("handler", "path"),
    [
        (with_path, "/things"),
        (with_path, "/things/{id}"),
        (with_path, "/things/{thing_id}/{other_id}"),
        (with_path, "/things/{thing_id}/parts/{thing_id}"),
        (with_path, r"/things/{thing_id:\d+}"),
        (without_path, "/things/{thing_id}"),
    ],
)
def test_the_path_model_has_the_placeholders_of_the_address(handler: Handler, path: str) -> None:
    with pytest.raises(TypeError, match="path"):
        declare(handler, path)


async def clash_of_path_and_body(call: Call, path: ThingPath, body: Clashing) -> ThingBody:
    raise NotImplementedError


async def clash_of_aliases(call: Call, path: ThingPath, query: ThingQuery, body: ClashingAlias) -> ThingBody:
    raise NotImplementedError


@pytest.mark.parametrize(("handler", "name"), [(clash_of_path_and_body, "thing_id"), (clash_of_aliases, "sort-by")])
def test_no_name_stands_in_two_parts(handler: Handler, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        declare(handler, "/things/{thing_id}")


class Keyed(BaseModel):
    idempotency_key: str


async def takes_the_key(call: Call, body: Keyed) -> ThingBody:
    raise NotImplementedError


def test_no_model_has_the_field_that_the_doors_take_out() -> None:
    with pytest.raises(TypeError, match="idempotency_key"):
        declare(takes_the_key)


def test_a_refused_declaration_leaves_no_operation_behind() -> None:
    routes = Routes("things")
    with pytest.raises(TypeError):
        routes.post("/things", may=Permission.read_market)(with_path)
    assert routes.operations == []


def test_a_flat_object_finds_its_parts_by_the_names_on_the_wire() -> None:
    operation = declare(whole, "/things/{thing_id}")
    assert operation.split({"name": "a", "thing_id": "1", "sort-by": "oldest"}) == {
        "path": {"thing_id": "1"},
        "query": {"sort-by": "oldest"},
        "body": {"name": "a"},
    }
    assert operation.split({}) == {"path": {}, "query": {}, "body": {}}


def test_what_no_part_knows_goes_to_the_last_one_to_be_refused_there() -> None:
    assert declare(whole, "/things/{thing_id}").split({"order": 1, "evil": 2})["body"] == {"order": 1, "evil": 2}
    assert declare(with_path, "/things/{thing_id}").split({"evil": 2}) == {"path": {"evil": 2}}
    assert declare(without_path).split({"evil": 2}) == {"body": {"evil": 2}}
    assert declare(without_path).split({}) == {}


def test_no_two_operations_share_an_address_or_an_rpc_name() -> None:
    addresses = Counter((operation.method, operation.path) for operation in OPERATIONS)
    names = Counter(operation.rpc for operation in OPERATIONS if operation.rpc is not None)
    assert [address for address, count in addresses.items() if count > 1] == []
    assert [name for name, count in names.items() if count > 1] == []


def test_whatever_needs_http_has_no_rpc() -> None:
    assert [
        operation.name for operation in OPERATIONS if operation.form is not None and operation.rpc is not None
    ] == []
