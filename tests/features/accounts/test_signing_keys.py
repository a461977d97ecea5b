"""The signing secret changes without signing anybody out: those with the old and those with the new one get along."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import jwt
import pytest
from pydantic import SecretStr

from k2k.core.settings import Settings
from k2k.features.accounts.tokens import key_id
from tests.features.accounts.forge import claims_of, key_of, refresh, refused, renewed, signed
from tests.support import Api, Node, People


def keyed(settings: Settings, secret: str, *previous: str) -> Settings:
    auth = {"secret": SecretStr(secret), "previous_secrets": tuple(map(SecretStr, previous))}
    return settings.model_copy(update={"auth": settings.auth.model_copy(update=auth)})


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@dataclass(frozen=True)
class Rollout:
    """The same service amid a change of its secret, process by process."""

    told: Node
    """Signs with the old secret and knows the new one."""
    changed: Node
    """Signs with the new secret and still knows the old one."""
    done: Node
    """Knows the new secret only."""
    new: str
    old: str


@pytest.fixture(scope="module")
async def rollout(settings: Settings) -> AsyncIterator[Rollout]:
    old, new = key_of(settings), secrets.token_urlsafe(48)
    async with AsyncExitStack() as stack:
        nodes = []
        for one in (keyed(settings, old, new), keyed(settings, new, old), keyed(settings, new)):
            nodes.append(await Node.start(one))
            stack.push_async_callback(nodes[-1].stop)
        told, changed, done = nodes
        yield Rollout(told, changed, done, new, old)


async def test_every_token_is_good_everywhere_while_both_secrets_are_known(rollout: Rollout) -> None:
    for maker in (rollout.told, rollout.changed):
        person = await People(maker).buyer()
        for node in (rollout.told, rollout.changed):
            assert (await node.api.get("/auth/me", token=person.token)).json["id"] == str(person.id)
    assert kid_of((await People(rollout.told).buyer()).token) == key_id(rollout.old)
    assert kid_of((await People(rollout.changed).buyer()).token) == key_id(rollout.new)


async def test_a_sign_in_goes_on_over_the_change(rollout: Rollout) -> None:
    person = await People(rollout.told).buyer()
    pair = await renewed(rollout.changed.api, person.refresh_token)
    assert kid_of(pair["access_token"]) == kid_of(pair["refresh_token"]) == key_id(rollout.new)
    again = await renewed(rollout.told.api, pair["refresh_token"])
    last = await renewed(rollout.changed.api, again["refresh_token"])
    assert (await rollout.done.api.get("/auth/me", token=last["access_token"])).status == 200
    assert (await refresh(rollout.done.api, last["refresh_token"])).status == 200


async def test_an_answer_lost_at_one_secret_may_be_asked_for_at_the_other(rollout: Rollout) -> None:
    person = await People(rollout.told).buyer()
    lost = await renewed(rollout.told.api, person.refresh_token)
    repeated = await renewed(rollout.changed.api, person.refresh_token)
    assert claims_of(repeated["refresh_token"]) == claims_of(lost["refresh_token"])
    assert (await refresh(rollout.done.api, repeated["refresh_token"])).status == 200


async def test_what_the_old_secret_signed_is_nothing_once_it_is_forgotten(rollout: Rollout) -> None:
    person = await People(rollout.told).buyer()
    await refused(rollout.done.api, person.token)
    answer = await refresh(rollout.done.api, person.refresh_token)
    assert (answer.status, answer.json["code"]) == (401, "refresh-refused")
    # Not recognised is not reused: the sign-in lives where the secret is still known.
    assert (await rollout.changed.api.get("/auth/me", token=person.token)).status == 200


async def test_a_key_signs_under_its_own_name_only(rollout: Rollout, settings: Settings) -> None:
    person = await People(rollout.changed).buyer()
    for key, kid in ((rollout.old, key_id(rollout.new)), (rollout.new, key_id(rollout.old))):
        await refused(rollout.changed.api, signed(claims_of(person.token), settings, key=key, kid=kid))


@pytest.mark.parametrize("kid", [None, "", 0, True, [], {}, "00000000", "' or 1=1 --", "../../secret", "k" * 1000])
async def test_a_token_of_no_key_of_ours_is_refused(api: Api, people: People, settings: Settings, kid: object) -> None:
    person = await people.buyer()
    await refused(api, signed(claims_of(person.token), settings, kid=kid))


async def test_a_token_that_names_no_key_is_refused(api: Api, people: People, settings: Settings) -> None:
    person = await people.buyer()
    unnamed = jwt.encode(claims_of(person.token), key_of(settings), algorithm="HS256")
    await refused(api, unnamed)


def test_the_name_of_a_key_is_short_steady_and_not_the_key() -> None:
    assert key_id("one secret") == key_id("one secret") != key_id("another secret")
    assert len(bytes.fromhex(key_id("one secret"))) == 4
