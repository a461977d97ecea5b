"""Tokens good and forged, and what becomes of the sign-in they belong to."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import jwt

from k2k.core.settings import Settings
from k2k.features.accounts.tokens import key_id
from tests.support import Api, Node, Person, Response, eventually

FUTURE = 4_000_000_000


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def key_of(settings: Settings) -> str:
    return settings.auth.secret.get_secret_value()


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def signed(
    claims: Mapping[str, Any] | bytes,
    settings: Settings,
    *,
    key: str | None = None,
    digest: str = "sha256",
    **header: Any,
) -> str:
    """A token with any header and any claims, whatever a library thinks of them.

    It names our own key, and is signed with it unless another is given.
    """
    ours = key_of(settings)
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    head = json.dumps({"alg": "HS256", "typ": "JWT", "kid": key_id(ours)} | header)
    text = part(head.encode()) + "." + part(payload)
    return f"{text}.{part(hmac.digest((ours if key is None else key).encode(), text.encode(), digest))}"


async def refused(api: Api, token: str, code: str = "unauthenticated") -> None:
    answer = await api.get("/auth/me", token=token)
    assert (answer.status, answer.json["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def execute(node: Node, statement: str, *arguments: object) -> list[Any]:
    async with node.process.db.transaction() as tx:
        return [tuple(record) for record in await tx.records(statement, arguments)]


async def refresh(api: Api, token: str) -> Response:
    return await api.post("/auth/refresh", json={"refresh_token": token})


async def renewed(api: Api, token: str) -> dict[str, Any]:
    answer = await refresh(api, token)
    assert answer.status == 200, answer.json
    assert answer.headers["Cache-Control"] == "no-store"
    pair: dict[str, Any] = answer.json
    return pair


async def is_dead(node: Node, doors: tuple[Api, ...], person: Person, *pairs: Mapping[str, Any]) -> None:
    """No token of the sign-in opens anything, on any process, within moments; and it was told once why."""

    async def dead() -> bool:
        answers = [await door.get("/auth/me", token=token) for door in doors for token in access]
        return {answer.status for answer in answers} == {401}

    access = [person.token, *(pair["access_token"] for pair in pairs)]
    await eventually(dead, seconds=5)
    for token in [person.refresh_token, *(pair["refresh_token"] for pair in pairs)]:
        for door in doors:
            answer = await refresh(door, token)
            assert (answer.status, answer.json["code"]) == (401, "refresh-refused")
    because = "select revoked_because from sign_ins where id = $1 and revoked_at is not null"
    assert await execute(node, because, person.sign_in_id) == [("refresh-token-reused",)]
    told = (
        "select streams.channel, data->>'because' from events join streams on streams.id = stream_id "
        "where type = 'session.revoked' and data->>'sign_in_id' = $1"
    )
    assert await execute(node, told, str(person.sign_in_id)) == [(f"user:{person.id}", "refresh-token-reused")]


async def token_rows(node: Node, person: Person) -> int:
    ((count,),) = await execute(node, "select count(*) from refresh_tokens where sign_in_id = $1", person.sign_in_id)
    return int(count)
