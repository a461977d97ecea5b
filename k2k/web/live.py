"""What the live door offers, and the words in which documents tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel

from k2k.infra.streams import Event
from k2k.ops.channels import Kind, Presence
from k2k.ops.registry import Operation
from k2k.web.schemas import Schema, Schemas, without_null


@dataclass(frozen=True)
class Live:
    """What the live door offers."""

    path: str
    """Of the websocket."""
    subprotocols: Sequence[str]
    connect: type[BaseModel]
    """The `data` of a connect."""
    channels: Sequence[Kind]
    events: Sequence[type[Event]]
    operations: Sequence[Operation]

    @property
    def rpcs(self) -> Iterator[tuple[str, Operation]]:
        """The operations that can be called here, by their name."""
        return ((operation.rpc, operation) for operation in self.operations if operation.rpc is not None)

    def told_in(self, kind: Kind) -> list[type[Event]]:
        """The events that go to channels of this kind."""
        return [event for event in self.events if kind.name in event.to]

    def check(self) -> None:
        """Raise TypeError where an event does not say where it goes, or names a kind of channel that keeps none."""
        kept = {kind.name for kind in self.channels if kind.kept is not None}
        for event in self.events:
            to = set(getattr(event, "to", ()))
            if not to:
                raise TypeError(f"{event.__name__}: `to` must name the kinds of channels it goes to")
            if to - kept:
                raise TypeError(f"{event.__name__}: no channel that keeps events is of kind {', '.join(to - kept)}")


def said(kind: Kind) -> str:
    """The name of what clients publish in channels of this kind."""
    return f"{kind.name}.said"


def traits(kind: Kind) -> Iterator[str]:
    """What a kind of channel is like, a sentence each."""
    yield "Open to everyone." if kind.public else f"Needs the permission {kind.may.value}."
    if kind.kept is None:
        yield "Nothing is kept: what is said is heard or lost."
    else:
        yield f"Events can be read again for {duration(kind.kept)}."
    if kind.presence is not Presence.hidden:
        yield "Who follows it can be seen." if kind.presence is Presence.people else "How many follow it can be seen."
    if kind.says is not None:
        yield "Clients publish here."
    if kind.state is not None:
        yield f"The rpc `{kind.state}` answers its state with the position."
    if kind.at_once is not None:
        yield f"At most {kind.at_once} a socket."


def duration(kept: timedelta) -> str:
    """A whole number of days, hours or minutes in words."""
    minutes = round(kept.total_seconds() / 60)
    for size, word in ((24 * 60, "day"), (60, "hour"), (1, "minute")):
        if minutes % size == 0:
            return f"{minutes // size} {word}{'s' if minutes != size else ''}"
    raise AssertionError("every number is divisible by 1")


def brief(schema: Schema, schemas: Schemas) -> str:
    """A schema in a few words, as a table has room for them."""
    shown = schemas.resolved(without_null(schema))
    null = " | null" if {"type": "null"} in schema.get("anyOf", ()) else ""
    if "anyOf" in shown:
        return " | ".join(brief(option, schemas) for option in shown["anyOf"]) + null
    word = shown.get("format") or shown.get("type") or "any"
    said = shown.get("enum") or ([shown["const"]] if "const" in shown else [])
    return (" | ".join(f"`{value}`" for value in said) or str(word)) + null
