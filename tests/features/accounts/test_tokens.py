"""Tokens under attack: what is not ours or no longer good opens nothing, a stolen refresh token ends its sign-in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
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
from tests.support import PASSWORD, Api, Node, People, Person, Response, eventually

MISSING = object()


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def key_of(settings: Settings) -> str:
    return settings.auth.secret.get_secret_value()


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def signed(claims: Mapping[str, Any] | bytes, key: str, *, digest: str = "sha256", **header: Any) -> str:
    """A token with any header and any claims, whatever a library thinks of them."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = part(json.dumps({"alg": "HS256", "typ": "JWT"} | header).encode()) + "." + part(payload)
    return f"{text}.{part(hmac.digest(key.encode(), text.encode(), digest))}"


async def refused(api: Api, token: str, code: str = "unauthenticated") -> None:
    answer = await api.get("/auth/me", token=token)
    assert (answer.status, answer.json["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def execute(node: Node, statement: str, *arguments: object) -> list[Any]:
    async with node.process.db.transaction() as tx:
        return [tuple(record) for record in await tx.records(statement, arguments)]


# Access tokens


async def test_our_own_forgery_is_good_when_nothing_is_wrong_with_it(
    api: Api, people: People, settings: Settings
) -> None:
    """Or all of the refusals below would prove nothing."""
    person = await people.buyer()
    assert (await api.get("/auth/me", token=signed(claims_of(person.token), key_of(settings)))).status == 200


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
    await refused(api, signed(claims_of(person.token), key_of(settings), digest=digest, **header))


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
        signed(claims_of(person.token), key_of(settings)[::-1]),
        signed(claims_of(person.token), ""),
        signed(claims_of(person.token), hashlib.sha256(key_of(settings).encode()).hexdigest()),
    ):
        await refused(api, token)


FUTURE = 4_000_000_000


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
    await refused(api, signed(claims, key_of(settings)))


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b'"text"', b"{", b"[" * 1400, b'{"a":' * 250 + b"1" + b"}" * 250, b"\xff", b"{}"]
)
async def test_claims_that_are_not_an_object_are_refused(api: Api, settings: Settings, payload: bytes) -> None:
    await refused(api, signed(payload, key_of(settings)))


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
    await refused(api, signed(twice.encode(), key_of(settings)))


async def test_one_person_s_id_with_another_s_sign_in_is_refused(api: Api, people: People, settings: Settings) -> None:
    mine, other = await people.buyer(), await people.buyer()
    await refused(api, signed(claims_of(mine.token) | {"sub": str(other.id)}, key_of(settings)))
    await refused(api, signed(claims_of(mine.token) | {"sid": str(other.sign_in_id)}, key_of(settings)))


async def test_a_token_that_has_run_out_says_so(api: Api, node: Node, people: People, settings: Settings) -> None:
    person = await people.buyer()
    now = int(node.process.db.clock.now().timestamp())
    for expired in (now, now - 1, now - 10**9, 0):
        await refused(
            api, signed(claims_of(person.token) | {"exp": expired, "iat": 0}, key_of(settings)), "token-expired"
        )
    await refused(api, signed(claims_of(person.token) | {"exp": now - 1, "aud": "x"}, key_of(settings)))


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
    long = signed(claims_of(person.token), key_of(settings), padding="x" * MAXIMUM_LENGTH)
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


# Refresh tokens


async def refresh(api: Api, token: str) -> Response:
    return await api.post("/auth/refresh", json={"refresh_token": token})


async def renewed(api: Api, token: str) -> dict[str, Any]:
    answer = await refresh(api, token)
    assert answer.status == 200, answer.json
    assert answer.headers["Cache-Control"] == "no-store"
    pair: dict[str, Any] = answer.json
    return pair


async def is_dead(node: Node, doors: tuple[Api, ...], person: Person, *pairs: Mapping[str, Any]) -> None:
    """No token of the sign-in opens anything, on any process, within a second; and it was told once why."""

    async def dead() -> bool:
        answers = [await door.get("/auth/me", token=token) for door in doors for token in access]
        return {answer.status for answer in answers} == {401}

    access = [person.token, *(pair["access_token"] for pair in pairs)]
    start = time.monotonic()
    await eventually(dead, seconds=1.5)
    assert time.monotonic() - start < 1.5
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


async def test_a_refresh_token_brings_the_next_pair_of_the_same_sign_in(
    api: Api, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    pair = await renewed(api, person.refresh_token)
    assert pair["refresh_token"] != person.refresh_token
    assert claims_of(pair["access_token"])["sid"] == str(person.sign_in_id)
    assert claims_of(pair["refresh_token"])["exp"] >= claims_of(person.refresh_token)["exp"]
    for door in (api, second_node.api):
        for token in (person.token, pair["access_token"]):
            assert (await door.get("/auth/me", token=token)).json["id"] == str(person.id)
    again = await renewed(second_node.api, pair["refresh_token"])
    assert len({person.refresh_token, pair["refresh_token"], again["refresh_token"]}) == 3


async def test_an_old_token_after_its_successor_was_used_ends_the_whole_sign_in(
    api: Api, node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    other = (await api.post("/auth/login", json={"email": person.email, "password": PASSWORD})).json
    first = await renewed(api, person.refresh_token)
    second = await renewed(second_node.api, first["refresh_token"])
    for door in (api, second_node.api):
        assert (await door.get("/auth/me", token=second["access_token"])).status == 200
    stolen = await refresh(api, person.refresh_token)
    assert (stolen.status, stolen.json["code"]) == (401, "refresh-refused")
    assert stolen.headers["WWW-Authenticate"].startswith("Bearer")
    await is_dead(node, (api, second_node.api), person, first, second)
    assert (await api.get("/auth/me", token=other["access_token"])).status == 200
    assert (await refresh(api, other["refresh_token"])).status == 200


async def test_a_lost_answer_may_be_asked_for_once_more_and_is_exactly_the_same(
    api: Api, node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    lost = await renewed(api, person.refresh_token)
    repeated = await renewed(second_node.api, person.refresh_token)
    assert repeated["refresh_token"] == lost["refresh_token"]
    assert await token_rows(node, person) == 2
    assert (await api.get("/auth/me", token=repeated["access_token"])).status == 200
    await renewed(api, repeated["refresh_token"])
    assert await token_rows(node, person) == 3


async def test_a_lost_answer_cannot_be_asked_for_twice(api: Api, node: Node, people: People) -> None:
    person = await people.buyer()
    first = await renewed(api, person.refresh_token)
    second = await renewed(api, person.refresh_token)
    assert (await refresh(api, person.refresh_token)).status == 401
    await is_dead(node, (api,), person, first, second)


@pytest.mark.parametrize(("seconds", "status"), [(8, 200), (11, 401)])
async def test_a_lost_answer_can_be_asked_for_within_ten_seconds(
    api: Api, node: Node, people: People, seconds: int, status: int
) -> None:
    person = await people.buyer()
    pair = await renewed(api, person.refresh_token)
    jti = claims_of(person.refresh_token)["jti"]
    earlier = "update refresh_tokens set used_at = used_at - make_interval(secs => $1) where id = $2::text::uuid"
    await execute(node, earlier, float(seconds), jti)
    answer = await refresh(api, person.refresh_token)
    assert answer.status == status
    if status == 200:
        assert answer.json["refresh_token"] == pair["refresh_token"]
    else:
        await is_dead(node, (api,), person, pair)


async def test_many_refreshes_at_once_are_one_rotation(api: Api, node: Node, second_node: Node, people: People) -> None:
    person = await people.buyer()
    doors = [api, second_node.api]
    answers = await asyncio.gather(*(refresh(doors[number % 2], person.refresh_token) for number in range(20)))
    assert await token_rows(node, person) == 2
    good = [answer.json for answer in answers if answer.status == 200]
    assert len(good) == 2, "the rotation and the one repeat of its answer"
    assert len({pair["refresh_token"] for pair in good}) == 1
    assert {answer.status for answer in answers} == {200, 401}
    await is_dead(node, (api, second_node.api), person, *good)


async def test_two_refreshes_at_once_keep_the_person_signed_in(
    api: Api, node: Node, second_node: Node, people: People
) -> None:
    for _ in range(5):
        person = await people.buyer()
        both = await asyncio.gather(*(renewed(door, person.refresh_token) for door in (api, second_node.api)))
        assert both[0]["refresh_token"] == both[1]["refresh_token"]
        assert await token_rows(node, person) == 2
        assert (await api.get("/auth/me", token=both[0]["access_token"])).status == 200


async def test_signing_out_and_refreshing_at_once_leaves_nobody_signed_in(
    api: Api, node: Node, second_node: Node, people: People
) -> None:
    for _ in range(5):
        person = await people.buyer()
        out, pair = await asyncio.gather(
            api.post("/auth/logout", token=person.token), refresh(second_node.api, person.refresh_token)
        )
        assert (out.status, pair.status in {200, 401}) == (200, True)
        if pair.status == 200:
            assert (await api.get("/auth/me", token=pair.json["access_token"])).status == 401
            assert (await refresh(api, pair.json["refresh_token"])).status == 401


async def test_each_token_is_good_for_its_own_purpose_only(api: Api, people: People, node: Node) -> None:
    person = await people.buyer()
    await refused(api, person.refresh_token)
    answer = await refresh(api, person.token)
    assert (answer.status, answer.json["code"]) == (401, "refresh-refused")
    assert (await api.get("/auth/me", token=person.token)).status == 200
    assert await token_rows(node, person) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"jti": "018f0000-0000-7000-8000-000000000000"},
        {"sid": "018f0000-0000-7000-8000-000000000000"},
        {"sub": "018f0000-0000-7000-8000-000000000000"},
        {"exp": 1_000_000_000, "iat": 1},
        {"exp": str(FUTURE)},
        {"exp": 10**400},
        {"iat": FUTURE},
        {"aud": "somebody else"},
        {"type": "access"},
    ],
)
async def test_a_refresh_token_with_anything_wrong_is_refused_and_ends_nothing(
    api: Api, node: Node, people: People, settings: Settings, changes: dict[str, Any]
) -> None:
    person = await people.buyer()
    answer = await refresh(api, signed(claims_of(person.refresh_token) | changes, key_of(settings)))
    assert (answer.status, answer.json["code"]) == (401, "refresh-refused")
    assert await token_rows(node, person) == 1
    await renewed(api, person.refresh_token)


async def test_a_refresh_token_of_another_deployment_or_person_is_refused(
    api: Api, people: People, settings: Settings
) -> None:
    mine, other = await people.buyer(), await people.buyer()
    claims, theirs = claims_of(mine.refresh_token), claims_of(other.refresh_token)
    for token in (
        signed(claims, key_of(settings)[::-1]),
        signed(claims | {"sid": theirs["sid"]}, key_of(settings)),
        signed(claims | {"sub": theirs["sub"]}, key_of(settings)),
        signed(claims | {"jti": theirs["jti"]}, key_of(settings)),
        "nonsense",
        "é",
        "a.b.c",
    ):
        answer = await refresh(api, token)
        assert (answer.status, answer.json["code"]) == (401, "refresh-refused")
    for person in (mine, other):
        await renewed(api, person.refresh_token)


@pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": 7}, {"refresh_token": "a", "b": 1}])
async def test_a_refresh_needs_one_token(api: Api, body: Mapping[str, Any]) -> None:
    assert (await api.post("/auth/refresh", json=body)).status == 422


async def test_nothing_in_the_database_is_a_token(node: Node, people: People) -> None:
    """Rows hold ids; without the signing key they open nothing."""
    person = await people.buyer()
    rows = await execute(
        node,
        "select refresh_tokens::text, sign_ins::text from refresh_tokens "
        "join sign_ins on sign_ins.id = sign_in_id where sign_in_id = $1",
        person.sign_in_id,
    )
    for token in (person.token, person.refresh_token):
        assert token.split(".")[2] not in str(rows)
