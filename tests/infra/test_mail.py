"""Mail: queued while the mail server is away, refused for good where it says so, and known again by its Message-ID."""

from __future__ import annotations

import asyncio
import email
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as policy
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from pydantic import SecretStr, ValidationError

from k2k.app import open_studio, working
from k2k.core.settings import SettingsError, load
from k2k.infra.jobs.worker import Worker
from k2k.infra.mail import SendMail
from tests.support import Node, Workplace, eventually, free_port

PASSWORD = "open/sesame @ night"


@dataclass
class PostOffice:
    """A real SMTP server on a port of its own, that can be closed and opened again."""

    port: int = field(default_factory=free_port)
    received: list[Envelope] = field(default_factory=list)
    answer: str = "250 taken"
    server: asyncio.Server | None = None
    options: dict[str, Any] = field(default_factory=dict)

    async def handle_RCPT(
        self, _server: object, _session: object, envelope: Envelope, address: str, _options: object
    ) -> str:
        if address.startswith("nobody@"):
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:
        if self.answer.startswith("2"):
            self.received.append(envelope)
        return self.answer

    async def open(self) -> None:
        self.server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(self, enable_SMTPUTF8=True, hostname="office.example", **self.options), "127.0.0.1", self.port
        )

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()

    @property
    def messages(self) -> list[EmailMessage]:
        return [
            email.message_from_bytes(one.content, _class=EmailMessage, policy=policy)  # type: ignore[arg-type]
            for one in self.received
        ]

    async def has_some(self) -> bool:
        return bool(self.received)


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    office = PostOffice()
    await office.open()
    yield office
    await office.close()


async def sending(workplace: Workplace, office: PostOffice, login: str = "") -> Worker:
    """The house's own worker, with this post office."""
    mail = workplace.settings.mail.model_copy(update={"url": SecretStr(f"smtp://{login}127.0.0.1:{office.port}")})
    studio = await open_studio(workplace.settings, workplace.db.clock)
    worker = working(workplace.settings.model_copy(update={"mail": mail}), workplace.db, studio)
    workplace.workers.append(worker)
    await worker.start()
    return worker


def a_mail(**changes: str) -> SendMail:
    return SendMail.model_validate({"to": "abebe@people.example", "subject": "ሰላም", "text": "Selam Abebe\n"} | changes)


async def test_a_mail_arrives_as_it_was_written(workplace: Workplace, office: PostOffice) -> None:
    await sending(workplace, office)
    await workplace.enqueue(a_mail(text="Selam አበበ,\n.\nBcc: evil@people.example\n"))
    await eventually(workplace.empty)
    (envelope,), (message,) = office.received, office.messages
    assert (envelope.mail_from, envelope.rcpt_tos) == ("hello@key2key.example", ["abebe@people.example"])
    assert str(message["From"]) == "Key2Key <hello@key2key.example>"
    assert (message["Subject"], message["Bcc"]) == ("ሰላም", None)
    assert message.get_content().replace("\r\n", "\n") == "Selam አበበ,\n.\nBcc: evil@people.example\n"


async def test_an_address_beyond_ascii_can_be_written_to(workplace: Workplace, office: PostOffice) -> None:
    await sending(workplace, office)
    await workplace.enqueue(a_mail(to="አበበ@people.example"))
    await eventually(workplace.empty)
    assert office.received[0].rcpt_tos == ["አበበ@people.example"]


async def test_mail_waits_for_a_mail_server_that_is_away(workplace: Workplace, office: PostOffice) -> None:
    await office.close()
    await sending(workplace, office)
    await workplace.enqueue(a_mail())

    async def tried() -> bool:
        return ("mail.send", "delayed") in await workplace.states()

    await eventually(tried)
    await office.open()
    await eventually(workplace.empty)
    assert len(office.messages) == 1


async def test_a_mail_sent_twice_is_known_by_its_id(workplace: Workplace, office: PostOffice) -> None:
    office.answer = "451 later"
    kept = office.received

    async def taken_and_not_answered(_server: object, _session: object, envelope: Envelope) -> str:
        kept.append(envelope)
        return "451 later" if len(kept) == 1 else "250 taken"

    office.handle_DATA = taken_and_not_answered  # type: ignore[method-assign]
    await sending(workplace, office)
    await workplace.enqueue(a_mail(), a_mail())
    await eventually(workplace.empty)
    ids = [message["Message-ID"] for message in office.messages]
    assert (len(ids), len(set(ids))) == (3, 2)
    assert len({one.content for one in office.received}) == 2
    assert all(one.endswith("@key2key.example>") for one in ids)


@pytest.mark.parametrize(
    ("to", "answer", "why"),
    [("nobody@people.example", "250 taken", "550 no such person"), ("abebe@people.example", "554 spam", "554 spam")],
)
async def test_what_the_server_refuses_for_good_is_not_tried_again(
    workplace: Workplace, office: PostOffice, to: str, answer: str, why: str
) -> None:
    office.answer = answer
    await sending(workplace, office)
    await workplace.enqueue(a_mail(to=to))
    (dead,) = await workplace.dead()
    assert (dead.tries, dead.error) == (1, f"the mail server refused it: {why}")


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_a_login_that_fails_is_tried_again_and_its_password_is_not_told(
    workplace: Workplace, office: PostOffice, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[bytes] = []

    def authenticated(
        _server: object, _session: object, _envelope: object, _kind: str, login: LoginPassword
    ) -> AuthResult:
        given.append(login.password)
        return AuthResult(success=len(given) > 1, handled=False)

    await office.close()
    office.options = {"authenticator": authenticated, "auth_require_tls": False, "auth_required": True}
    await office.open()
    with caplog.at_level(logging.DEBUG):
        await sending(workplace, office, login="k2k:open%2Fsesame%20%40%20night@")
        await workplace.enqueue(a_mail())
        await eventually(workplace.empty)
    assert given == [PASSWORD.encode()] * 2
    assert len(office.messages) == 1
    assert "535" in caplog.text
    assert "sesame" not in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"to": "abebe@people.example\r\nBcc: evil@people.example"},
        {"to": "abebe@people.example, evil@people.example"},
        {"to": "abebe@people.example> SIZE=1"},
        {"subject": "Hello\r\nBcc: evil@people.example"},
        {"subject": "Hello\u2028Bcc: evil@people.example"},
        {"subject": ""},
    ],
)
def test_a_line_break_in_an_address_or_a_subject_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        a_mail(**changes)


async def test_registering_answers_while_the_mail_server_is_away(node: Node, workplace: Workplace) -> None:
    """The session's node keeps files; here only the order matters: answer first, mail after."""
    wish = {"full_name": "Abebe", "email": f"{uuid4().hex}@people.example", "password": "correct horse battery"}
    mail = node.settings.mail.model_copy(update={"url": SecretStr("smtp://127.0.0.1:1")})
    own = workplace.settings.model_copy(update={"mail": mail, "live": node.settings.live})
    alone = await Node.start(own)
    try:
        answers = [await alone.api.post("/auth/register", json=wish) for _ in range(2)]
        assert [answer.status for answer in answers] == [202, 202]
        assert sum((await workplace.states()).values()) == 2
    finally:
        await alone.stop()


# Settings


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtps://k2k:a%2Fb@mail.example", ("mail.example", 465, "at-once", "k2k", "a/b")),
        ("smtp+starttls://k2k:x@mail.example:2525/", ("mail.example", 2525, "starttls", "k2k", "x")),
        ("smtp://relay.internal", ("relay.internal", 25, "none", None, None)),
        ("smtp://k2k:x@127.0.0.1:1025", ("127.0.0.1", 1025, "none", "k2k", "x")),
    ],
)
def test_a_mail_url_says_where_and_how(url: str, server: tuple[object, ...]) -> None:
    found = load({"K2K_MAIL__URL": url}).mail.server
    assert found is not None
    password = found.password.get_secret_value() if found.password else None
    assert (found.host, found.port, found.tls, found.user, password) == server


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://mail.example", "must be smtps://"),
        ("smtps://", "must be smtps://"),
        ("smtps://k2k:hunter2@mail.example:port", "not a URL"),
        ("smtps://mail.example/?x=1", "must be smtps://"),
        ("smtp://k2k:hunter2@mail.example", "would show its password"),
    ],
)
def test_a_mail_url_that_cannot_be_used_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        load({"K2K_MAIL__URL": url})
    assert "hunter2" not in str(refused.value)


def test_no_mail_url_keeps_files() -> None:
    assert load({}).mail.server is None


def test_a_sender_needs_an_address() -> None:
    with pytest.raises(SettingsError, match=r"mail\.sender"):
        load({"K2K_MAIL__SENDER": "Key2Key"})
