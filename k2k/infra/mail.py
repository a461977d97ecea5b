"""The mail port and its first adapter: a mailbox of files, one message each, that any mail program opens."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4


class Mail(Protocol):
    """Where services hand over mail."""

    async def send(self, *, to: str, subject: str, text: str) -> None:
        """Take over one plain-text mail. Raises OSError if it cannot be kept; it is then not sent."""


class Mailbox:
    """Keeps mail as `<directory>/<time>-<id>.eml` instead of sending it."""

    def __init__(self, directory: Path, *, sender: str) -> None:
        self._directory = directory
        self._sender = sender

    async def send(self, *, to: str, subject: str, text: str) -> None:
        message = EmailMessage(policy=SMTPUTF8)
        now = datetime.now(UTC)
        message["From"], message["To"], message["Subject"] = self._sender, to, subject
        message["Date"] = format_datetime(now)
        message.set_content(text)
        name = f"{now:%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}.eml"
        await asyncio.to_thread(self._keep, name, message.as_bytes())

    def _keep(self, name: str, content: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self._directory / f".{name}"
        unfinished.write_bytes(content)
        unfinished.rename(self._directory / name)
