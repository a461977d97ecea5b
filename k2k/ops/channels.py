"""What a channel is to the doors: a kind of address, who may follow it, and what it carries. Features declare kinds.

    @routes.channel("agency:{agency_id}", may=Permission.claim_leads, kept=timedelta(days=30), presence=Presence.people)
    async def follow_agency(db: Reader, asked: Sequence[Asked[AgencyPath]]) -> list[bool]:
        '''What an agency's owner and managers follow.'''

The decorated function decides, for many at once and in their order, whether each may follow; `may` only says which
roles can try.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Generic, Self, TypeVar, get_args

from pydantic import BaseModel

from k2k.core.errors import Invalid
from k2k.core.ids import Channel, UserId
from k2k.infra.streams import Position
from k2k.infra.transaction import Reader
from k2k.ops.permissions import PERMISSIONS, Permission, Role
from k2k.ops.validation import Answer, validate

Path = TypeVar("Path", bound=BaseModel)


class Nothing(BaseModel):
    """The path of a channel without placeholders."""


# PostgreSQL keeps no longer ones, and no kind needs half of it.
LONGEST = 255
_PLACEHOLDER = re.compile(r"{(\w+)}")


class StreamPosition(Answer):
    """A place in a channel's stream of events."""

    epoch: str
    offset: int

    @classmethod
    def of(cls, position: Position) -> Self:
        return cls(epoch=position.epoch, offset=position.offset)


class Presence(Enum):
    """What followers may know of each other."""

    hidden = auto()
    count = auto()
    people = auto()


@dataclass(frozen=True, slots=True)
class Asked(Generic[Path]):
    """Somebody wants to follow a channel. `user_id` is None for a socket without a sign-in."""

    user_id: UserId | None
    path: Path


Allows = Callable[[Reader, Sequence[Asked[Any]]], Awaitable[Sequence[bool]]]


@dataclass(frozen=True)
class Kind:
    """One kind of channel."""

    pattern: str
    """The address with {placeholders}, which are the fields of `path`."""
    path: type[BaseModel]
    may: Permission
    allows: Allows
    kept: timedelta | None
    """How long its events can be read again; None: it has no history, what is said is heard or lost."""
    presence: Presence
    says: type[BaseModel] | None
    """What a client may publish; None: nothing."""
    state: str | None
    """The rpc that answers, with its position, the state which the events keep up to date."""
    at_once: int | None
    """How many of this kind one socket may follow; None: as many as of all kinds together."""

    @property
    def name(self) -> str:
        """What its channels begin with."""
        return self.pattern.partition(":")[0]

    @property
    def summary(self) -> str:
        return (self.allows.__doc__ or "").strip()

    @property
    def public(self) -> bool:
        """Whether nobody needs to be signed in."""
        return self.may in PERMISSIONS[Role.anonymous]

    def parse(self, channel: str) -> BaseModel | None:
        """The fields of a channel's address; None if it is no address of this kind."""
        found = self._regex.fullmatch(channel)
        if found is None:
            return None
        try:
            path = validate(self.path, found.groupdict(), "path")
        except Invalid:
            return None
        # An id has many spellings and a channel one: another one would be a second stream.
        return path if self.pattern.format(**path.model_dump(mode="json")) == channel else None

    @property
    def _regex(self) -> re.Pattern[str]:
        regex = self.__dict__.get("_compiled")
        if regex is None:
            regex = re.compile(_PLACEHOLDER.sub(r"(?P<\1>[^:/]+)", self.pattern))
            self.__dict__["_compiled"] = regex
        return regex


@dataclass(frozen=True, slots=True)
class Address:
    """A channel that a kind knows."""

    channel: Channel
    kind: Kind
    path: BaseModel


class Channels:
    """All kinds of channels of a process."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._kinds: Mapping[str, Kind] = {kind.name: kind for kind in kinds}

    def find(self, channel: str) -> Address | None:
        """What `channel` addresses; None if nothing."""
        kind = self._kinds.get(channel.partition(":")[0]) if len(channel) <= LONGEST else None
        path = kind.parse(channel) if kind is not None else None
        return Address(Channel(channel), kind, path) if kind is not None and path is not None else None


def path_of(hint: Any) -> type[BaseModel]:
    """The model in the annotation Sequence[Asked[model]]."""
    (asked,) = get_args(hint)
    (path,) = get_args(asked)
    if not (inspect.isclass(path) and issubclass(path, BaseModel)):
        raise TypeError(f"asked must be Sequence[Asked[model]], not {hint}")
    return path


def check(kind: Kind) -> None:
    """Raise TypeError unless the declaration makes sense."""
    placeholders = sorted(_PLACEHOLDER.findall(kind.pattern))
    if placeholders != sorted(kind.path.model_fields):
        raise TypeError(f"{kind.pattern}: the fields of its path model are not its placeholders")
    if kind.says is not None and (kind.public or kind.kept is not None):
        raise TypeError(f"{kind.pattern}: only signed-in people speak, and only where nothing is kept")
