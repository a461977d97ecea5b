"""JSON schemas of the operations' models, as the components of an OpenAPI document share them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

Schema = dict[str, Any]
Mode = Literal["validation", "serialization"]
Key = tuple[str, str]
"""Whose schema it is: the name of an operation, and `path`, `query`, `body`, `form` or `answer`."""

PLACE = "#/components/schemas/"


class Schemas:
    """The schemas of many types, each model once, named as its class; where two share a name, with their modules."""

    def __init__(self, types: Iterable[tuple[Key, Mode, Any]]) -> None:
        """`types` come with the way they go: `validation` for what is sent, `serialization` for answers."""
        adapters = [(key, mode, TypeAdapter(type_)) for key, mode, type_ in types]
        found, shared = TypeAdapter.json_schemas(adapters, ref_template=PLACE + "{model}", schema_generator=_Generator)
        self._found: dict[Key, Schema] = {key: schema for (key, _), schema in found.items()}
        self._shared: dict[str, Schema] = shared.get("$defs", {})
        for schema in self._shared.values():
            schema.pop("title", None)  # the component's name again

    def of(self, key: Key) -> Schema:
        """The schema, mostly a reference."""
        return self._found[key]

    def resolved(self, schema: Schema) -> Schema:
        """What a reference leads to; any other schema as it is."""
        return self._shared[schema["$ref"].removeprefix(PLACE)] if "$ref" in schema else schema

    def fields(self, key: Key) -> Iterator[tuple[str, Schema, bool]]:
        """The fields of a model in their order: name, schema, and whether it must be given."""
        model = self.resolved(self._found[key])
        for name, field in model["properties"].items():
            yield name, field, name in model.get("required", ())

    def components(self, *users: Any) -> dict[str, Schema]:
        """The shared schemas that `users` refer to, directly or through others, by name."""
        wanted: set[str] = set()
        found = {name for user in users for name in _references(user)}
        while found:
            wanted |= found
            found = {name for one in found for name in _references(self._shared.get(one, {}))} - wanted
        return {name: schema for name, schema in sorted(self._shared.items()) if name in wanted}


class _Generator(GenerateJsonSchema):
    """Without titles that only repeat a field's name. Answers stay open: newer fields are for clients to ignore."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        made = super().model_schema(schema)
        if self.mode == "serialization":
            made.pop("additionalProperties", None)
        return made


def without_null(schema: Schema) -> Schema:
    """The schema where null cannot be said: in addresses and forms a field is given or left out."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if not options:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    if rest.get("default", ...) is None:
        del rest["default"]
    return {**options[0], **rest} if len(options) == 1 else {"anyOf": options, **rest}


def _references(node: Any) -> Iterator[str]:
    match node:
        case Mapping():
            if isinstance(node.get("$ref"), str) and node["$ref"].startswith(PLACE):
                yield node["$ref"].removeprefix(PLACE)
            for value in node.values():
                yield from _references(value)
        case list() | tuple():
            for value in node:
                yield from _references(value)
