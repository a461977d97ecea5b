"""Mail: the job that services enqueue, what it becomes, and the first adapter: a mailbox of files.

A mail is a job like any other, so it is sent after COMMIT or not at all, and waits while the mail server is away.
The same job always becomes the same message, byte for byte: one that is sent twice can be known by its Message-ID.
"""

from __future__ import annotations

import asyncio
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Annotated, ClassVar, Protocol
from uuid import uuid4

from pydantic import EmailStr, StringConstraints

from k2k.infra.jobs.job import Attempt, Handler, Job

Subject = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]+$")]
"""One line: a line break would begin another header."""


class SendMail(Job):
    """One plain-text mail to one person. ValidationError where the address or the subject is none."""

    name: ClassVar[str] = "mail.send"
    tries: ClassVar[int] = 106
    """With the default settings about a day, as mail servers do it among each other."""

    to: EmailStr
    subject: Subject
    text: str


class Mail(Protocol):
    """Where mail leaves the house."""

    async def send(self, message: EmailMessage) -> None:
        """Hand the message on. Raises GiveUp if it was refused for good, anything else to be asked again."""


def sending(mail: Mail, sender: str) -> Handler[SendMail]:
    """The handler of SendMail. `sender` is `Name <address>`."""

    async def send(wish: SendMail, attempt: Attempt) -> None:
        await mail.send(composed(wish, attempt, sender))

    return send


def composed(wish: SendMail, attempt: Attempt, sender: str) -> EmailMessage:
    """The message that this job is, the same in every try."""
    name, address = parseaddr(sender)
    domain = address.rpartition("@")[2]
    message = EmailMessage(policy=SMTPUTF8)
    message["From"] = Address(name, addr_spec=address)
    local, _, host = wish.to.rpartition("@")
    message["To"] = Address(username=local, domain=host)  # addr_spec takes only ASCII
    message["Subject"] = wish.subject
    message["Date"] = format_datetime(attempt.enqueued_at)
    # The moment too: a database made anew counts its jobs from 1 again.
    message["Message-ID"] = f"<{attempt.enqueued_at:%Y%m%d%H%M%S%f}.{attempt.job_id}@{domain}>"
    message.set_content(wish.text)
    return message


class Mailbox:
    """Keeps each mail as `<directory>/<message id>.eml`, which any mail program opens, instead of sending it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def send(self, message: EmailMessage) -> None:
        name = message["Message-ID"].strip("<>").partition("@")[0]
        await asyncio.to_thread(self._keep, f"{name}.eml", message.as_bytes())

    def _keep(self, name: str, content: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self._directory / f".{name}.{uuid4().hex[:8]}"
        unfinished.write_bytes(content)
        unfinished.rename(self._directory / name)
