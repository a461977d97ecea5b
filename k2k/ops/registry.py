"""What an operation is. A feature declares its operations with `Routes`; the doors bind them.

A handler's annotations are its contract: the parameters `path`, `query`, `head` and `body` (each a model, each
optional) say what it takes, and `files` that it takes files; the return annotation says what it answers. Everything
that can be wrong about a declaration is a TypeError at import.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, StrEnum, auto
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, RootModel, TypeAdapter

from k2k.core.errors import DomainError
from k2k.infra.limits import Rate
from k2k.ops import channels
from k2k.ops.channels import Allows, Kind, Presence
from k2k.ops.files import FileRules, Files
from k2k.ops.permissions import PERMISSIONS, Permission, Role

T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]
PARTS = ("path", "query", "head", "body")
FILES = "files"
KEY_FIELD = "idempotency_key"
"""In an rpc's flat object what the Idempotency-Key header is to a request."""
_PLACEHOLDER = re.compile(r"{(\w+)}")


class Json(bytes, Generic[T]):
    """JSON that PostgreSQL rendered, handed on as it is. `T` is the model it follows, for documents and tests."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is longer than memory should hold: what kind of file, its name, and its bytes as they come.

    The first bytes are awaited before anything is answered, so what goes wrong until then is still a problem document.
    """

    media_type: str
    name: str
    chunks: AsyncIterator[bytes]


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
    files: FileRules | None = None
    """What may be uploaded as multipart/form-data, where the handler takes `files`."""
    media: tuple[str, ...] = ()
    """The media types of a streamed answer."""
    fixed: Mapping[str, StrEnum] = field(default_factory=dict)
    """Fields of the path model that this address has decided: it is one of several that were declared together."""

    @property
    def name(self) -> str:
        """Of the handler, with what the address has decided: no two operations share it."""
        return "_".join((self.handler.__name__, *(value.value for value in self.fixed.values())))

    @property
    def public(self) -> bool:
        """Whether nobody needs to be signed in."""
        return self.may in PERMISSIONS[Role.anonymous]

    def split(self, flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """An rpc's flat object as its parts. What no part knows goes to the last one, which refuses it by name."""
        wanted = [part for part in PARTS if part in self.models]
        parts: dict[str, dict[str, Any]] = {part: {} for part in wanted}
        owner = {name: part for part in wanted for name in self.wire_names(part)}
        for name, value in flat.items():
            parts.setdefault(owner.get(name, wanted[-1] if wanted else "body"), {})[name] = value
        if self.fixed:
            parts["path"] |= self.fixed
        return parts

    def wire_names(self, part: str) -> list[str]:
        """What a client may name in this part."""
        return [name for name in _wire_names(self.models[part]) if name not in self.fixed]

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
        files: FileRules | None = None,
        media: Iterable[str] = (),
        over: type[StrEnum] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Make the decorated handler an operation.

        `may` is the permission it needs, `rpc` its name on a socket (none: HTTP only), `status` that of success,
        `raises` the errors of its own, beyond those every operation may answer, `headers` what its Reply adds. Reads
        repeat freely, writes by the client_id in their body or else by key, unless `repeats` says otherwise. `files`
        says what a handler with that parameter takes, `media` as what a Streamed answer may come.

        `over` declares one operation for each member: its value takes the place of the path's first placeholder,
        which is a field of the path model of that type. The last one has the rpc.
        """

        def register(handler: Handler) -> Handler:
            hints = get_type_hints(handler)
            models = _models_of(handler, hints)
            first = _PLACEHOLDER.search(path)
            for value in over or (None,):
                operation = Operation(
                    handler=handler,
                    method=method,
                    path=path if value is None else _PLACEHOLDER.sub(value.value, path, count=1),
                    may=may,
                    rpc=rpc if over is None or value is list(over)[-1] else None,
                    status=status,
                    raises=tuple(raises),
                    tag=self.tag,
                    models=models,
                    answer=_answer_of(hints["return"]),
                    form=form,
                    repeats=repeats or _repeats(method, models.get("body")),
                    rate=rate,
                    headers=tuple(headers),
                    files=files,
                    media=tuple(media),
                    fixed={first[1]: value} if first is not None and value is not None else {},
                )
                _check(operation, hints)
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
    if names[:1] != ["call"] or not set(names[1:]) <= {*PARTS, FILES}:
        raise TypeError(f"{handler.__name__}: parameters are call, then any of {', '.join((*PARTS, FILES))}")
    unsaid = {*names[1:], "return"} - hints.keys()
    if unsaid:
        raise TypeError(f"{handler.__name__}: no annotation for {', '.join(sorted(unsaid))}")
    models = {name: hints[name] for name in names[1:] if name != FILES}
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


def _check(operation: Operation, hints: Mapping[str, Any]) -> None:
    if operation.public and operation.repeats is Repeats.by_key:
        raise TypeError(f"{operation.name}: keys are kept for people, and nobody is signed in: say how it repeats")
    placeholders = _PLACEHOLDER.findall(operation.path)
    if sorted(placeholders) != sorted(operation.wire_names("path") if "path" in operation.models else []):
        raise TypeError(f"{operation.name}: the fields of its path model are not those of {operation.path}")
    _check_files(operation, hints)
    names = [name for model in operation.models.values() for name in _wire_names(model)]
    if KEY_FIELD in names:
        raise TypeError(f"{operation.name}: {KEY_FIELD} is no field of a model: the doors take it out")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TypeError(f"{operation.name}: {', '.join(twice)} stands in two parts; an rpc's object is flat")


def _check_files(operation: Operation, hints: Mapping[str, Any]) -> None:
    if (operation.files is not None) != (hints.get(FILES) == Files):
        raise TypeError(f"{operation.name}: a parameter `files: Files` and the rules for it come together")
    if operation.files is not None and ("body" in operation.models or operation.repeats is Repeats.by_key):
        raise TypeError(f"{operation.name}: files are the whole body, and pass by once: it must repeat freely")
    if (operation.answer is Streamed) != bool(operation.media):
        raise TypeError(f"{operation.name}: a Streamed answer and the media types of it come together")
    if (operation.files is not None or operation.media) and operation.rpc is not None:
        raise TypeError(f"{operation.name}: files do not travel over a socket")
