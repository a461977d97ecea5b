"""Something acceptable to send to any operation, made from its models, so that no new one is left out of a story."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import aiohttp
from pydantic import BaseModel

from k2k.ops.registry import Operation

# What fits the patterns that our models know. Several are tried, for a pattern cannot be run backwards.
FITTING = (
    "ET",
    "+251911223344",
    "https://key2key.example/",
    "en",
    "2026-11-22T10:00:00Z",
    "JTDBR32E720123456",
    "0a" * 32,
)

# What a model needs that its schema cannot say.
BESIDES: Mapping[str, Mapping[str, str]] = {"OfferDraft": {"property_type": "house"}}
# What goes only with a value of another field that a sample does not have.
OF_OTHERS = {"price_period"}


def sample(model: type[BaseModel], text: str = "Selam", *, everything: bool = False) -> dict[str, Any]:
    """What `model` accepts: its required fields, or `everything`; `text` stands wherever any text may."""
    schema = model.model_json_schema()
    wanted = [*schema.get("properties", {})] if everything else schema.get("required", ())
    wanted = [name for name in wanted if name not in OF_OTHERS]
    made = {name: _value(schema["properties"][name], schema.get("$defs", {}), text) for name in wanted}
    return {**made, **BESIDES.get(model.__name__, {})}


def file_of() -> aiohttp.FormData:
    """A file that some operation takes."""
    form = aiohttp.FormData()
    form.add_field("files", b"kind,reference\n", filename="sample.csv", content_type="text/csv")
    return form


def path_of(operation: Operation) -> str:
    """The operation's address, with a well-formed id that is nobody's for each placeholder."""
    model = operation.models.get("path")
    return operation.path.format(**(sample(model) if model else {}))


def _value(schema: Mapping[str, Any], named: Mapping[str, Any], text: str) -> Any:
    match schema:
        case {"$ref": str(reference)}:
            return _value(named[reference.rpartition("/")[2]], named, text)
        case {"anyOf": [first, *_]} | {"allOf": [first, *_]}:
            return _value(first, named, text)
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"type": "string"}:
            return _text(schema, text)
        case {"type": "integer" | "number"}:
            return max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
        case {"type": "boolean"}:
            return True
        case {"type": "array"}:
            return [_value(schema["items"], named, text)]
        case {"type": "object"}:
            return {name: _value(schema["properties"][name], named, text) for name in schema.get("required", ())}
    raise AssertionError(f"tests/samples.py does not know what fits {schema}")


def _text(schema: Mapping[str, Any], text: str) -> str:
    match schema:
        case {"format": "uuid"}:
            return str(uuid4())
        case {"format": "date"}:
            return "2020-02-29"
        case {"format": "email"}:
            return f"{uuid4().hex}@people.example"
        case {"pattern": str(pattern)}:
            long = [one for one in (text, uuid4().hex, *FITTING) if len(one) >= schema.get("minLength", 0)]
            found = [one for one in long if re.search(pattern, one)]
            assert found, f"tests/samples.py, FITTING, has nothing that fits {pattern}"
            return found[0]
    return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
