"""Access tokens under attack: what is not ours, not meant for this or no longer good opens nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from k2k.core.errors import TokenExpired, Unauthenticated
from k2k.core.ids import SignInId, UserId
from k2k.core.settings import Settings
from k2k.features.accounts.tokens import LEEWAY_SECONDS, MAXIMUM_LENGTH, Tokens
from tests.features.accounts.forge import FUTURE, claims_of, execute, key_of, part, refresh, refused, signed
from tests.support import Api, Node, People

MISSING = object()


async def test_our_own_forgery_is_good_when_nothing_is_wrong_with_it(
    api: Api, people: People, settings: Settings
) -> None:
    """Or all of the refusals below would prove nothing."""
    person = await people.buyer()
    assert (await api.get("/auth/me", token=signed(claims_of(person.token), settings))).status == 200


@pytest.mark.parametrize(
    ("header", "digest"),
    [
        ({"alg": "none"}, "sha256"),
        ({"alg": "None"}, "sha256"),
        ({"alg": "HS512"}, "sha512"),
        ({"alg": "HS384"}, "sha384"),
        ({"alg": "RS256"}, "sha256"),
        ({"alg": "ES256"}, "sha256"),
        ({"alg": ""}, "sha256"),
        ({"alg": None}, "sha256"),
        ({"alg": ["HS256"]}, "sha256"),
        ({"alg": "HS256"}, "sha512"),
        ({"alg": "HS256", "crit": ["k2k"]}, "sha256"),
    ],
)
async def test_only_our_algorithm_signs(
    api: Api, people: People, settings: Settings, header: Mapping[str, Any], digest: str
) -> None:
    person = await people.buyer()
    await refused(api, signed(claims_of(person.token), settings, digest=digest, **header))


async def test_a_token_without_a_signature_or_with_another_is_refused(
    api: Api, people: People, settings: Settings
) -> None:
    person = await people.buyer()
    head, payload, signature = person.token.split(".")
    none = part(b'{"alg":"none","typ":"JWT"}')
    raised = part(json.dumps(claims_of(person.token) | {"sub": str(uuid4())}).encode())
    for token in (
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{none}.{payload}.",
        f"{none}.{payload}.{signature}",
        f"{head}.{raised}.{signature}",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        f"{head}.{payload}.{signature}.{signature}",
        signed(claims_of(person.token), settings, key=key_of(settings)[::-1]),
        signed(claims_of(person.token), settings, key=""),
        signed(claims_of(person.token), settings, key=hashlib.sha256(key_of(settings).encode()).hexdigest()),
    ):
        await refused(api, token)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        *[(claim, MISSING) for claim in ("exp", "iat", "sub", "sid", "jti", "iss", "aud", "type")],
        *[(claim, None) for claim in ("exp", "iat", "sub", "sid", "jti", "iss", "aud", "type")],
        ("exp", str(FUTURE)),
        ("exp", FUTURE + 0.5),
        ("exp", 1e308),
        ("exp", float("inf")),
        ("exp", float("nan")),
        ("exp", 10**15),
        ("exp", 10**400),
        ("exp", True),
        ("exp", [FUTURE]),
        ("iat", str(1)),
        ("iat", True),
        ("iat", FUTURE),
        ("iat", 1e308),
        ("iat", 10**400),
        ("nbf", FUTURE),
        ("sub", 7),
        ("sub", ""),
        ("sub", "018f0000-0000-7000-8000-000000000000"),
        ("sid", "018f0000-0000-7000-8000-000000000000"),
        ("sid", 7),
        ("jti", 7),
        ("jti", "not an id"),
        ("iss", "somebody else"),
        ("iss", ["key2key"]),
        ("aud", "somebody else"),
        ("aud", ["key2key"]),
        ("aud", ["key2key", "other"]),
        ("type", "refresh"),
        ("type", "reset"),
        ("type", ["access"]),
        ("role", "admin"),
    ],
)
async def test_every_claim_is_there_of_its_type_and_meant_for_us(
    api: Api, people: People, settings: Settings, claim: str, value: object
) -> None:
    person = await people.buyer()
    claims = claims_of(person.token) | {claim: value}
    if value is MISSING:
        del claims[claim]
    await refused(api, signed(claims, settings))


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b'"text"', b"{", b"[" * 1400, b'{"a":' * 250 + b"1" + b"}" * 250, b"\xff", b"{}"]
)
async def test_claims_that_are_not_an_object_are_refused(api: Api, settings: Settings, payload: bytes) -> None:
    await refused(api, signed(payload, settings))


@pytest.mark.parametrize("head", [b"", b"null", b"[]", b"[" * 1400, b"{", b"\xff", b'{"alg":"HS256"', b'{"alg":{}}'])
async def test_a_header_that_is_not_an_object_is_refused(api: Api, people: People, head: bytes) -> None:
    _, payload, signature = (await people.buyer()).token.split(".")
    await refused(api, f"{part(head)}.{payload}.{signature}")


async def test_of_a_claim_that_stands_there_twice_none_counts_for_more(
    api: Api, people: People, settings: Settings
) -> None:
    """Whichever counts, it cannot make two people out of one signature that is not ours to begin with."""
    mine, other = await people.buyer(), await people.buyer()
    twice = json.dumps(claims_of(mine.token))[:-1] + f', "sub": "{other.id}"}}'
    await refused(api, signed(twice.encode(), settings))


async def test_a_token_outlives_nobody(api: Api, node: Node, people: People) -> None:
    """Neither an account that was deleted nor one that was closed, however good its token."""
    for change in ("deleted_at = now()", "is_active = false"):
        person = await people.buyer()
        await execute(node, f"update users set {change} where id = $1", person.id)  # noqa: S608 - our own words
        await refused(api, person.token)
        answer = await refresh(api, person.refresh_token)
        assert (answer.status, answer.json["code"]) == (401, "refresh-refused")


async def test_the_database_knows_the_role_and_no_token_does(
    api: Api, node: Node, people: People, settings: Settings
) -> None:
    buyer = await people.buyer()
    assert (await api.get("/leads", token=buyer.token)).status == 403
    await refused(api, signed(claims_of(buyer.token) | {"role": "admin"}, settings))
    assert (await api.get("/leads", token=signed(claims_of(buyer.token), settings, role="admin"))).status == 403


async def test_one_person_s_id_with_another_s_sign_in_is_refused(api: Api, people: People, settings: Settings) -> None:
    mine, other = await people.buyer(), await people.buyer()
    await refused(api, signed(claims_of(mine.token) | {"sub": str(other.id)}, settings))
    await refused(api, signed(claims_of(mine.token) | {"sid": str(other.sign_in_id)}, settings))


async def test_a_token_that_has_run_out_says_so(api: Api, node: Node, people: People, settings: Settings) -> None:
    person = await people.buyer()
    now = int(node.process.db.clock.now().timestamp())
    for expired in (now, now - 1, now - 10**9, 0):
        await refused(api, signed(claims_of(person.token) | {"exp": expired, "iat": 0}, settings), "token-expired")
    await refused(api, signed(claims_of(person.token) | {"exp": now - 1, "aud": "x"}, settings))


def test_the_moment_of_expiry_is_too_late_and_iat_may_be_a_rounding_early(settings: Settings) -> None:
    tokens, now = Tokens(settings.auth), datetime(2026, 1, 1, tzinfo=UTC)
    token = tokens.access(UserId(uuid4()), SignInId(uuid4()), now)
    end = now + tokens.access_lifetime
    assert tokens.read(token, "access", end - timedelta(milliseconds=1)).type == "access"
    with pytest.raises(TokenExpired):
        tokens.read(token, "access", end)
    early = now - timedelta(seconds=LEEWAY_SECONDS)
    assert tokens.read(token, "access", early).iat == int(now.timestamp())
    with pytest.raises(Unauthenticated, match="future"):
        tokens.read(token, "access", early - timedelta(milliseconds=1))


def test_no_two_access_tokens_are_the_same_and_none_tells_more_than_ids(settings: Settings) -> None:
    tokens, now = Tokens(settings.auth), datetime(2026, 1, 1, tzinfo=UTC)
    user, sign_in = UserId(uuid4()), SignInId(uuid4())
    first, second = (tokens.access(user, sign_in, now) for _ in range(2))
    assert first != second
    assert set(claims_of(first)) == {"iss", "aud", "sub", "sid", "jti", "iat", "exp", "type"}
    assert len(first) < MAXIMUM_LENGTH / 2
    assert repr(settings.auth.secret.get_secret_value()) not in repr(tokens)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "",
        " ",
        "Basic dXNlcjpwYXNz",
        "Token {token}",
        "{token}",
        "Bearer {token} {token}",
        "Bearer {token}x",
        "Bearer {token},",
        "Bearer '{token}'",
        "Bearer Bearer {token}",
        "Bearer\u00a0{token}",
        "Bearer é{token}",
    ],
)
async def test_the_header_is_bearer_and_a_token(api: Api, people: People, header: str) -> None:
    person = await people.buyer()
    answer = await api.get("/auth/me", headers={"Authorization": header.format(token=person.token)})
    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_the_scheme_is_the_same_however_it_is_spelled(api: Api, people: People) -> None:
    person = await people.buyer()
    for scheme in ("bearer", "BEARER", "Bearer "):
        answer = await api.get("/auth/me", headers={"Authorization": f"{scheme} {person.token}"})
        assert answer.status == 200


async def test_a_token_stands_in_the_header_only(api: Api, people: People) -> None:
    person = await people.buyer()
    for where in ("token", "access_token"):
        assert (await api.get(f"/auth/me?{where}={person.token}")).status in {401, 422}
    assert (await api.get("/auth/me", headers={"Cookie": f"access_token={person.token}"})).status == 401


async def test_a_bad_token_is_refused_even_where_nobody_needs_one(api: Api, people: People) -> None:
    assert (await api.get("/properties")).status == 200
    await people.buyer()
    answer = await api.get("/properties", token="nonsense")
    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")


async def test_a_token_longer_than_any_of_ours_is_not_looked_at(
    api: Api, people: People, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    long = signed(claims_of(person.token), settings, padding="x" * MAXIMUM_LENGTH)
    looked: list[str] = []
    monkeypatch.setattr(jwt, "decode", lambda token, *rest, **more: looked.append(token))
    await refused(api, long)
    assert looked == []


async def test_a_megabyte_of_token_hurts_nobody(api: Api, people: People) -> None:
    person = await people.buyer()
    host, port = api.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    said = b""
    try:
        head = b"GET /api/v1/auth/me HTTP/1.1\r\nHost: k2k\r\nConnection: close\r\nAuthorization: Bearer "
        writer.write(head + b"a" * 1_000_000 + b"\r\n\r\n")
        async with asyncio.timeout(5):
            said = await reader.read()
    except ConnectionError:
        pass  # it may hang up while we are still talking
    finally:
        writer.close()
    assert said == b"" or said.split(b" ")[1] in {b"400", b"401", b"431"}
    assert (await api.get("/auth/me", token=person.token)).status == 200
    for length, status in ((2049, 422), (1_000_000, 413)):
        answer = await api.post("/auth/refresh", json={"refresh_token": "a" * length})
        assert answer.status == status
