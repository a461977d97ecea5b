"""The tables of docs/live.md that are made from what the code declares: channels, and events with their payload.

They stand between `<!-- name -->` and `<!-- /name -->`; everything else in the page is written by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping

from k2k.infra.streams import Event
from k2k.ops.channels import Kind
from k2k.ops.permissions import PERMISSIONS, Role
from k2k.web.live import Live, brief, duration
from k2k.web.schemas import Schemas


def renewed(page: str, live: Live) -> str:
    """The page with its tables of today. Raises ValueError where the markers of one are missing."""
    for name, lines in _TABLES.items():
        page, found = re.subn(
            rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)",
            "\n" + "".join(f"{line}\n" for line in lines(live)).replace("\\", r"\\") + "\n",
            page,
            flags=re.DOTALL,
        )
        if found != 1:
            raise ValueError(f"docs/live.md: <!-- {name} --> and <!-- /{name} --> must stand there once")
    return page


def _channels(live: Live) -> Iterator[str]:
    yield "| channel | what comes | who may try | kept | presence | clients publish | state |"
    yield "|---|---|---|---|---|---|---|"
    for kind in live.channels:
        roles = "everyone" if kind.public else ", ".join(role for role in Role if kind.may in PERMISSIONS[role])
        kept = duration(kind.kept) if kind.kept is not None else "no"
        presence = kind.presence.name if kind.presence.name != "hidden" else "no"
        state = f"`{kind.state}`" if kind.state is not None else ""
        address = f"`{kind.pattern.replace('{', '<').replace('}', '>')}`"
        yield f"| {address} | {kind.summary} | {roles} | {kept} | {presence} | {_said(kind)} | {state} |"


def _said(kind: Kind) -> str:
    if kind.says is None:
        return "no"
    return ", ".join(f"`{name}`" for name in kind.says.model_fields)


def _events(live: Live) -> Iterator[str]:
    parts = {event.type: [model for model in (event, event.joined) if model is not None] for event in live.events}
    schemas = Schemas(
        ((type_, str(place)), "serialization", model)
        for type_, models in parts.items()
        for place, model in enumerate(models)
    )
    yield "| event | in | what happened | `data` |"
    yield "|---|---|---|---|"
    for event in live.events:
        keys = [(event.type, str(place)) for place in range(len(parts[event.type]))]
        fields = [f"`{name}` {_cell(brief(field, schemas))}" for key in keys for name, field, _ in schemas.fields(key)]
        yield f"| `{event.type}` | {', '.join(event.to)} | {_text(event)} | {'<br>'.join(fields)} |"


def _text(event: type[Event]) -> str:
    return _cell(" ".join((inspect.getdoc(event) or "").split()))


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


_TABLES: Mapping[str, Callable[[Live], Iterator[str]]] = {"channels": _channels, "events": _events}
