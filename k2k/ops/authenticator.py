"""What the doors need to know of signing in. `accounts` implements it, `app` binds it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from k2k.core.errors import Denied, Unauthenticated
from k2k.core.ids import SignInId, UserId
from k2k.ops.permissions import PERMISSIONS, Permission, Role


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: a person on one sign-in. `role` is what the database said, never what a token says."""

    id: UserId
    sign_in_id: SignInId
    role: Role
    expires_at: datetime
    """End of the access token this was proved with."""


class Authenticator(Protocol):
    async def authenticate(self, token: str, now: datetime) -> Principal:
        """Whom `token` speaks for at the moment `now`.

        Raises TokenExpired if it was good and has run out, Unauthenticated if it does not hold or its sign-in
        has ended, Unavailable if the database cannot be asked.
        """

    async def check(self, principal: Principal, now: datetime, *, fresh: bool = False, told: bool = False) -> Principal:
        """The same person as of now, for a socket that proved itself before. Raises as `authenticate` does.

        `fresh` goes past what is remembered for a second, for moments when even that is too old. Who is `told` when the
        sign-in ends, as a socket is, need not ask whether it has: what was known some seconds ago will do.
        """


def permit(principal: Principal | None, may: Permission) -> None:
    """Raise Unauthenticated or Denied unless the person's role has the permission."""
    if may not in PERMISSIONS[principal.role if principal else Role.anonymous]:
        raise Denied if principal else Unauthenticated
