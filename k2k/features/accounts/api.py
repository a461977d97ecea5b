"""Accounts: register, sign in, stay signed in, sign out, and who am I."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from k2k.core.errors import NotFound
from k2k.features.accounts import service
from k2k.features.accounts.authenticator import SignInAuthenticator
from k2k.features.accounts.errors import RefreshRefused, SignInBusy, WrongCredentials
from k2k.features.accounts.models import (
    Credentials,
    Notice,
    PasswordForm,
    Refresh,
    Registration,
    TokenPair,
    User,
    UserPath,
)
from k2k.features.accounts.passwords import Passwords
from k2k.features.accounts.tokens import Tokens
from k2k.infra.limits import Rate
from k2k.infra.transaction import Reader
from k2k.ops.call import Call
from k2k.ops.channels import Asked, Nothing, Presence
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Routes

routes = Routes("auth")

# Generous, for whole cities share an address.
SIGN_IN_RATE = Rate(60, seconds=60)
REGISTER_RATE = Rate(30, seconds=60)


@routes.post(
    "/auth/register",
    may=Permission.sign_in,
    status=202,
    repeats=Repeats.freely,
    rate=REGISTER_RATE,
    raises=(SignInBusy,),
)
async def register(call: Call, body: Registration) -> Notice:
    """Open an account. The answer is the same whether the address is new or taken; its owner gets mail."""
    await service.register(call.services.db, call.use(Passwords), body)
    return Notice(message="Check your mail: it says how to go on")


@routes.post(
    "/auth/login",
    may=Permission.sign_in,
    form=PasswordForm,
    repeats=Repeats.freely,
    rate=SIGN_IN_RATE,
    raises=(WrongCredentials, SignInBusy),
)
async def login(call: Call, body: Credentials) -> TokenPair:
    """Sign in with JSON (email, password) or the OAuth2 password form (username, password)."""
    return await service.sign_in(call.services.db, call.use(Passwords), call.use(Tokens), body, call.device, call.now)


@routes.post("/auth/refresh", may=Permission.sign_in, repeats=Repeats.freely, raises=(RefreshRefused,))
async def refresh(call: Call, body: Refresh) -> TokenPair:
    """Trade a refresh token for the next pair. Each works once; a second use ends the sign-in."""
    return await service.refresh(call.services.db, call.use(Tokens), body.refresh_token, call.now)


@routes.post("/auth/logout", may=Permission.own_account, repeats=Repeats.freely)
async def logout(call: Call) -> Notice:
    """End this sign-in: its tokens stop working and its sockets are closed."""
    async with call.transaction() as tx:
        await service.revoke(tx, call.user.sign_in_id, "signed-out")
        tx.afterwards.append(lambda: call.use(SignInAuthenticator).forget(call.user.sign_in_id))
    return Notice(message="Signed out")


@routes.get("/auth/me", may=Permission.own_account, rpc="me.get", raises=(NotFound,))
async def get_me(call: Call) -> Json[User]:
    """The account of whoever is signed in."""
    return await call.gather(service.get_users, call.user.id)


@routes.channel("user:{user_id}", may=Permission.own_account, kept=timedelta(days=30), state="me.state")
async def follow_oneself(db: Reader, asked: Sequence[Asked[UserPath]]) -> list[bool]:
    """Everything one person must not miss, on all their devices; granted on connect, and to nobody else."""
    return [one.user_id == one.path.user_id for one in asked]


@routes.channel(
    "staff", may=Permission.moderate, kept=timedelta(days=30), presence=Presence.people, state="moderation.queue"
)
async def follow_staff(db: Reader, asked: Sequence[Asked[Nothing]]) -> list[bool]:
    """What the people who run the market must look at."""
    return [True for _ in asked]
