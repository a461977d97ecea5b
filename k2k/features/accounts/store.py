"""Rows of users, sign-ins and refresh tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from k2k.core.ids import SignInId, UserId
from k2k.features.accounts.models import User
from k2k.infra.db import Db
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.permissions import Role
from k2k.ops.registry import Json


@dataclass(frozen=True, slots=True)
class UserRow:
    id: UserId


@dataclass(frozen=True, slots=True)
class UserBodyRow:
    id: UserId
    body: bytes


@dataclass(frozen=True, slots=True)
class CredentialsRow:
    id: UserId
    password_hash: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class OpenedRow:
    sign_in_id: SignInId
    token_id: UUID


@dataclass(frozen=True, slots=True)
class SignInRow:
    user_id: UserId
    alive: bool


@dataclass(frozen=True, slots=True)
class RefreshTokenRow:
    issued_at: datetime
    expires_at: datetime
    used_at: datetime | None
    repeated_at: datetime | None
    successor_id: UUID | None


@dataclass(frozen=True, slots=True)
class SuccessorRow:
    id: UUID


@dataclass(frozen=True, slots=True)
class RevokedRow:
    user_id: UserId


@dataclass(frozen=True, slots=True)
class RoleRow:
    role: str


@dataclass(frozen=True, slots=True)
class SignInState:
    id: SignInId
    user_id: UserId
    role: str
    alive: bool


_queries = Queries("accounts")
ADD_USER = _queries.rows("add_user", UserRow)
FIND_CREDENTIALS = _queries.rows("find_credentials", CredentialsRow)
OPEN_SIGN_IN = _queries.rows("open_sign_in", OpenedRow)
LOCK_SIGN_IN = _queries.rows("lock_sign_in", SignInRow)
FIND_REFRESH_TOKEN = _queries.rows("find_refresh_token", RefreshTokenRow)
ROTATE_REFRESH_TOKEN = _queries.rows("rotate_refresh_token", SuccessorRow)
NOTE_REPEAT = _queries.command("note_repeat")
REVOKE_SIGN_IN = _queries.rows("revoke_sign_in", RevokedRow)
SIGN_IN_STATES = _queries.rows("sign_in_states", SignInState)
GET_USERS = _queries.rows("get_users", UserBodyRow)
FIND_ROLE = _queries.rows("find_role", RoleRow)
SET_ROLE = _queries.command("set_role")


async def add_user(tx: Tx, email: str, password_hash: str, full_name: str) -> UserId | None:
    """The new person's id; None if the address is taken."""
    row = await tx.find(ADD_USER, email, password_hash, full_name)
    return row.id if row else None


async def find_credentials(db: Reader, email: str) -> CredentialsRow | None:
    return await db.find(FIND_CREDENTIALS, email)


async def open_sign_in(tx: Tx, user: UserId, device: str, issued_at: datetime, expires_at: datetime) -> OpenedRow:
    (row,) = await tx.rows(OPEN_SIGN_IN, user, device, issued_at, expires_at)
    return row


async def lock_sign_in(tx: Tx, sign_in: SignInId) -> SignInRow | None:
    """The sign-in, held against other refreshes and its revocation until COMMIT."""
    return await tx.find(LOCK_SIGN_IN, sign_in)


async def find_refresh_token(tx: Tx, token: UUID, sign_in: SignInId) -> RefreshTokenRow | None:
    return await tx.find(FIND_REFRESH_TOKEN, token, sign_in)


async def rotate_refresh_token(tx: Tx, token: UUID, now: datetime, expires_at: datetime) -> UUID:
    """Mark `token` used and return its successor's id."""
    (row,) = await tx.rows(ROTATE_REFRESH_TOKEN, token, now, expires_at)
    return row.id


async def note_repeat(tx: Tx, token: UUID, now: datetime) -> None:
    await tx.run(NOTE_REPEAT, token, now)


async def revoke_sign_in(tx: Tx, sign_in: SignInId, because: str) -> UserId | None:
    """Whose sign-in has ended now; None if it had ended before."""
    row = await tx.find(REVOKE_SIGN_IN, sign_in, because)
    return row.user_id if row else None


async def sign_in_states(db: Db, sign_ins: Sequence[SignInId]) -> list[SignInState]:
    return await db.rows(SIGN_IN_STATES, sign_ins)


async def find_users(db: Reader, users: Sequence[UserId]) -> list[Json[User] | None]:
    """Each account, or None where there is none, in the order asked for."""
    found = {row.id: Json[User](row.body) for row in await db.rows(GET_USERS, users)}
    return [found.get(user) for user in users]


async def find_role(db: Reader, user: UserId) -> Role | None:
    row = await db.find(FIND_ROLE, user)
    return Role(row.role) if row else None


async def set_role(tx: Tx, user: UserId, role: Role) -> None:
    await tx.run(SET_ROLE, user, role)
