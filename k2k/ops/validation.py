"""The border: JSON and strings become frozen models here, once. Inside there are no dicts.

Everything wrong is told at once, each fault with a JSON pointer. Unknown fields are refused, types are not guessed
(a string is no number), and text that PostgreSQL cannot hold never gets in.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import from_json, to_json

from k2k.core.errors import Invalid, Problem

Model = TypeVar("Model", bound=BaseModel)
Part = Literal["body", "query", "path", "header"]

# What no honest client sends; pydantic's own limit on nesting (200) also holds.
MAXIMUM_DEPTH = 32
# Each unknown name is a fault to be told: 18,000 in one body were seen to cost 40 MiB.
MAXIMUM_NAMES = 200
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class MalformedJson(Invalid):
    """The text is not JSON: truncated, too deep, a lone surrogate, NaN, not UTF-8."""

    code = "malformed-json"
    number = 1010
    title = "The text is not valid JSON"


class Input(BaseModel):
    """What a client sends: frozen, nothing unknown, nothing guessed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Answer(BaseModel):
    """What a client gets. Every field is always there, also one with a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


def utc(moment: datetime) -> str:
    """The one rendering of a moment, as SQL's utc() writes it: 2026-11-22T10:00:00.120Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


Moment = Annotated[
    AwareDatetime,
    PlainSerializer(utc, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-22T10:00:00.120Z"]}),
]
"""A moment in an answer. Always UTC inside."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
ClientId = Annotated[str, StringConstraints(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
"""The client's own id of a write, new for each wish and kept for its repeats; a UUID fits."""
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
"""ISO 3166-1 alpha-2."""


def untouched() -> Any:
    """The default of a field of a change: left out it stays as it is; null is for what may be empty."""
    return Field(default=None, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    """Keeps the documents from saying that null is what a left out field means."""
    del schema["default"]


def parse_json(raw: bytes | str) -> Any:
    """The value of a JSON text (RFC 8259, without NaN). Raises MalformedJson."""
    try:
        value = from_json(raw, allow_inf_nan=False)
        # The fast parser lets the last of two equal names win; by now the text is known to be sound and not deep.
        json.loads(raw, object_pairs_hook=_once)
    except ValueError as error:
        raise MalformedJson(f"The text is not valid JSON: {error}") from None
    if _depth(value) > MAXIMUM_DEPTH:
        raise MalformedJson(f"The text is nested deeper than {MAXIMUM_DEPTH} levels")
    return value


def validate(model: type[Model], value: Any, part: Part, *, text: bool | None = None) -> Model:
    """`value` as `model`. Raises Invalid with every fault found.

    Strings become numbers, UUIDs and booleans only where there is nothing but `text`: in a path, a query, a form.
    """
    if text is None:
        text = part != "body"
    problems = [] if _storable(value) else _unstorable(value, "", part)
    try:
        # Strict mode from JSON text knows UUIDs, dates and decimals, which have no JSON type of their own.
        parsed = (
            model.model_validate_json(to_json(value)) if part == "body" else model.model_validate(value, strict=False)
        )
    except ValidationError as error:
        problems += [
            Problem(pointer(fault["loc"]), part, fault["type"], fault["msg"])
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    if problems:
        raise Invalid(problems=problems)
    return parsed


def pointer(location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


def _storable(value: Any) -> bool:
    """Whether `_unstorable` would find nothing; most often so, and told without a place for each name."""
    match value:
        case str():
            return _UNSTORABLE.search(value) is None
        case dict():
            return all(_storable(key) and _storable(item) for key, item in value.items())
        case list() | tuple():
            return all(map(_storable, value))
        case _:
            return True


def _unstorable(value: Any, at: str, part: Part) -> list[Problem]:
    """Where strings hold NUL or lone surrogates: JSON and URLs can say them, PostgreSQL cannot keep them."""
    match value:
        case str():
            if _UNSTORABLE.search(value):
                return [Problem(at, part, "text-unstorable", "Text must not contain NUL or lone surrogates")]
            return []
        case dict():
            inner = [(f"{at}{pointer((key,))}", key, item) for key, item in value.items()]
            return [
                problem
                for place, key, item in inner
                for problem in (*_unstorable(key, place, part), *_unstorable(item, place, part))
            ]
        case list() | tuple():
            return [problem for place, item in enumerate(value) for problem in _unstorable(item, f"{at}/{place}", part)]
        case _:
            return []


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > MAXIMUM_NAMES:
        raise ValueError(f"an object has more than {MAXIMUM_NAMES} names")
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice in one object, one of {', '.join(sorted(names))[:200]}")


def _depth(value: Any) -> int:
    """How many containers stand inside each other."""
    depth, level = 0, [value]
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        depth += 1
    return depth + isinstance(value, dict | list)


def unknown(name: str, part: Part) -> Problem:
    """The fault of sending a field that is not known here."""
    return Problem(pointer((name,)), part, "extra_forbidden", "Not known here")
