"""Whether two sides answer the same, however each of them writes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def differences(ours: Any, theirs: Any, at: str = "") -> list[str]:
    """Where two JSON values differ in content: numbers are compared by value, moments by the moment they tell."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        only = [f"{at}/{name} is on one side only" for name in sorted(ours.keys() ^ theirs.keys())]
        return only + [
            found
            for name in ours.keys() & theirs.keys()
            for found in differences(ours[name], theirs[name], f"{at}/{name}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return [f"{at} has {len(ours)} and {len(theirs)} items"]
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [found for place, pair in pairs for found in differences(*pair, f"{at}/{place}")]
    same = type(ours) is type(theirs) or (_number(ours) and _number(theirs))
    if same and (ours == theirs or (_moment(ours) is not None and _moment(ours) == _moment(theirs))):
        return []
    return [f"{at}: {ours!r} and {theirs!r}"]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moment(value: Any) -> datetime | None:
    """The moment a text tells, if it is one with its offset."""
    if not isinstance(value, str) or len(value) < len("2026-11-22T10:00:00Z"):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else None
