"""Who is limited together and who is not: the policy, and what both doors say about it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from ipaddress import ip_network
from uuid import uuid4

import asyncpg
import pytest

from k2k.core.errors import Limited
from k2k.core.settings import Settings
from k2k.features.accounts import api as accounts
from k2k.infra.limits import Limits
from k2k.infra.metrics import Metrics
from k2k.ops import limits
from k2k.ops.limits import network_of
from tests.support import PASSWORD, Live, LiveError, Node, People, Person, Response, a_property

USER, ADDRESS = 6, 8
USER_COMMANDS, ADDRESS_COMMANDS = 10, 12
ORIGIN = "https://key2key.example"


@pytest.fixture
def strict(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Limits that are soon reached and not paid back while a test runs, under a prefix of the test's own."""
    monkeypatch.setattr(limits, "MINUTE", 3600.0)
    changes = {
        "enabled": True,
        "user_per_minute": USER,
        "address_per_minute": ADDRESS,
        "commands_per_user_minute": USER_COMMANDS,
        "commands_per_address_minute": ADDRESS_COMMANDS,
    }
    return settings.model_copy(
        update={
            "limits": settings.limits.model_copy(update=changes),
            "redis": settings.redis.model_copy(update={"prefix": f"strict-{uuid4().hex}"}),
            "server": settings.server.model_copy(update={"origins": (ORIGIN,)}),
        }
    )


@pytest.fixture
async def strict_node(strict: Settings) -> AsyncIterator[Node]:
    node = await Node.start(strict)
    yield node
    await node.stop()


def parts(header: str) -> dict[str, dict[str, int]]:
    """A list of quoted names with whole-number parameters (RFC 9651), by name."""
    found = {}
    for item in header.split(", "):
        matched = re.fullmatch(r'"([a-z_]+)"((?:;[a-z]+=\d+)+)', item)
        assert matched, header
        pairs = (pair.split("=") for pair in matched[2].strip(";").split(";"))
        found[matched[1]] = {name: int(value) for name, value in pairs}
    return found


def limited(answer: Response) -> bool:
    """Whether it was one too many; then everything a client goes by is there."""
    if answer.status != 429:
        return False
    assert answer.json["code"] == "limited"
    assert int(answer.headers["Retry-After"]) == answer.json["retry_after"] >= 1
    assert min(each["r"] for each in parts(answer.headers["RateLimit"]).values()) == 0
    return True


async def use_up(node: Node, person: Person, count: int = USER) -> None:
    for _ in range(count):
        assert (await node.api.get("/auth/me", token=person.token)).status == 200


# People and addresses


async def test_a_person_has_one_count_on_all_processes_and_by_both_doors(strict: Settings, people: People) -> None:
    nodes = [await Node.start(strict) for _ in range(2)]
    person = await people.buyer()
    try:
        async with nodes[0].live(person.token) as one, nodes[1].live(person.token) as other:
            await use_up(nodes[0], person, 2)
            await use_up(nodes[1], person, 2)
            await one.rpc("me.get")
            await other.rpc("me.get")
            assert limited(await nodes[0].api.get("/auth/me", token=person.token))
            assert limited(await nodes[1].api.get("/auth/me", token=person.token))
            for live in (one, other):
                with pytest.raises(LiveError) as refused:
                    await live.rpc("me.get")
                assert refused.value.code == 1005
                assert refused.value.problem["status"] == 429
                assert refused.value.problem["retry_after"] >= 1
    finally:
        for node in nodes:
            await node.stop()


async def test_at_once_by_both_doors_exactly_as_many_pass_as_may(strict_node: Node, people: People) -> None:
    person = await people.buyer()

    async def by_rpc(live: Live) -> bool:
        try:
            await live.rpc("me.get")
        except LiveError as error:
            return error.code != 1005
        return True

    async def by_rest() -> bool:
        return (await strict_node.api.get("/auth/me", token=person.token)).status == 200

    async with strict_node.live(person.token) as live:
        passed = await asyncio.gather(*(by_rpc(live) if number % 2 else by_rest() for number in range(USER * 4)))
    assert sum(passed) == USER


async def test_two_people_at_one_address_do_not_share(strict_node: Node, people: People) -> None:
    one, other = await people.buyer(), await people.buyer()
    await use_up(strict_node, one)
    assert limited(await strict_node.api.get("/auth/me", token=one.token))
    await use_up(strict_node, other)
    assert (await strict_node.api.get("/properties")).status == 200


async def test_two_sign_ins_of_a_person_share(strict_node: Node, people: People) -> None:
    person = await people.buyer()
    await use_up(strict_node, person)
    signed_in = await strict_node.api.post("/auth/login", json={"email": person.email, "password": PASSWORD})
    assert limited(await strict_node.api.get("/auth/me", token=signed_in.json["access_token"]))


@pytest.mark.parametrize("token", ["x", "x.y.z", "é", "Ab" * 2000])
async def test_tokens_that_do_not_hold_are_counted_by_address(strict_node: Node, people: People, token: str) -> None:
    """However many different ones are tried; and whoever does hold one is not kept out by them."""
    person = await people.buyer()
    answers = [
        await strict_node.api.get("/auth/me", headers={"Authorization": f"Bearer {token}{number}"})
        for number in range(ADDRESS + 3)
    ]
    assert [answer.status for answer in answers] == [401] * ADDRESS + [429] * 3
    assert limited(answers[-1])
    assert limited(await strict_node.api.get("/properties"))
    await use_up(strict_node, person, 1)


async def test_forged_and_ended_tokens_ask_the_database_for_nothing(
    strict_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature is looked at first; one that is ours and was signed out costs a look a second, however often sent."""
    person, db = await people.buyer(), strict_node.process.db
    await strict_node.api.post("/auth/logout", token=person.token)
    asked, records = [], db.records

    async def noted(text: str, arguments: object) -> list[asyncpg.Record]:
        asked.append(text)
        return await records(text, arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(db, "records", noted)
        for number in range(ADDRESS):
            forged = f"{person.token[:-4]}{number:04}"
            await strict_node.api.get("/auth/me", token=forged)
        assert [text for text in asked if "sign_ins" in text] == []
        await asyncio.gather(*(strict_node.api.get("/auth/me", token=person.token) for _ in range(20)))
    assert len([text for text in asked if "sign_ins" in text]) <= 2


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:C000:0207", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:0001:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::2%\udcff\n", "fe80::/64"),
        ("", "unknown"),
        ("unix:", "unknown"),
        ("192.0.2.7:80", "unknown"),
        ("192.0.2.007", "unknown"),
        ("\udcff", "unknown"),
        ("x" * 10_000, "unknown"),
    ],
)
def test_an_address_counts_as_what_one_customer_has(address: str, counts_as: str) -> None:
    assert network_of(address) == counts_as


async def test_behind_a_proxy_the_client_is_counted_and_hearsay_is_not(strict: Settings) -> None:
    server = strict.server.model_copy(update={"proxies": (ip_network("127.0.0.0/8"),)})
    node = await Node.start(strict.model_copy(update={"server": server}))
    try:
        for number in range(ADDRESS):  # one customer, made up addresses before and different ends of the network
            told = f"198.51.100.{number}, 2001:db8::{number:x}"
            answer = await node.api.get("/properties", headers={"X-Forwarded-For": told})
            assert answer.status == 200
            assert parts(answer.headers["RateLimit"])["address"]["r"] == ADDRESS - 1 - number
            assert len(answer.headers["X-Request-ID"]) == 32
        assert limited(await node.api.get("/properties", headers={"X-Forwarded-For": "2001:db8::ffff"}))
        assert (await node.api.get("/properties", headers={"X-Forwarded-For": "2001:db8:0:1::"})).status == 200
    finally:
        await node.stop()


# Operations with a rate of their own


async def test_an_operation_with_a_rate_of_its_own_says_both(
    settings: Settings, strict: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await Node.start(strict.model_copy(update={"limits": settings.limits.model_copy(update={"enabled": True})}))
    rate = accounts.SIGN_IN_RATE
    wrong = {"email": "nobody@people.example", "password": "wrong horse battery"}
    try:
        first = await node.api.post("/auth/login", json=wrong)
        policies = parts(first.headers["RateLimit-Policy"])
        assert policies["login"] == {"q": rate.count, "w": 60}
        assert policies.keys() == {"address", "login"}
        left = parts(first.headers["RateLimit"])
        assert left["login"] == {"r": rate.count - 1, "t": 1}
        assert left["address"]["r"] == settings.limits.address_per_minute - 1
        answers = await asyncio.gather(*(node.api.post("/auth/login", json={}) for _ in range(rate.count + 20)))
        refused = [answer for answer in answers if limited(answer)]
        assert 19 <= len(refused) <= 21
        assert parts(refused[0].headers["RateLimit"])["address"]["r"] > 0
        assert (await node.api.get("/properties")).status == 200
        assert (await node.api.post("/auth/refresh", json={"refresh_token": "x"})).status == 401
    finally:
        await node.stop()


# What sockets ask besides calls


async def test_the_commands_of_all_sockets_of_a_person_are_counted_together(strict: Settings, people: People) -> None:
    """On all processes; calls, leaving and the person's neighbours are not touched by it."""
    nodes = [await Node.start(strict) for _ in range(2)]
    person, other = await people.buyer(), await people.buyer()
    try:
        async with nodes[0].live(person.token) as one, nodes[1].live(person.token) as two:
            for _ in range(USER_COMMANDS // 2):
                await one.command("history", {"channel": one.personal})
                await two.command("history", {"channel": two.personal})
            for kind in ("subscribe", "history", "presence", "presence_stats", "publish", "sub_refresh"):
                for live in (one, two):
                    with pytest.raises(LiveError) as refused:
                        await live.command(kind, {"channel": live.personal})
                    assert refused.value.code == 111
                    assert refused.value.temporary
            await one.command("unsubscribe", {"channel": one.personal})
            await one.rpc("me.get")
            async with nodes[0].live(other.token) as neighbour:
                await neighbour.command("history", {"channel": neighbour.personal})
        assert [node.process.metrics.limited.labels("user_commands")._value.get() for node in nodes] == [6, 6]
    finally:
        for node in nodes:
            await node.stop()


async def test_strangers_at_one_address_share_one_count_of_commands(strict_node: Node, people: People) -> None:
    person = await people.buyer()
    async with contextlib.AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(Live.open(strict_node.api.base)) for _ in range(3)]
        for stranger in strangers:
            await stranger.connect("")
        for number in range(ADDRESS_COMMANDS):
            await strangers[number % 3].subscribe(f"map:12/1/{number}")
        for stranger in strangers:
            with pytest.raises(LiveError) as refused:
                await stranger.subscribe("map:12/2/1")
            assert refused.value.code == 111
        async with strict_node.live(person.token) as live:
            await live.subscribe("map:12/2/1")


async def test_an_app_that_comes_back_on_every_device_is_not_refused(settings: Settings, people: People) -> None:
    """Four devices subscribe to thirty channels each, at once, and somebody types all the while."""
    counted = settings.limits.model_copy(update={"enabled": True})
    node, person = await Node.start(settings.model_copy(update={"limits": counted})), await people.buyer()

    async def come_back() -> None:
        async with node.live(person.token) as live:
            for number in range(15):
                await live.subscribe(f"map:12/3/{number}")
                await live.command("history", {"channel": live.personal})

    try:
        await asyncio.gather(*(come_back() for _ in range(4)))
        assert node.process.metrics.limited.labels("user_commands")._value.get() == 0
    finally:
        await node.stop()


# What a refusal costs and tells


async def test_a_limited_request_is_refused_before_its_body_is_read_and_the_database_asked(
    strict_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    await use_up(strict_node, person)
    host, port = strict_node.api.base.removeprefix("http://").split(":")
    db = strict_node.process.db
    monkeypatch.setattr(db, "transaction", None)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /api/v1/properties HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n" % person.token.encode()
    )
    status = await asyncio.wait_for(reader.readline(), 2)
    writer.close()
    assert status.split()[1] == b"429"


async def test_a_limited_rpc_asks_the_database_for_nothing(
    strict_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, db = await people.agent(), strict_node.process.db
    async with strict_node.live(person.token) as live:
        for _ in range(USER):
            await live.rpc("me.get")
        with monkeypatch.context() as patch:
            patch.setattr(db, "transaction", None)
            patch.setattr(db, "together", None)
            for method, data in {"property.publish": a_property(), "chat.send": {}, "me.get": {"odd": 1}}.items():
                with pytest.raises(LiveError) as refused:
                    await live.rpc(method, **data)
                assert refused.value.code == 1005


async def test_what_is_refused_is_counted_and_a_page_may_read_why(strict_node: Node, people: People) -> None:
    person = await people.buyer()
    for _ in range(USER):
        assert (await strict_node.api.post("/properties", json={"odd": 1}, token=person.token)).status in {403, 422}
    answer = await strict_node.api.get("/auth/me", token=person.token, headers={"Origin": ORIGIN})
    assert limited(answer)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert exposed >= {"RateLimit", "RateLimit-Policy", "Retry-After"}
    assert parts(answer.headers["RateLimit-Policy"]) == {"user": {"q": USER, "w": 3600}}
    assert parts(answer.headers["RateLimit"])["user"]["t"] <= 3600


async def test_refusals_are_measured_by_policy(strict: Settings) -> None:
    operation = next(operation for operation in accounts.routes.operations if operation.name == "login")
    metrics = Metrics()
    counter = Limits(strict.redis, metrics)
    guard = limits.Guard(counter, strict.limits, metrics)
    try:
        for _ in range(ADDRESS):
            guard.enforce(await guard.count(operation, None, "192.0.2.1"))
        with pytest.raises(Limited) as refused:
            guard.enforce(await guard.count(operation, None, "192.0.2.1"))
        assert refused.value.retry_after == 3600 // ADDRESS
        assert metrics.limited.labels("address")._value.get() == 1
    finally:
        await counter.close()


async def test_switched_off_nothing_is_counted_or_told(node: Node) -> None:
    answer = await node.api.get("/properties")
    assert "RateLimit" not in answer.headers
    assert "RateLimit-Policy" not in answer.headers
