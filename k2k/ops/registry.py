"""What an operation is. A feature declares its operations with `Routes`; the doors bind them.

A handler's annotations are its contract: the parameters `path`, `query` and `body` (each a model, each optional)
say what it takes, the return annotation what it answers. Everything that can be wrong about a declaration is a
TypeError at import.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, RootModel, TypeAdapter

from k2k.core.errors import DomainError
from k2k.infra.limits import Rate
from k2k.ops import channels
from k2k.ops.channels import Allows, Kind, Presence
from k2k.ops.permissions import PERMISSIONS, Permission, Role

T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]
PARTS = ("path", "query", "body")
KEY_FIELD = "idempotency_key"
"""In an rpc's flat object what the Idempotency-Key header is to a request."""
_PLACEHOLDER = re.compile(r"{(\w+)}")


class Json(bytes, Generic[T]):
    """JSON that PostgreSQL rendered, handed on as it is. `T` is the model it follows, for documents and tests."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """An answer with HTTP headers. Over a socket only `value` arrives: nothing a client needs may be in a header."""

    value: T
    headers: Mapping[str, str] = field(default_factory=dict)


class Repeats(Enum):
    """What happens when a client that got no answer asks again."""

    by_key = auto()
    """With the same Idempotency-Key it gets the first answer; without one the operation runs again."""
    by_client_id = auto()
    """The body carries a client_id, which the database knows again."""
    freely = auto()
    """It runs again, and that is as good as once."""


@dataclass(frozen=True)
class Operation:
    """One use case behind both doors."""

    handler: Handler
    method: str
    path: str
    """Below /api/v1, with {placeholders} that are the fields of the path model."""
    may: Permission
    rpc: str | None
    status: int
    raises: tuple[type[DomainError], ...]
    tag: str
    models: Mapping[str, type[BaseModel]]
    """The model of each of `path`, `query` and `body` that the handler takes."""
    answer: Any
    """The type of the answer's JSON."""
    form: type[BaseModel] | None
    """A model for the same body as an HTML form, with a method `body()` that gives the body model."""
    repeats: Repeats
    rate: Rate | None
    """How often one person, or one address where nobody is signed in, may call it; besides the limits for all calls."""
    headers: tuple[str, ...] = ()
    """The names of what a Reply adds to the answer's HTTP headers, for documents and tests."""

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def public(self) -> bool:
        """Whether nobody needs to be signed in."""
        return self.may in PERMISSIONS[Role.anonymous]

    def split(self, flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """An rpc's flat object as its parts. What no part knows goes to the last one, which refuses it by name."""
        wanted = [part for part in PARTS if part in self.models]
        parts: dict[str, dict[str, Any]] = {part: {} for part in wanted}
        owner = {name: part for part in wanted for name in _wire_names(self.models[part])}
        for name, value in flat.items():
            parts.setdefault(owner.get(name, wanted[-1] if wanted else "body"), {})[name] = value
        return parts

    def render(self, value: Any) -> bytes:
        """The answer as compact JSON."""
        return bytes(value) if isinstance(value, Json) else self._adapter.dump_json(value)

    @property
    def _adapter(self) -> TypeAdapter[Any]:
        adapter = self.__dict__.get("_type_adapter")
        if adapter is None:
            adapter = self.__dict__["_type_adapter"] = TypeAdapter(self.answer)
        return adapter


class Routes:
    """The operations and channels of one feature or flow, in the order they are declared."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.operations: list[Operation] = []
        self.channels: list[Kind] = []

    def get(self, path: str, *, may: Permission, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a read. See `declare`."""
        return self.declare("GET", path, may=may, **more)

    def post(self, path: str, *, may: Permission, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a write that is not idempotent by itself. See `declare`."""
        return self.declare("POST", path, may=may, **more)

    def put(self, path: str, *, may: Permission, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a change of an existing thing. See `declare`."""
        return self.declare("PUT", path, may=may, **more)

    def delete(self, path: str, *, may: Permission, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a removal. See `declare`."""
        return self.declare("DELETE", path, may=may, **more)

    def declare(
        self,
        method: str,
        path: str,
        *,
        may: Permission,
        rpc: str | None = None,
        status: int = 200,
        raises: Iterable[type[DomainError]] = (),
        form: type[BaseModel] | None = None,
        repeats: Repeats | None = None,
        rate: Rate | None = None,
        headers: Iterable[str] = (),
    ) -> Callable[[Handler], Handler]:
        """Make the decorated handler an operation.

        `may` is the permission it needs, `rpc` its name on a socket (none: HTTP only), `status` that of success,
        `raises` the errors of its own, beyond those every operation may answer, `headers` what its Reply adds. Reads
        repeat freely, writes by the client_id in their body or else by key, unless `repeats` says otherwise.
        """

        def register(handler: Handler) -> Handler:
            hints = get_type_hints(handler)
            models = _models_of(handler, hints)
            operation = Operation(
                handler=handler,
                method=method,
                path=path,
                may=may,
                rpc=rpc,
                status=status,
                raises=tuple(raises),
                tag=self.tag,
                models=models,
                answer=_answer_of(hints["return"]),
                form=form,
                repeats=repeats or _repeats(method, models.get("body")),
                rate=rate,
                headers=tuple(headers),
            )
            _check(operation)
            self.operations.append(operation)
            return handler

        return register

    def channel(
        self,
        pattern: str,
        *,
        may: Permission,
        kept: timedelta | None = None,
        presence: Presence = Presence.hidden,
        says: type[BaseModel] | None = None,
        state: str | None = None,
        at_once: int | None = None,
    ) -> Callable[[Allows], Allows]:
        """Make the decorated set function the gate of a kind of channel; see `channels.Kind` for the arguments."""

        def register(allows: Allows) -> Allows:
            path = channels.path_of(get_type_hints(allows)["asked"])
            kind = Kind(pattern, path, may, allows, kept, presence, says, state, at_once)
            channels.check(kind)
            self.channels.append(kind)
            return allows

        return register


def _models_of(handler: Handler, hints: Mapping[str, Any]) -> dict[str, type[BaseModel]]:
    names = list(inspect.signature(handler).parameters)
    if names[:1] != ["call"] or not set(names[1:]) <= set(PARTS):
        raise TypeError(f"{handler.__name__}: parameters are call, then any of {', '.join(PARTS)}")
    unsaid = {*names[1:], "return"} - hints.keys()
    if unsaid:
        raise TypeError(f"{handler.__name__}: no annotation for {', '.join(sorted(unsaid))}")
    models = {name: hints[name] for name in names[1:]}
    for name, model in models.items():
        if not (inspect.isclass(model) and issubclass(model, BaseModel)) or issubclass(model, RootModel):
            raise TypeError(f"{handler.__name__}: {name} must be one model with named fields, not {model}")
    return models


def _answer_of(hint: Any) -> Any:
    """The type inside Json[…] and Reply[…]."""
    while get_origin(hint) in (Json, Reply):
        (hint,) = get_args(hint)
    return hint


def _wire_names(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _repeats(method: str, body: type[BaseModel] | None) -> Repeats:
    if method == "GET":
        return Repeats.freely
    return Repeats.by_client_id if body is not None and "client_id" in body.model_fields else Repeats.by_key


def _check(operation: Operation) -> None:
    if operation.public and operation.repeats is Repeats.by_key:
        raise TypeError(f"{operation.name}: keys are kept for people, and nobody is signed in: say how it repeats")
    placeholders = _PLACEHOLDER.findall(operation.path)
    path = operation.models.get("path")
    if sorted(placeholders) != sorted(_wire_names(path) if path else []):
        raise TypeError(f"{operation.name}: the fields of its path model are not those of {operation.path}")
    names = [name for model in operation.models.values() for name in _wire_names(model)]
    if KEY_FIELD in names:
        raise TypeError(f"{operation.name}: {KEY_FIELD} is no field of a model: the doors take it out")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TypeError(f"{operation.name}: {', '.join(twice)} stands in two parts; an rpc's object is flat")
