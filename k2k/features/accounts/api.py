"""Accounts: register, sign in, stay signed in, sign out, and who am I."""

from __future__ import annotations

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
)
from k2k.features.accounts.passwords import Passwords
from k2k.features.accounts.tokens import Tokens
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Reply, Routes

routes = Routes("auth")

# Tokens belong to one client: no cache on the way may keep them (RFC 6749 section 5.1).
NO_STORE = {"Cache-Control": "no-store"}


@routes.post("/auth/register", may=Permission.sign_in, status=202, raises=(SignInBusy,))
async def register(call: Call, body: Registration) -> Notice:
    """Open an account. The answer is the same whether the address is new or taken; its owner gets mail."""
    await service.register(call.db, call.use(Passwords), body)
    return Notice(message="Check your mail: it says how to go on")


@routes.post(
    "/auth/login", may=Permission.sign_in, form=PasswordForm, raises=(WrongCredentials, SignInBusy), headers=NO_STORE
)
async def login(call: Call, body: Credentials) -> Reply[TokenPair]:
    """Sign in with JSON (email, password) or the OAuth2 password form (username, password)."""
    pair = await service.sign_in(call.db, call.use(Passwords), call.use(Tokens), body, call.device, call.now)
    return Reply(pair, NO_STORE)


@routes.post("/auth/refresh", may=Permission.sign_in, raises=(RefreshRefused,), headers=NO_STORE)
async def refresh(call: Call, body: Refresh) -> Reply[TokenPair]:
    """Trade a refresh token for the next pair. Each works once; a second use ends the sign-in."""
    return Reply(await service.refresh(call.db, call.use(Tokens), body.refresh_token, call.now), NO_STORE)


@routes.post("/auth/logout", may=Permission.own_account)
async def logout(call: Call) -> Notice:
    """End this sign-in: its tokens stop working and its sockets are closed."""
    async with call.db.transaction() as tx:
        await service.revoke(tx, call.user.sign_in_id, "signed-out")
    call.use(SignInAuthenticator).forget(call.user.sign_in_id)
    return Notice(message="Signed out")


@routes.get("/auth/me", may=Permission.own_account, rpc="me.get", raises=(NotFound,))
async def get_me(call: Call) -> Json[User]:
    """The account of whoever is signed in."""
    return await service.get_user(call.db, call.user.id)
