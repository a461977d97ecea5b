"""The queue in words, for `run.py jobs`. No payload is shown: it may hold what only its receiver may read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from k2k.infra.db import Db
from k2k.infra.jobs.queue import LISTED, Dead, dead_letters, drop, queue_state, retry

Action = Literal["list", "show", "retry", "drop"]


class NotDead(Exception):
    """Some of the ids are no dead letters; the message says which, and what was done with the others."""


async def answer(db: Db, action: Action, ids: Sequence[int] | None) -> str:
    """Do what was asked with the dead letters of these ids (None: all) and tell of it. Raises NotDead, Unavailable."""
    match action:
        case "list":
            return await _overview(db)
        case "show":
            found = await dead_letters(db, ids)
            told = "\n\n".join(map(_letter, found))
            return _complete(told, ids, [one.id for one in found])
        case "retry":
            again = await retry(db, ids)
            return _complete(f"{len(again)} to be tried anew", ids, again)
        case "drop":
            gone = await drop(db, ids or ())
            return _complete(f"{len(gone)} dropped", ids, gone)


async def _overview(db: Db) -> str:
    states = await queue_state(db)
    dead = await dead_letters(db)
    if not states:
        return "No jobs."
    lines = [f"{'name':<24} {'state':<8} {'jobs':>7}  oldest"]
    lines += [f"{one.name:<24} {one.state:<8} {one.jobs:>7}  {_age(one.seconds)}" for one in states]
    if dead:
        lines += ["", f"{'id':>8}  {'name':<24} {'tries':>5}  {'dead since':<17}  last error"]
        lines += [
            f"{one.id:>8}  {one.name:<24} {one.tries:>5}  {one.since:%Y-%m-%d %H:%M}Z  {one.error}" for one in dead
        ]
        lines += [f"These are the {LISTED} oldest."] if len(dead) == LISTED else []
        lines += ["", "run.py jobs show <id> · retry <id …> or --all · drop <id …>"]
    return "\n".join(lines)


def _letter(one: Dead) -> str:
    lines = [
        f"id          {one.id}",
        f"name        {one.name}",
        f"enqueued    {one.created:%Y-%m-%d %H:%M:%S}Z",
        f"dead since  {one.since:%Y-%m-%d %H:%M:%S}Z",
        f"tries       {one.tries}",
        f"last error  {one.error}",
    ]
    return "\n".join([*lines, "", one.traceback.rstrip()] if one.traceback else lines)


def _complete(told: str, asked: Sequence[int] | None, done: Sequence[int]) -> str:
    missing = [] if asked is None else sorted(set(asked) - set(done))
    if missing:
        raise NotDead(f"{told}\nNo dead letter: {', '.join(map(str, missing))}".strip())
    return told


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
