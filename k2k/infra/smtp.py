"""Mail over SMTP: one connection a message, and a decision which refusals are for good."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import parseaddr

import aiosmtplib
from aiosmtplib import (
    SMTPDataError,
    SMTPNotSupported,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from k2k.core.settings import MailServer
from k2k.infra.jobs.job import GiveUp

ABOUT_THIS_MAIL = (SMTPSenderRefused, SMTPRecipientRefused, SMTPDataError)
"""A 5xx to these is about the mail. One at the greeting or the login is about us, and passes when that is mended."""


class Smtp:
    """Hands mail to an SMTP server (RFC 5321)."""

    def __init__(self, server: MailServer, *, timeout: float) -> None:
        self._server = server
        self._timeout = timeout

    async def send(self, message: EmailMessage) -> None:
        """Raises GiveUp if the server refused this mail with a 5xx, else aiosmtplib's errors or OSError."""
        try:
            await self._send(message)
        except SMTPRecipientsRefused as error:
            (refusal,) = error.recipients
            raise (_for_good(refusal) or refusal) from error
        except SMTPResponseException as error:
            raise (_for_good(error) or error) from error
        except SMTPNotSupported as error:
            if "SMTPUTF8" in error.message:
                raise GiveUp("the mail server takes no addresses beyond ASCII") from error
            raise

    async def _send(self, message: EmailMessage) -> None:
        server = self._server
        await aiosmtplib.send(
            message,
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password.get_secret_value() if server.password else None,
            use_tls=server.tls == "at-once",
            start_tls=server.tls == "starttls",
            timeout=self._timeout,
            # Otherwise the name of this machine is looked up, which waits for a name server.
            local_hostname=parseaddr(str(message["From"]))[1].rpartition("@")[2],
        )


def _for_good(error: SMTPResponseException) -> GiveUp | None:
    if isinstance(error, ABOUT_THIS_MAIL) and 500 <= error.code < 600:
        return GiveUp(f"the mail server refused it: {error.code} {' '.join(error.message.split())}")
    return None
