"""What happened to accounts."""

from typing import ClassVar, Literal

from k2k.core.ids import SignInId
from k2k.infra.streams import Event


class SessionRevoked(Event):
    """A sign-in ended before its time: its tokens no longer work and its sockets are closed."""

    type: ClassVar[str] = "session.revoked"
    to = ("user",)
    sign_in_id: SignInId
    because: Literal["signed-out", "refresh-token-reused"]
