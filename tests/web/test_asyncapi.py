"""The AsyncAPI document: the official schema takes it, it says what the live layer is, and pushes are held to it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from jsonschema import Draft7Validator

from k2k.app import CHANNELS, LIVE, OPERATIONS
from k2k.infra.streams import Event
from k2k.ops.registry import KEY_FIELD, Operation, Repeats
from k2k.web import asyncapi, live_tables
from tests import contract
from tests.contract import ASYNC_DOCUMENT
from tests.support import ROOT

MESSAGES: dict[str, Any] = ASYNC_DOCUMENT["components"]["messages"]
RPCS = [operation for operation in OPERATIONS if operation.rpc is not None]


class Astray(Event):
    """To a channel that keeps nothing."""

    type: ClassVar[str] = "test.astray"
    to = ("conversation",)


class Homeless(Event):
    """To nobody knows whom."""

    type: ClassVar[str] = "test.homeless"


@pytest.mark.needs("npm packages")
def test_the_official_schema_takes_it() -> None:
    official = json.loads((ROOT / "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json").read_text())
    judge = Draft7Validator(official)
    assert [f"{fault.json_path}: {fault.message}" for fault in judge.iter_errors(ASYNC_DOCUMENT)] == []
    assert not judge.is_valid({**ASYNC_DOCUMENT, "channels": {"user": {"addresses": "user:{user_id}"}}})


def test_every_reference_leads_somewhere() -> None:
    def check(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                found: Any = ASYNC_DOCUMENT
                for step in node["$ref"].removeprefix("#/").split("/"):
                    found = found[step]
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(ASYNC_DOCUMENT)


def test_every_channel_stands_there_with_what_is_told_in_it() -> None:
    told = {channel["address"]: set(channel["messages"]) for channel in ASYNC_DOCUMENT["channels"].values()}
    assert told.keys() == {kind.pattern for kind in CHANNELS} | {None}
    assert told["listing:{listing_id}"] == {"listing.price_changed", "listing.status_changed", "access.lost"}
    assert told["conversation:{conversation_id}"] == {"conversation.said"}
    listing = ASYNC_DOCUMENT["channels"]["listing"]
    assert (listing["x-kept"], listing["x-presence"], listing["parameters"].keys()) == ("P1D", "count", {"listing_id"})


@pytest.mark.parametrize("operation", RPCS, ids=lambda operation: operation.rpc)
def test_an_rpc_takes_one_flat_object(operation: Operation) -> None:
    request = MESSAGES[f"{operation.rpc}.request"]["payload"]
    parts = operation.split(dict.fromkeys(request["properties"]))
    for part, values in parts.items():
        names = {info.alias or name for name, info in operation.models[part].model_fields.items()}
        assert values.keys() - {KEY_FIELD} == names
    assert (KEY_FIELD in request["properties"]) == (operation.repeats is Repeats.by_key)
    told = ASYNC_DOCUMENT["operations"][operation.name]
    assert (told["x-rpc"], told["x-permission"]) == (operation.rpc, operation.may)


def test_the_state_to_fetch_is_an_rpc_that_answers_its_position() -> None:
    states = [kind.state for kind in CHANNELS if kind.state is not None]
    assert "me.state" in states
    for rpc in states:
        schema = MESSAGES[f"{rpc}.reply"]["payload"]["$ref"].rpartition("/")[2]
        assert "position" in ASYNC_DOCUMENT["components"]["schemas"][schema]["required"]


def test_text_that_is_joined_is_told_too() -> None:
    data = MESSAGES["message.new"]["payload"]["properties"]["data"]["allOf"]
    fields = [ASYNC_DOCUMENT["components"]["schemas"][one["$ref"].rpartition("/")[2]]["properties"] for one in data]
    assert "seq" in fields[0]
    assert fields[1].keys() == {"message"}


def test_an_event_must_say_where_it_goes() -> None:
    with pytest.raises(TypeError, match="Homeless: `to` must name"):
        asyncapi.document(replace(LIVE, events=[*LIVE.events, Homeless]))
    with pytest.raises(TypeError, match="Astray: no channel that keeps events is of kind conversation"):
        asyncapi.document(replace(LIVE, events=[*LIVE.events, Astray]))


def test_a_page_without_a_place_for_its_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- channels -->"):
        live_tables.renewed("# Live\n", LIVE)


def pushed(type_: str, **data: Any) -> dict[str, Any]:
    whole = {
        "id": "0198f0a0-0000-7000-8000-000000000000",
        "type": type_,
        "at": "2026-11-22T10:00:00.120Z",
        "data": data,
    }
    return {"offset": 1, "data": whole}


LISTING = "listing:0198f0a0-0000-7000-8000-000000000000"


def test_a_push_that_is_not_declared_fails_the_test_it_came_in() -> None:
    right = pushed("access.lost", channel=LISTING, user_id=None)
    contract.check_publication(LISTING, right)
    contract.check_publication("conversation:1", {"data": {"typing": True}})
    for channel, wrong in (
        (LISTING, pushed("access.lost", channel=LISTING)),
        (LISTING, pushed("access.gained", channel=LISTING)),
        (LISTING, pushed("listing.sung")),
        (LISTING, {"offset": 1, "data": {"type": "access.lost", "data": right["data"]["data"]}}),
        ("conversation:1", {"data": {"typing": "yes"}}),
    ):
        with pytest.raises(AssertionError):
            contract.check_publication(channel, wrong)
