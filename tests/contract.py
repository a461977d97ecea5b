"""What is answered and told held against what the OpenAPI and AsyncAPI documents promise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from k2k.app import LIVE, OPERATIONS
from k2k.ops.catalogue import errors_of
from k2k.ops.registry import Operation
from k2k.web import asyncapi, openapi

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.document(OPERATIONS)))
ASYNC_DOCUMENT: dict[str, Any] = json.loads(json.dumps(asyncapi.document(LIVE)))
JSON = {"application/json", "application/problem+json"}
NO_OPERATION = {"no-such-route", "method-not-allowed", "bad-request"}
"""What is answered where no operation is found."""

_BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}
_BY_RPC: Mapping[str, Operation] = {operation.rpc: operation for operation in OPERATIONS if operation.rpc}


@dataclass(frozen=True)
class Answer:
    """An answer as it came over HTTP, and what was asked with."""

    method: str
    path: str
    status: int
    content_type: str
    headers: Mapping[str, str]
    raw: bytes
    sent: Any = field(default=None)
    """The JSON that was sent, if any."""


def check_answer(answer: Answer) -> None:
    """AssertionError unless the document declares this answer of this address."""
    declared = _operation(answer.method, answer.path)
    if declared is None:
        if answer.status >= 400:
            assert json.loads(answer.raw)["code"] in NO_OPERATION, answer
        return
    response = _resolve(declared["responses"].get(str(answer.status)))
    assert response is not None, (
        f"{answer.method} {answer.path}: status {answer.status} is not declared: {answer.raw!r}"
    )
    assert answer.content_type in response["content"], answer
    if answer.content_type not in JSON:  # a file
        return
    body = json.loads(answer.raw)
    _hold(response["content"][answer.content_type]["schema"], body, f"{answer.method} {answer.path} {answer.status}")
    assert answer.content_type != openapi.PROBLEM or body["status"] == answer.status
    for name in ("Location", "Link", "X-Total-Count", "X-Total-Count-Relation", "Retry-After", "WWW-Authenticate"):
        assert name not in answer.headers or name in response["headers"], f"{answer}: {name} is not declared"
    for name in ("Location", "X-Total-Count", "Retry-After", "WWW-Authenticate"):
        passing = answer.status == 409 and name == "Retry-After"  # not every conflict passes by itself
        assert passing or name in answer.headers or name not in response["headers"], f"{answer}: {name} was promised"
    if answer.status < 400 and declared["operationId"] in _BY_NAME:
        operation = _BY_NAME[declared["operationId"]]
        TypeAdapter(operation.answer).validate_json(answer.raw)  # stricter: no field that is not declared
        if answer.sent is not None:
            schema = declared["requestBody"]["content"]["application/json"]["schema"]
            _hold(schema, answer.sent, f"what was sent to {answer.method} {answer.path}")


def check_result(rpc: str, result: Any) -> None:
    """AssertionError unless the document declares this result of the operation behind `rpc`."""
    operation = _BY_RPC.get(rpc)
    if operation is not None:  # else one of the test's own
        response = _declared(operation)["responses"][str(operation.status)]
        _hold(response["content"]["application/json"]["schema"], result, rpc)


def check_refusal(rpc: str, error: Mapping[str, Any]) -> None:
    """AssertionError unless the operation behind `rpc` declares this error. Codes below 1000 are the protocol's own."""
    operation = _BY_RPC.get(rpc)
    if operation is None or error["code"] < 1000:
        return
    problem = json.loads(error["message"])
    numbers = {declared.code: declared.number for declared in errors_of(operation)}
    assert numbers.get(problem["code"]) == error["code"], f"{rpc}: {error} is not declared"
    response = _resolve(_declared(operation)["responses"][str(problem["status"])])
    assert response is not None
    _hold(response["content"]["application/problem+json"]["schema"], problem, rpc)


def check_publication(channel: str, publication: Mapping[str, Any]) -> None:
    """AssertionError unless the AsyncAPI document has this message in channels of that kind."""
    kind, data = channel.partition(":")[0], publication["data"]
    name = data["type"] if publication.get("offset") else f"{kind}.said"
    if name.startswith("test."):
        return
    assert name in ASYNC_DOCUMENT["channels"][kind]["messages"], f"{name} in {channel} is not declared"
    payload = ASYNC_DOCUMENT["components"]["messages"][name]["payload"]
    _hold(payload, data, f"{name} in {channel}", ASYNC_DOCUMENT)


def _declared(operation: Operation) -> dict[str, Any]:
    declared: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return declared


def _operation(method: str, path: str) -> dict[str, Any] | None:
    """What the document says of this address; fixed words go before {placeholders}."""
    bare = path.split("?")[0]
    for template in sorted(DOCUMENT["paths"], key=lambda path: ["{" in part for part in path.split("/")]):
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template) + "/?", bare):
            found: dict[str, Any] | None = DOCUMENT["paths"][template].get(method.lower())
            if found is not None:
                return found
    return None


def _resolve(node: dict[str, Any] | None) -> dict[str, Any] | None:
    if node is None or "$ref" not in node:
        return node
    found = DOCUMENT
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def _hold(schema: Any, value: Any, what: str, document: Mapping[str, Any] = DOCUMENT) -> None:
    validator = _validator(json.dumps(schema), document is DOCUMENT)
    faults = [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(value)]
    assert not faults, f"{what} is not as declared: {'; '.join(faults)}"


@cache
def _validator(schema: str, rest: bool) -> Draft202012Validator:
    """A validator of a schema that may refer to components: of the OpenAPI document if `rest`, else of the other."""
    whole = {**json.loads(schema), "components": (DOCUMENT if rest else ASYNC_DOCUMENT)["components"]}
    return Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
