"""Registering, signing in, staying signed in and signing out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from k2k.core.errors import NotFound, Unauthenticated
from k2k.core.ids import SignInId, UserId, user_channel
from k2k.features.accounts import store
from k2k.features.accounts.errors import RefreshRefused, WrongCredentials
from k2k.features.accounts.events import SessionRevoked
from k2k.features.accounts.models import Credentials, Registration, TokenPair, User
from k2k.features.accounts.passwords import Passwords
from k2k.features.accounts.tokens import Tokens
from k2k.infra.db import Db
from k2k.infra.mail import SendMail
from k2k.infra.transaction import Reader, Tx
from k2k.ops.permissions import PERMISSIONS, Permission, Role
from k2k.ops.registry import Json

log = structlog.get_logger()

# How long after a refresh its answer may be asked for again: a phone's reconnect, not a thief's leisure.
REPEAT_WINDOW = timedelta(seconds=10)


async def register(db: Db, passwords: Passwords, wish: Registration) -> None:
    """Open an account, or tell the owner of the address that somebody tried: alike to the one who asks."""
    hashed = await passwords.hash(wish.password)
    async with db.transaction() as tx:
        user = await store.add_user(tx, wish.email, hashed, wish.full_name)
        tx.enqueue(_welcome(wish) if user is not None else _already_open(wish))


def _welcome(wish: Registration) -> SendMail:
    text = f"Selam {wish.full_name},\n\nyour account is open: sign in with this address.\n"
    return SendMail(to=wish.email, subject="Welcome to Key2Key", text=text)


def _already_open(wish: Registration) -> SendMail:
    text = (
        "Selam,\n\nsomebody, perhaps you, tried to open an account with this address. You have one already:\n"
        "sign in with it. If it was not you, there is nothing to do.\n"
    )
    return SendMail(to=wish.email, subject="You already have a Key2Key account", text=text)


async def sign_in(
    db: Db, passwords: Passwords, tokens: Tokens, wish: Credentials, device: str, now: datetime
) -> TokenPair:
    """A new sign-in. Raises WrongCredentials, after the same work whatever is wrong."""
    found = await store.find_credentials(db, wish.email.strip())
    right = await passwords.matches(wish.password, found.password_hash if found else None)
    if found is None or not right or not found.is_active:
        raise WrongCredentials
    expires_at = now + tokens.refresh_lifetime
    async with db.transaction() as tx:
        opened = await store.open_sign_in(tx, found.id, device, now, expires_at)
    return _pair(tokens, opened.token_id, found.id, opened.sign_in_id, now, expires_at, now)


async def refresh(db: Db, tokens: Tokens, token: str, now: datetime) -> TokenPair:
    """The next pair of tokens of the sign-in.

    A token works once. Its answer may have been lost, so within ten seconds it may be presented once more and
    answers the same successor. Any other second use is theft: the sign-in ends. Raises RefreshRefused.
    """
    try:
        claims = tokens.read(token, "refresh", now)
    except Unauthenticated as error:
        raise RefreshRefused from error
    user, sign_in_id = UserId(claims.sub), SignInId(claims.sid)
    async with db.transaction() as tx:
        pair = await _rotate(tx, tokens, claims.jti, user, sign_in_id, now)
        if pair is None:
            await revoke(tx, sign_in_id, "refresh-token-reused")
    if pair is None:
        log.warning("sign-in ended: a refresh token came twice", user_id=str(user), sign_in_id=str(sign_in_id))
        raise RefreshRefused
    return pair


async def _rotate(
    tx: Tx, tokens: Tokens, token: UUID, user: UserId, sign_in_id: SignInId, now: datetime
) -> TokenPair | None:
    """The next pair; None if the token was used before and this is not the one repeat of a lost answer."""
    state = await store.lock_sign_in(tx, sign_in_id)
    found = await store.find_refresh_token(tx, token, sign_in_id)
    if state is None or found is None or not state.alive or state.user_id != user:
        raise RefreshRefused
    if found.used_at is None:
        expires_at = now + tokens.refresh_lifetime
        successor = await store.rotate_refresh_token(tx, token, now, expires_at)
        return _pair(tokens, successor, user, sign_in_id, now, expires_at, now)
    if found.repeated_at is None and found.successor_id is not None and now - found.used_at <= REPEAT_WINDOW:
        next_ = await store.find_refresh_token(tx, found.successor_id, sign_in_id)
        if next_ is not None and next_.used_at is None:
            await store.note_repeat(tx, token, now)
            return _pair(tokens, found.successor_id, user, sign_in_id, next_.issued_at, next_.expires_at, now)
    return None


async def revoke(tx: Tx, sign_in_id: SignInId, because: str) -> None:
    """End a sign-in: its tokens stop working and its sockets are cut, on every process."""
    user = await store.revoke_sign_in(tx, sign_in_id, because)
    if user is not None:
        event = SessionRevoked.model_validate({"sign_in_id": sign_in_id, "because": because})
        tx.emit(event, to=[user_channel(user)])


async def get_users(db: Reader, users: Sequence[UserId]) -> list[Json[User] | NotFound]:
    """The accounts as their owners see them, in the order asked for."""
    return [NotFound() if found is None else found for found in await store.find_users(db, users)]


async def open_account(tx: Tx, wish: Registration, password_hash: str, role: Role) -> UserId | None:
    """An account without any mail, for those whom the service itself signs up; None if the address is taken."""
    user = await store.add_user(tx, wish.email, password_hash, wish.full_name)
    if user is not None:
        await store.set_role(tx, user, role)
    return user


async def may(db: Reader, user: UserId, permission: Permission) -> bool:
    """Whether somebody who is not asking just now has this permission; nobody whose account does not live has any."""
    role = await store.find_role(db, user)
    return role is not None and permission in PERMISSIONS[role]


async def become(tx: Tx, user: UserId, role: Role) -> None:
    """Give a person another role; an admin keeps theirs."""
    await store.set_role(tx, user, role)


def _pair(
    tokens: Tokens,
    token: UUID,
    user: UserId,
    sign_in_id: SignInId,
    issued_at: datetime,
    expires_at: datetime,
    now: datetime,
) -> TokenPair:
    return TokenPair(
        access_token=tokens.access(user, sign_in_id, now),
        refresh_token=tokens.refresh(token, user, sign_in_id, issued_at, expires_at),
        expires_in=int(tokens.access_lifetime.total_seconds()),
    )
