"""Performing an operation, the same behind both doors: run it, render its answer, and keep that for a repeat.

A client that got no answer asks again with the same Idempotency-Key and gets the first answer, exactly. The key, the
answer and what the operation wrote are one transaction: there is no moment at which one is there without the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from k2k.core.errors import IdempotencyInProgress, IdempotencyMismatch, Invalid, Problem
from k2k.core.ids import UserId
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.call import Call
from k2k.ops.registry import Operation, Repeats, Reply, Streamed

KEY = re.compile(r"[\x21-\x7e]{1,255}")
HANDFUL = 5000
"""Answers forgotten by one statement."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What an operation answered, rendered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Streamed | None = None
    """The answer where it is too long for `body`."""


@dataclass(frozen=True, slots=True)
class _Held:
    held: bool


@dataclass(frozen=True, slots=True)
class _Forgotten:
    rows: int


@dataclass(frozen=True, slots=True)
class _Kept:
    request_hash: bytes
    status: int
    headers: bytes
    body: bytes


_queries = Queries("idempotency")
HOLD_KEY = _queries.rows("hold_key", _Held)
FIND_ANSWER = _queries.rows("find_answer", _Kept)
KEEP_ANSWER = _queries.command("keep_answer")
FORGET_ANSWERS = _queries.rows("forget_answers", _Forgotten)


def key_of(operation: Operation, sent: object, pointer: str, part: Literal["header", "body"]) -> str | None:
    """The idempotency key that was `sent`, where the operation keeps answers; None if it does not, or none was.

    Raises Invalid, which names where it stood, if it is no key.
    """
    if sent is None or operation.repeats is not Repeats.by_key:
        return None
    if not isinstance(sent, str) or not KEY.fullmatch(sent):
        raise Invalid(problems=[Problem(pointer, part, "key", "The key must be 1 to 255 visible ASCII characters")])
    return sent


async def perform(operation: Operation, call: Call, parts: Mapping[str, Any], key: str | None) -> Answered:
    """Run the operation with its validated parts, or answer as the first call with this `key` (see `key_of`) did.

    Raises what the operation raises, and for a key: IdempotencyInProgress while the first call runs,
    IdempotencyMismatch if it came with other content.
    """
    if key is None:
        return await _run(operation, call, parts)
    asked = _fingerprint(parts)
    async with call.services.db.transaction() as tx:
        known = await _known(tx, call.user.id, operation.name, key)
        if known is not None:
            if known.request_hash != asked:
                raise IdempotencyMismatch
            call.services.db.metrics.replayed.inc()
            return Answered(known.status, known.body, from_json(known.headers))
        answered = await _run(operation, replace(call, tx=tx), parts)
        await tx.run(
            KEEP_ANSWER,
            call.user.id,
            operation.name,
            key,
            asked,
            answered.status,
            to_json(dict(answered.headers)),
            answered.body,
        )
    return answered


async def forget_answers(db: Reader) -> None:
    """Drop the answers whose day is over."""
    while (await db.rows(FORGET_ANSWERS, HANDFUL))[0].rows == HANDFUL:
        pass


async def _known(tx: Tx, user: UserId, operation: str, key: str) -> _Kept | None:
    """The first answer, if there is one. Holds the key until the transaction ends."""
    (lock,) = await tx.rows(HOLD_KEY, f"{user} {operation} {key}")
    if not lock.held:
        raise IdempotencyInProgress
    # A statement of its own: it must see what was committed before the key was held.
    return await tx.find(FIND_ANSWER, user, operation, key)


async def _run(operation: Operation, call: Call, parts: Mapping[str, Any]) -> Answered:
    reply = await operation.handler(call, **parts)
    headers: Mapping[str, str] = {}
    if isinstance(reply, Reply):
        reply, headers = reply.value, reply.headers
    if isinstance(reply, Streamed):
        return Answered(operation.status, b"", headers, reply)
    return Answered(operation.status, operation.render(reply), headers)


def _fingerprint(parts: Mapping[str, BaseModel]) -> bytes:
    """Equal for requests that mean the same, however their JSON was written."""
    meant = {name: parts[name].model_dump(mode="json", exclude_unset=True) for name in sorted(parts)}
    return hashlib.sha256(to_json(meant)).digest()
