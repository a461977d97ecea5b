"""The AsyncAPI 3.0 document of the live layer: every channel, every event with its payload, every rpc.

Like the OpenAPI document it is made from what the code declares and from nothing else. It is written from the server's
side, as AsyncAPI wants it: what the server sends, a client hears.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from k2k.infra.streams import Event
from k2k.ops.catalogue import errors_of
from k2k.ops.channels import Kind
from k2k.ops.problem import ProblemDocument
from k2k.ops.registry import KEY_FIELD, PARTS, Operation, Repeats
from k2k.web import about
from k2k.web.live import Live, brief, said, traits
from k2k.web.routes import JSON
from k2k.web.schemas import Key, Mode, Schema, Schemas

CONNECTION = "connection"
"""The name of what goes between a client and the server itself; in the protocol it is no channel and has no address."""
REFUSAL = "refusal"
_REFUSAL_KEY = ("refusal", "problem")
_CONNECT_KEY = ("connect", "data")


def document(live: Live) -> dict[str, Any]:
    """The document as JSON values. Raises TypeError if an event is not declared in full."""
    live.check()
    schemas = Schemas(_types(live))
    messages = dict(_messages(live, schemas))
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Key2Key live", "version": "1", "description": about.LIVE},
        "defaultContentType": JSON,
        "servers": {"websocket": _server(live)},
        "channels": {
            **{kind.name: _channel(kind, live, schemas) for kind in live.channels},
            CONNECTION: _connection(live),
        },
        "operations": dict(_operations(live)),
        "components": {
            "messages": messages,
            "schemas": schemas.components(messages),
            "securitySchemes": {"token": about.LIVE_TOKEN},
        },
    }


def _types(live: Live) -> Iterator[tuple[Key, Mode, Any]]:
    for kind in live.channels:
        yield (kind.name, "path"), "validation", kind.path
        if kind.says is not None:
            yield (kind.name, "said"), "validation", kind.says
    for event in live.events:
        yield (event.type, "data"), "serialization", event
        if event.joined is not None:
            yield (event.type, "joined"), "serialization", event.joined
    for rpc, operation in live.rpcs:
        for part, model in operation.models.items():
            yield (rpc, part), "validation", model
        yield (rpc, "answer"), "serialization", operation.answer
    yield _CONNECT_KEY, "validation", live.connect
    yield _REFUSAL_KEY, "serialization", ProblemDocument


def _server(live: Live) -> dict[str, Any]:
    return {
        "host": "{host}",
        "pathname": live.path,
        "protocol": "wss",
        "description": "The Centrifuge client protocol, version 2: JSON, or Protobuf by the subprotocol.",
        "variables": {"host": {"default": "127.0.0.1:8080", "description": "Where this document came from"}},
        "security": [{"$ref": "#/components/securitySchemes/token"}],
        "x-subprotocols": list(live.subprotocols),
    }


# Channels


def _channel(kind: Kind, live: Live, schemas: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {
        "address": kind.pattern,
        "summary": kind.summary,
        "description": " ".join(traits(kind)),
        "messages": {name: _component("messages", name) for name in _told(kind, live)},
        "x-permission": kind.may.value,
        "x-presence": kind.presence.name,
    }
    parameters = {
        name: {"description": brief(field, schemas)} for name, field, _ in schemas.fields((kind.name, "path"))
    }
    if parameters:
        made["parameters"] = parameters
    if kind.kept is not None:
        made["x-kept"] = TypeAdapter(timedelta).dump_python(kind.kept, mode="json")
    if kind.state is not None:
        made["x-state"] = kind.state
    if kind.at_once is not None:
        made["x-at-once"] = kind.at_once
    return made


def _told(kind: Kind, live: Live) -> list[str]:
    """The names of the messages in channels of this kind."""
    return [*(event.type for event in live.told_in(kind)), *([said(kind)] if kind.says is not None else [])]


def _connection(live: Live) -> dict[str, Any]:
    names = ["connect", *(f"{rpc}.{way}" for rpc, _ in live.rpcs for way in ("request", "reply")), REFUSAL]
    return {
        "address": None,
        "summary": "What goes between a client and the server itself, in no channel: connect and the rpcs.",
        "messages": {name: _component("messages", name) for name in names},
    }


# Messages


def _messages(live: Live, schemas: Schemas) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in live.events:
        yield event.type, _message(event.type, inspect.getdoc(event), _envelope(event, schemas))
    for kind in live.channels:
        if kind.says is not None:
            text = inspect.getdoc(kind.says)
            yield said(kind), _message(said(kind), text, schemas.of((kind.name, "said")))
    yield "connect", _message("connect", inspect.getdoc(live.connect), schemas.of(_CONNECT_KEY))
    for rpc, operation in live.rpcs:
        yield f"{rpc}.request", _message(rpc, "The `data` of the rpc.", _flat(rpc, operation, schemas))
        yield f"{rpc}.reply", _message(rpc, "The `data` of the answer.", schemas.of((rpc, "answer")))
    yield REFUSAL, _message(REFUSAL, about.LIVE_REFUSAL, _refusal(schemas))


def _message(name: str, text: str | None, payload: Schema) -> dict[str, Any]:
    return {"name": name, "summary": " ".join((text or "").split()), "payload": payload}


def _envelope(event: type[Event], schemas: Schemas) -> Schema:
    data = schemas.of((event.type, "data"))
    if event.joined is not None:
        data = {"allOf": [data, schemas.of((event.type, "joined"))]}
    return {
        "type": "object",
        "required": ["id", "type", "at", "data"],
        "properties": {
            "id": {"type": "string", "format": "uuid", "description": "The same in every channel it stands in"},
            "type": {"const": event.type},
            "at": {"type": "string", "format": "date-time"},
            "data": data,
        },
    }


def _flat(rpc: str, operation: Operation, schemas: Schemas) -> Schema:
    """The fields of path, query and body as the one object that an rpc takes."""
    fields = [
        (name, schema, needed)
        for part in PARTS
        if part in operation.models
        for name, schema, needed in schemas.fields((rpc, part))
        if name not in operation.fixed
    ]
    made: Schema = {
        "type": "object",
        "properties": {name: schema for name, schema, _ in fields},
        "additionalProperties": False,
    }
    if operation.repeats is Repeats.by_key:
        made["properties"][KEY_FIELD] = about.IDEMPOTENCY_KEY["schema"]
    required = [name for name, _, needed in fields if needed]
    return {**made, "required": required} if required else made


def _refusal(schemas: Schemas) -> Schema:
    return {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer"},
            "message": {
                "type": "string",
                "contentMediaType": "application/problem+json",
                "x-contentSchema": schemas.of(_REFUSAL_KEY),
            },
            "temporary": {"type": "boolean"},
        },
    }


# Operations


def _operations(live: Live) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in live.channels:
        told = _told(kind, live)
        if told:
            yield kind.allows.__name__, _step("send", kind.name, told, summary=kind.summary)
        if kind.says is not None:
            yield f"say_in_{kind.name}", _step("receive", kind.name, [said(kind)])
    yield "connect", _step("receive", CONNECTION, ["connect"])
    for rpc, operation in live.rpcs:
        text = " ".join((inspect.getdoc(operation.handler) or "").split())
        yield (
            operation.name,
            {
                **_step("receive", CONNECTION, [f"{rpc}.request"], title=rpc, description=text),
                "reply": _end(CONNECTION, [f"{rpc}.reply", REFUSAL]),
                "x-rpc": rpc,
                "x-permission": operation.may.value,
                "x-errors": [error.code for error in errors_of(operation)],
            },
        )


def _step(action: str, channel: str, messages: Iterable[str], **more: str) -> dict[str, Any]:
    return {"action": action, **_end(channel, messages), **more}


def _end(channel: str, messages: Iterable[str]) -> dict[str, Any]:
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _component(kind: str, name: str) -> Mapping[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
