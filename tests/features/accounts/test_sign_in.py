"""Registering, signing in and out: alike to strangers whatever is known, and bounded however many come."""

from __future__ import annotations

import asyncio
import email
import threading
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from email.policy import default as policy
from typing import Any
from uuid import uuid4

import pytest
from argon2 import PasswordHasher, extract_parameters

from k2k.core.settings import Settings
from k2k.features.accounts.errors import SignInBusy
from k2k.features.accounts.models import User
from k2k.features.accounts.passwords import Passwords
from tests.support import PASSWORD, Api, Node, People, Person, Response, eventually

FORM = "application/x-www-form-urlencoded"


def an_address() -> str:
    return f"{uuid4().hex}@people.example"


def registration(**changes: Any) -> dict[str, Any]:
    return {"full_name": "Abebe Kebede", "email": an_address(), "password": PASSWORD} | changes


def alike(answer: Response) -> Any:
    """The body without what differs between any two requests."""
    return {name: value for name, value in answer.json.items() if name != "request_id"}


async def mail_to(settings: Settings, address: str, count: int = 1) -> list[EmailMessage]:
    """The mail to the address (however it is spelled), oldest first, as soon as it is that many."""
    found: list[EmailMessage] = []

    async def arrived() -> bool:
        paths = sorted((settings.home / "mail").glob("*.eml"))
        messages = [email.message_from_bytes(path.read_bytes(), _class=EmailMessage, policy=policy) for path in paths]
        found[:] = [message for message in messages if str(message["To"]).lower() == address.lower()]
        return len(found) >= count

    await eventually(arrived)
    return found


async def execute(node: Node, statement: str, *arguments: object) -> list[Any]:
    async with node.process.db.transaction() as tx:
        return [tuple(record) for record in await tx.records(statement, arguments)]


async def log_in(api: Api, address: str, password: str = PASSWORD) -> Response:
    return await api.post("/auth/login", json={"email": address, "password": password})


# Registering


async def test_a_new_and_a_taken_address_get_the_same_answer_and_different_mail(api: Api, settings: Settings) -> None:
    wish = registration()
    first = await api.post("/auth/register", json=wish)
    second = await api.post("/auth/register", json=wish | {"full_name": "Somebody Else", "password": "another one"})
    assert (first.status, first.json) == (second.status, second.json)
    assert first.status == 202
    assert set(first.headers) == set(second.headers)
    welcome, warning = await mail_to(settings, wish["email"], 2)
    assert welcome["To"] == warning["To"] == wish["email"]
    assert "Abebe Kebede" in welcome.get_content()
    assert "already" in warning["Subject"]
    assert "Somebody Else" not in warning.get_content()
    assert (await log_in(api, wish["email"])).status == 200
    assert (await log_in(api, wish["email"], "another one")).status == 401


async def test_both_cost_one_hash(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = PasswordHasher.hash

    def counted(self: PasswordHasher, password: str, **more: Any) -> str:
        hashed.append(password)
        return real(self, password, **more)

    monkeypatch.setattr(PasswordHasher, "hash", counted)
    wish = registration()
    for _ in range(2):
        await api.post("/auth/register", json=wish)
    assert hashed == [PASSWORD] * 2


async def test_an_address_is_the_same_however_it_is_spelled(api: Api, node: Node, settings: Settings) -> None:
    wish = registration(email=f"Abebe.{uuid4().hex}@People.Example")
    for spelling in (str.title, str.upper, str.lower):
        assert (await api.post("/auth/register", json=wish | {"email": spelling(wish["email"])})).status == 202
    assert await execute(node, "select count(*) from users where email = $1::text::citext", wish["email"]) == [(1,)]
    assert [message["Subject"] for message in await mail_to(settings, wish["email"], 3)].count(
        "Welcome to Key2Key"
    ) == 1
    for address in (wish["email"], wish["email"].lower(), wish["email"].upper(), f"  {wish['email']} "):
        assert (await log_in(api, address)).status == 200, address


async def test_an_address_of_another_script_can_be_used(api: Api, settings: Settings) -> None:
    wish = registration(email=f"አበበ.{uuid4().hex}@people.example", full_name="አበበ ከበደ")
    assert (await api.post("/auth/register", json=wish)).status == 202
    (welcome,) = await mail_to(settings, wish["email"])
    assert "አበበ ከበደ" in welcome.get_content()
    assert (await log_in(api, wish["email"])).status == 200


async def test_many_at_once_open_one_account(api: Api, node: Node, settings: Settings) -> None:
    wish = registration()
    spellings = [wish["email"].upper() if number % 2 else wish["email"] for number in range(10)]
    answers = await asyncio.gather(*(api.post("/auth/register", json=wish | {"email": one}) for one in spellings))
    assert {answer.status for answer in answers} == {202}
    assert len({str(answer.json) for answer in answers}) == 1
    assert await execute(node, "select count(*) from users where email = $1::text::citext", wish["email"]) == [(1,)]
    subjects = [message["Subject"] for message in await mail_to(settings, wish["email"], 10)]
    assert (len(subjects), subjects.count("Welcome to Key2Key")) == (10, 1)


@pytest.mark.parametrize(
    ("password", "status"),
    [
        ("x" * 7, 422),
        ("x" * 8, 202),
        ("x" * 128, 202),
        ("x" * 129, 422),
        ("ፀሐይ 1234", 202),
        ("🔑" * 7, 422),
        ("🔑" * 128, 202),
        (" " * 8, 202),
    ],
)
async def test_a_password_has_8_to_128_characters_of_any_kind(api: Api, password: str, status: int) -> None:
    wish = registration(password=password)
    answer = await api.post("/auth/register", json=wish)
    assert answer.status == status
    if status == 422:
        assert [fault["pointer"] for fault in answer.json["errors"]] == ["/password"]
        assert password not in str(answer.json)
    else:
        assert (await log_in(api, wish["email"], password)).status == 200


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"role": "admin"}, {"/role"}),
        ({"is_verified": True, "id": "1"}, {"/is_verified", "/id"}),
        ({"email": "nobody"}, {"/email"}),
        ({"email": "a@b@c.example"}, {"/email"}),
        ({"email": "a\r\nBcc: b@people.example"}, {"/email"}),
        ({"email": f"{'a' * 250}@people.example"}, {"/email"}),
        ({"full_name": ""}, {"/full_name"}),
        ({"full_name": "   "}, {"/full_name"}),
        ({"full_name": "x" * 201}, {"/full_name"}),
        ({"full_name": 7, "email": None, "password": ["x"] * 8}, {"/full_name", "/email", "/password"}),
        ({"full_name": "", "a/b~c": 1}, {"/full_name", "/a~1b~0c"}),
        ({"full_name": "Abebe\x00", "email": "x", "password": "short"}, {"/full_name", "/email", "/password"}),
    ],
)
async def test_everything_wrong_is_told_at_once(
    api: Api, node: Node, changes: Mapping[str, Any], pointers: set[str]
) -> None:
    before = await execute(node, "select count(*) from users")
    refused = await api.post("/auth/register", json=registration(**changes))
    assert (refused.status, refused.json["code"]) == (422, "invalid")
    assert {fault["pointer"] for fault in refused.json["errors"]} == pointers
    assert {fault["in"] for fault in refused.json["errors"]} == {"body"}
    assert await execute(node, "select count(*) from users") == before


async def test_what_is_missing_is_named(api: Api) -> None:
    refused = await api.post("/auth/register", json={})
    found = {(fault["pointer"], fault["code"]) for fault in refused.json["errors"]}
    assert found == {("/full_name", "missing"), ("/email", "missing"), ("/password", "missing")}


async def test_a_name_cannot_put_words_into_the_head_of_a_mail(api: Api, settings: Settings) -> None:
    wish = registration(full_name="Abebe\r\nBcc: evil@people.example\r\n\r\n{{7*7}} %s {0}")
    assert (await api.post("/auth/register", json=wish)).status == 202
    (welcome,) = await mail_to(settings, wish["email"])
    assert set(welcome.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    assert "{{7*7}} %s {0}" in welcome.get_content()


# Signing in


async def test_signing_in_works_by_json_and_by_the_password_form(api: Api, people: People) -> None:
    person = await people.buyer()
    form = {"username": person.email, "password": PASSWORD}
    ignored = {"grant_type": "password", "scope": "", "client_id": "app", "client_secret": "x"}
    for answer in (
        await log_in(api, person.email),
        await api.post("/auth/login", data=form),
        await api.post("/auth/login", data=form | ignored),
        await api.post("/auth/login/", data=form | {"grant_type": "anything"}),
    ):
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert set(answer.json) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (answer.json["token_type"], answer.json["expires_in"]) == ("bearer", 1800)
        me = await api.get("/auth/me", token=answer.json["access_token"])
        assert me.json["id"] == str(person.id)


@pytest.mark.parametrize(
    ("sent", "pointers"),
    [
        (b"", {"/username", "/password"}),
        (b"password=x", {"/username"}),
        (b"username=a&password=b&remember=yes", {"/remember"}),
        (b"username=a%00&password=b", {"/username"}),
        (b"username=a&username=b&password=c", {"/username"}),
        (b"username=a&password=b&password=c", {"/password"}),
        (b"username=a&password=" + b"x" * 129, {"/password"}),
        (b"username=" + b"x" * 255 + b"&password=b", {"/username"}),
    ],
)
async def test_a_wrong_form_is_refused(api: Api, sent: bytes, pointers: set[str]) -> None:
    refused = await api.post("/auth/login", data=sent, headers={"Content-Type": FORM})
    assert (refused.status, refused.json["code"]) == (422, "invalid")
    assert {fault["pointer"] for fault in refused.json["errors"]} == pointers


@pytest.mark.parametrize(
    ("type_", "sent"),
    [
        (FORM, b"username=\xff&password=b"),
        (f"{FORM}; charset=utf-16", b"username=a&password=b"),
        (f"{FORM}; charset=nonsense", b"username=a&password=b"),
        (FORM, b"&".join(b"a%d=1" % number for number in range(2000))),
    ],
)
async def test_a_form_that_cannot_be_read_is_the_sender_s_fault(api: Api, type_: str, sent: bytes) -> None:
    refused = await api.post("/auth/login", data=sent, headers={"Content-Type": type_})
    assert 400 <= refused.status < 500


async def test_only_signing_in_takes_a_form(api: Api) -> None:
    refused = await api.post("/auth/register", data={name: str(value) for name, value in registration().items()})
    assert (refused.status, refused.json["code"]) == (415, "unsupported-media-type")


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords were checked against."""
    checked: list[str] = []
    real = PasswordHasher.verify

    def counted(self: PasswordHasher, hash: str | bytes, password: str | bytes) -> Any:
        checked.append(str(hash))
        return real(self, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    return checked


async def test_unknown_wrong_and_closed_look_alike_and_cost_the_same_work(
    api: Api, node: Node, people: People, verified: list[str]
) -> None:
    person, closed, deleted = [await people.buyer() for _ in range(3)]
    await execute(node, "update users set is_active = false where id = $1", closed.id)
    await execute(node, "update users set deleted_at = now() where id = $1", deleted.id)
    refusals = [
        await log_in(api, an_address()),
        await log_in(api, person.email, "wrong password"),
        await log_in(api, closed.email),
        await log_in(api, deleted.email),
        await log_in(api, "' or 1=1 --"),
    ]
    assert {answer.status for answer in refusals} == {401}
    assert all(alike(answer) == alike(refusals[0]) for answer in refusals)
    assert refusals[0].json["code"] == "wrong-credentials"
    assert len({frozenset(answer.headers) for answer in refusals}) == 1
    assert len(verified) == len(refusals)
    assert len({str(extract_parameters(hashed)) for hashed in verified}) == 1


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("correct horse", "correct horse "),
        ("correct horse ", "correct horse"),
        ("correct horse", "Correct horse"),
        ("ሰላም ለዓለም!", "ሰላም ለዓለም?"),
        ("caf\u00e9 caf\u00e9", "cafe\u0301 cafe\u0301"),
        ("x" * 127 + "y", "x" * 127 + "z"),
        ("12345678\u200b", "12345678"),
    ],
)
async def test_a_password_matches_exactly(api: Api, right: str, wrong: str) -> None:
    wish = registration(password=right)
    await api.post("/auth/register", json=wish)
    assert (await log_in(api, wish["email"], wrong)).status == 401
    assert (await log_in(api, wish["email"], right)).status == 200


async def test_a_password_too_long_to_be_one_is_not_hashed(api: Api, people: People, verified: list[str]) -> None:
    person = await people.buyer()
    for password, status in (("x" * 129, 422), ("x" * 300_000, 413), ("", 422)):
        assert (await log_in(api, person.email, password)).status == status
    assert verified == []


async def test_whatever_token_comes_along_when_signing_in_is_not_looked_at(api: Api, people: People) -> None:
    person = await people.buyer()
    wish = {"email": person.email, "password": PASSWORD}
    for header in ("Bearer nonsense", "Basic YTpi", ""):
        assert (await api.post("/auth/login", json=wish, headers={"Authorization": header})).status == 200


async def test_a_device_may_call_itself_anything(api: Api, node: Node, people: People) -> None:
    person = await people.buyer()
    body = b'{"email": "%s", "password": "%s"}' % (person.email.encode(), PASSWORD.encode())
    for name in (b"\xff\xfe", "ስልክ".encode(), b"x" * 4000):
        host, port = api.base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /api/v1/auth/login HTTP/1.1\r\nHost: k2k\r\nConnection: close\r\nUser-Agent: %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (name, len(body), body)
        )
        status, _ = (await asyncio.wait_for(reader.read(), 5)).split(b"\r\n", 1)
        writer.close()
        assert status == b"HTTP/1.1 200 OK", name
    longest = await execute(node, "select max(length(device)) from sign_ins where user_id = $1", person.id)
    assert longest == [(200,)]


# Who am I


async def test_me_is_the_account_without_its_secrets(api: Api, node: Node, people: People) -> None:
    person = await people.buyer()
    me = await api.get("/auth/me", token=person.token)
    assert set(me.json) == set(User.model_fields)
    assert (me.json["id"], me.json["email"], me.json["role"]) == (str(person.id), person.email, "buyer")
    ((hashed,),) = await execute(node, "select password_hash from users where id = $1", person.id)
    pair = await log_in(api, person.email)
    for answer in (me, pair):
        assert "password" not in str(answer.json)
        assert hashed not in str(answer.json)
    assert hashed.startswith("$argon2id$")


async def test_me_needs_somebody(api: Api) -> None:
    refused = await api.get("/auth/me")
    assert (refused.status, refused.json["code"]) == (401, "unauthenticated")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")


# Signing out, and accounts that end


async def refused_soon(api: Api, person: Person) -> None:
    """What a process knew of the sign-in it forgets within a second."""

    async def refused() -> bool:
        return (await api.get("/auth/me", token=person.token)).status == 401

    await eventually(refused, seconds=1.5)


async def test_signing_out_ends_both_tokens_on_every_process(
    api: Api, node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    other = (await log_in(api, person.email)).json
    assert (await second_node.api.get("/auth/me", token=person.token)).status == 200
    assert (await api.post("/auth/logout", token=person.token)).status == 200
    assert (await api.get("/auth/me", token=person.token)).status == 401
    await refused_soon(second_node.api, person)
    for door in (api, second_node.api):
        refused = await door.post("/auth/refresh", json={"refresh_token": person.refresh_token})
        assert (refused.status, refused.json["code"]) == (401, "refresh-refused")
    assert (await api.post("/auth/logout", token=person.token)).status == 401
    assert (await api.get("/auth/me", token=other["access_token"])).status == 200
    assert (await api.post("/auth/refresh", json={"refresh_token": other["refresh_token"]})).status == 200
    because = "select revoked_because from sign_ins where user_id = $1 order by id"
    assert await execute(node, because, person.id) == [("signed-out",), (None,)]


async def test_signing_out_twice_at_once_tells_it_once(api: Api, node: Node, people: People) -> None:
    person = await people.buyer()
    answers = await asyncio.gather(*(api.post("/auth/logout", token=person.token) for _ in range(5)))
    assert {answer.status for answer in answers} <= {200, 401}
    told = "select count(*) from events where type = 'session.revoked' and data->>'sign_in_id' = $1"
    assert await execute(node, told, str(person.sign_in_id)) == [(1,)]


async def test_the_database_says_who_is_in_and_in_which_role_and_is_heard_within_a_second(
    api: Api, node: Node, people: People
) -> None:
    person, agent = await people.buyer(), await people.agent()
    assert (await api.get("/auth/me", token=person.token)).status == 200
    assert (await api.get("/leads", token=agent.token)).status == 200
    await execute(node, "update users set is_active = false where id = $1", person.id)
    await execute(node, "update users set role = 'buyer' where id = $1", agent.id)

    async def demoted() -> bool:
        return (await api.get("/leads", token=agent.token)).status == 403

    await asyncio.gather(refused_soon(api, person), eventually(demoted, seconds=1.5))
    assert (await api.post("/auth/refresh", json={"refresh_token": person.refresh_token})).status == 401
    assert (await log_in(api, person.email)).status == 401


# Hashing is bounded


class Held:
    """Hashing that does not end before it is let go, and counts how many run at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.most = 0
        self.started = 0
        self._running = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(PasswordHasher, "hash", lambda hasher, password, **more: self.work(f"hash of {password}"))
        monkeypatch.setattr(PasswordHasher, "verify", lambda hasher, hash, password: self.work(True))

    def work(self, result: Any) -> Any:
        with self._lock:
            self.started += 1
            self._running += 1
            self.most = max(self.most, self._running)
        assert self.go.wait(10)
        with self._lock:
            self._running -= 1
        return result


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Two hashes at once and one that waits."""
    return settings.model_copy(
        update={"auth": settings.auth.model_copy(update={"argon2_at_once": 2, "argon2_waiting": 1})}
    )


@pytest.fixture
def passwords(small: Settings) -> Iterator[Passwords]:
    passwords = Passwords(small.auth)
    yield passwords
    passwords.close()


async def test_two_hashes_run_at_once_one_waits_and_the_next_is_refused(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    tasks = [asyncio.ensure_future(passwords.hash(name)) for name in "abc"]
    await asyncio.sleep(0)
    for refused in (passwords.hash("d"), passwords.matches("d", None)):
        with pytest.raises(SignInBusy):
            await refused
    held.go.set()
    assert await asyncio.gather(*tasks) == ["hash of a", "hash of b", "hash of c"]
    assert (held.most, held.started) == (2, 3)
    assert await passwords.hash("e") == "hash of e"


async def test_a_caller_that_goes_away_frees_no_place_before_its_hash_has_run(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    tasks = [asyncio.ensure_future(passwords.hash(name)) for name in "abc"]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with pytest.raises(SignInBusy):
        await passwords.hash("d")
    held.go.set()

    async def free() -> bool:
        try:
            return await passwords.hash("e") == "hash of e"
        except SignInBusy:
            return False

    await eventually(free, seconds=5)
    assert held.most <= 2


async def test_a_hash_of_nobody_never_matches(passwords: Passwords) -> None:
    assert not await passwords.matches("nobody's password", None)
    assert not await passwords.matches("x", "not a hash")
    hashed = await passwords.hash("right")
    assert await passwords.matches("right", hashed)
    assert not await passwords.matches("wrong", hashed)


async def test_too_many_at_once_are_asked_to_come_again(
    small: Settings, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    node = await Node.start(small)
    held = Held(monkeypatch)
    try:
        waiting = [asyncio.ensure_future(log_in(node.api, person.email)) for _ in range(6)]
        done: set[asyncio.Future[Response]] = set()
        while len(done) < 3:
            done, _ = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert done, "nobody was refused"
            await asyncio.sleep(0.01)
        for refused in (task.result() for task in done):
            assert (refused.status, refused.json["code"]) == (503, "sign-in-busy")
            assert int(refused.headers["Retry-After"]) >= 1
        assert (await node.api.get("/auth/me", token=person.token)).status == 200
        held.go.set()
        answers = await asyncio.gather(*waiting)
        assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 3
        assert held.most == 2
    finally:
        held.go.set()
        await node.stop()


async def test_hashing_leaves_the_loop_free(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads are the hasher's own, so that a flood of sign-ins does not use up everybody's."""
    monkeypatch.setattr(PasswordHasher, "hash", lambda hasher, password, **more: threading.current_thread().name)
    names = await asyncio.gather(*(passwords.hash("x") for _ in range(3)))
    assert all(name.startswith("argon2") for name in names)


async def test_an_id_that_is_nobody_s_is_not_found(api: Api, node: Node, people: People) -> None:
    """Signed in, and gone in the same second."""
    person = await people.buyer()
    assert (await api.get("/auth/me", token=person.token)).status == 200
    await execute(node, "update users set deleted_at = now() where id = $1", person.id)
    assert (await api.get("/auth/me", token=person.token)).status in {401, 404}
