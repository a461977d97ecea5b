"""The OpenAPI 3.1 document of all operations: what a client's developer, or their generator, needs to know.

It is made from what the code declares and from nothing else. Texts come from docstrings.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from k2k.core.errors import DomainError, IdempotencyInProgress, Internal
from k2k.ops.files import FileRules
from k2k.ops.permissions import PERMISSIONS, Permission, Role
from k2k.ops.problem import ProblemDocument
from k2k.ops.registry import Operation, Repeats
from k2k.web import about, health
from k2k.web.catalogue import errors_of, http_status
from k2k.web.files import FIELD
from k2k.web.routes import FORM, JSON, PREFIX, header_of, may_be_kept
from k2k.web.schemas import PLACE, Key, Mode, Schema, Schemas, without_null

PROBLEM = "application/problem+json"
MULTIPART = "multipart/form-data"
_PROBLEM_KEY = ("problem", "document")
_HEALTH_KEY = ("health", "answer")


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document as JSON values. Raises ValueError if two operations share a name: clients' methods are named so."""
    twice = [name for name, count in Counter(operation.name for operation in operations).items() if count > 1]
    if twice:
        raise ValueError(f"more than one operation is named {', '.join(twice)}")
    schemas = Schemas(_types(operations))
    problems = _Problems()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas, problems)
    for probe in health.PROBES:
        paths[probe.path] = {"get": _probe(probe, schemas, problems)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Key2Key", "version": "1", "summary": about.SUMMARY, "description": about.DESCRIPTION},
        "servers": [{"url": PREFIX, "description": "This server"}],
        "externalDocs": {"url": "/docs/errors", "description": "What every error means and what to do"},
        "tags": list(_tags(operations)),
        "paths": paths,
        "components": {
            "schemas": {**schemas.components(paths, problems.schemas), **problems.schemas},
            "responses": problems.responses,
            "headers": about.HEADERS,
            "securitySchemes": about.SECURITY_SCHEMES,
        },
    }


def _types(operations: Iterable[Operation]) -> Iterator[tuple[Key, Mode, Any]]:
    for operation in operations:
        for part, model in operation.models.items():
            yield (operation.name, part), "validation", model
        if operation.form is not None:
            yield (operation.name, "form"), "validation", operation.form
        if not operation.media:
            yield (operation.name, "answer"), "serialization", operation.answer
    yield _PROBLEM_KEY, "serialization", ProblemDocument
    yield _HEALTH_KEY, "serialization", health.Health


def _tags(operations: Iterable[Operation]) -> Iterator[dict[str, str]]:
    """Each tag with the sentence that its first module begins with."""
    modules: dict[str, str] = {}
    for operation in operations:
        modules.setdefault(operation.tag, operation.handler.__module__)
    for tag, module in [*modules.items(), (health.TAG, health.__name__)]:
        yield {"name": tag, "description": inspect.cleandoc(sys.modules[module].__doc__ or "").split("\n\n")[0]}


def _operation(operation: Operation, schemas: Schemas, problems: _Problems) -> dict[str, Any]:
    text = inspect.getdoc(operation.handler) or ""
    made: dict[str, Any] = {
        "tags": [operation.tag],
        "operationId": operation.name,
        "summary": _first_sentence(text),
        "description": f"{text}\n\n{_access(operation)}",
        "security": _security(operation.may),
        "x-permission": operation.may.value,
    }
    if operation.rpc is not None:
        made["x-rpc"] = operation.rpc
    parameters = [found for part in ("path", "query", "head") for found in _parameters(operation, part, schemas)]
    if operation.repeats is Repeats.by_key:
        parameters.append(about.IDEMPOTENCY_KEY)
    if parameters:
        made["parameters"] = parameters
    if "body" in operation.models:
        made["requestBody"] = {"required": True, "content": _bodies(operation, schemas)}
    if operation.files is not None:
        made["requestBody"] = {"required": True, "content": {MULTIPART: {"schema": _multipart(operation.files)}}}
    made["responses"] = {
        str(operation.status): _answer(operation, schemas),
        **problems.of(errors_of(operation)),
    }
    if may_be_kept(operation):
        made["responses"][str(operation.status)]["headers"] |= _headers(about.KEPT)
        made["responses"]["304"] = {
            "description": "You have it: the ETag in If-None-Match is still right",
            "headers": _headers((*about.ALL_ANSWERS, *about.LIMITED, *about.KEPT)),
        }
    return made


def _probe(probe: health.Probe, schemas: Schemas, problems: _Problems) -> dict[str, Any]:
    return {
        "tags": [health.TAG],
        "operationId": probe.name,
        "summary": _first_sentence(probe.description),
        "description": probe.description,
        "security": [],
        "responses": {
            **{str(status): _answered(status, {JSON: schemas.of(_HEALTH_KEY)}) for status in probe.statuses},
            **problems.of([Internal]),
        },
    }


def _access(operation: Operation) -> str:
    """Who may, and where else it can be asked, in a sentence or two."""
    roles = [role for role in Role if operation.may in PERMISSIONS[role]]
    who = "Open to everyone." if Role.anonymous in roles else f"For {', '.join(roles)}."
    return f"{who} Over the websocket: `{operation.rpc}`." if operation.rpc else who


def _security(may: Permission) -> list[dict[str, list[str]]]:
    """Ways to prove who asks, any one of which will do; the empty one is nobody."""
    if may is Permission.sign_in:
        return []
    ways: list[dict[str, list[str]]] = [{name: []} for name in about.SECURITY_SCHEMES]
    return [*ways, {}] if may in PERMISSIONS[Role.anonymous] else ways


def _parameters(operation: Operation, part: str, schemas: Schemas) -> Iterator[dict[str, Any]]:
    if part not in operation.models:
        return
    for name, field, required in schemas.fields((operation.name, part)):
        if name in operation.fixed:
            continue
        schema = without_null(field)
        made: dict[str, Any] = {"name": name, "in": part, "required": required}
        if part == "head":
            made |= {"name": header_of(name), "in": "header"}
            # In a header it is a tag; as what the model has it, it travels over sockets.
            schema = {**schema, "type": "string"}
            schema.pop("minimum", None)
        if "description" in schema:
            made["description"] = schema["description"]
            schema = {key: value for key, value in schema.items() if key != "description"}
        if schema.get("type") == "array":
            made |= {"style": "form", "explode": True}
        yield {**made, "schema": schema}


def _bodies(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    bodies = {JSON: {"schema": schemas.of((operation.name, "body"))}}
    if operation.form is not None:
        bodies[FORM] = {"schema": schemas.of((operation.name, "form"))}
    return bodies


def _multipart(rules: FileRules) -> Schema:
    file = {"type": "string", "contentMediaType": "application/octet-stream", "maxLength": rules.bytes_each}
    files = {"type": "array", "items": file, "minItems": 1, "maxItems": rules.most}
    return {"type": "object", "properties": {FIELD: files}, "required": [FIELD], "additionalProperties": False}


def _answer(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    headers = (*about.LIMITED, *operation.headers)
    if operation.media:
        return _answered(operation.status, {media: {"type": "string"} for media in operation.media}, headers)
    return _answered(operation.status, {JSON: schemas.of((operation.name, "answer"))}, headers)


def _answered(status: int, content: Mapping[str, Schema], headers: Iterable[str] = ()) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,  # the same in every Python for what operations succeed with
        "headers": _headers((*about.ALL_ANSWERS, *headers)),
        "content": {media: {"schema": schema} for media, schema in content.items()},
    }


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".")


class _Problems:
    """The refusals that operations share: per status, one for each set of codes, named by the codes."""

    def __init__(self) -> None:
        self.responses: dict[str, Any] = {}
        self.schemas: dict[str, Schema] = {}

    def of(self, errors: Iterable[type[DomainError]]) -> dict[str, Any]:
        """The responses of an operation that may answer these errors, by status."""
        by_status: dict[int, list[type[DomainError]]] = {}
        for error in errors:
            by_status.setdefault(http_status(error), []).append(error)
        return {str(status): self._response(status, by_status[status]) for status in sorted(by_status)}

    def _response(self, status: int, errors: list[type[DomainError]]) -> dict[str, str]:
        name = "Or".join(error.__name__ for error in errors)
        self.schemas[f"{name}Problem"] = _problem_schema(errors)
        passing = about.PASSING if IdempotencyInProgress in errors else ()
        self.responses[name] = {
            "description": "\n".join(f"- `{error.code}`: {error.title}" for error in errors),
            "headers": _headers((*about.ALL_ANSWERS, *about.REFUSALS.get(status, ()), *passing)),
            "content": {PROBLEM: {"schema": {"$ref": f"{PLACE}{name}Problem"}}},
        }
        return {"$ref": f"#/components/responses/{name}"}


def _problem_schema(errors: list[type[DomainError]]) -> Schema:
    codes = {"type": "string", "enum": [error.code for error in errors]}
    narrower = {"type": "object", "properties": {"code": codes}}
    return {"allOf": [{"$ref": f"{PLACE}{ProblemDocument.__name__}"}, narrower]}
