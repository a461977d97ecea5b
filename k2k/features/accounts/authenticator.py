"""Who a token speaks for: its signature, and the state of its sign-in in the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime

from k2k.core.errors import TokenExpired, Unauthenticated
from k2k.core.ids import SignInId, UserId
from k2k.features.accounts import store
from k2k.features.accounts.store import SignInState
from k2k.features.accounts.tokens import Tokens, expiry
from k2k.infra.batch import Batch
from k2k.infra.db import Db
from k2k.ops.authenticator import Principal
from k2k.ops.permissions import Role

# A revocation is heard of within milliseconds; this bounds the time where it is not.
KEEP_SECONDS = 1.0
TOLD_KEEP_SECONDS = 10.0
MOST_KEPT = 10_000


class SignInAuthenticator:
    """Authenticates against the database. Look-ups of many callers share a statement, and a second's answer.

    What is kept is the future, so that a hundred calls at once on one sign-in ask once. Failed look-ups are
    not kept.
    """

    def __init__(self, db: Db, tokens: Tokens) -> None:
        self._db = db
        self._tokens = tokens
        self._lookups: Batch[SignInId, SignInState | None] = Batch(
            self._look_up, observe=db.metrics.batches.labels("sign-ins").observe
        )
        self._kept: OrderedDict[SignInId, tuple[float, asyncio.Task[SignInState | None]]] = OrderedDict()

    async def authenticate(self, token: str, now: datetime) -> Principal:
        claims = self._tokens.read(token, "access", now)
        return await self._principal(UserId(claims.sub), SignInId(claims.sid), expiry(claims))

    async def check(self, principal: Principal, now: datetime, *, fresh: bool = False, told: bool = False) -> Principal:
        if fresh:
            self.forget(principal.sign_in_id)
        if principal.expires_at <= now:
            raise TokenExpired
        keep = TOLD_KEEP_SECONDS if told else KEEP_SECONDS
        return await self._principal(principal.id, principal.sign_in_id, principal.expires_at, keep)

    async def _principal(
        self, user: UserId, sign_in: SignInId, expires_at: datetime, keep: float = KEEP_SECONDS
    ) -> Principal:
        state = await self._state(sign_in, keep)
        if state is None or not state.alive or state.user_id != user:
            raise Unauthenticated("This sign-in has ended")
        return Principal(user, sign_in, Role(state.role), expires_at)

    def forget(self, sign_in_id: SignInId) -> None:
        """Ask the database again for this sign-in: it was revoked."""
        self._kept.pop(sign_in_id, None)

    async def _state(self, sign_in_id: SignInId, keep: float) -> SignInState | None:
        """What the database said within the last `keep` seconds."""
        loop = asyncio.get_running_loop()
        since, lookup = self._kept.get(sign_in_id, (0.0, None))
        if lookup is None or since + keep < loop.time():
            lookup = loop.create_task(self._lookups.add(sign_in_id))
            self._kept[sign_in_id] = loop.time(), lookup
            self._kept.move_to_end(sign_in_id)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        try:
            return lookup.result() if lookup.done() else await asyncio.shield(lookup)
        except Exception:
            with contextlib.suppress(KeyError):
                if self._kept[sign_in_id][1] is lookup:
                    del self._kept[sign_in_id]
            raise

    async def _look_up(self, sign_ins: Sequence[SignInId]) -> list[SignInState | Exception | None]:
        found = {state.id: state for state in await store.sign_in_states(self._db, sign_ins)}
        return [found.get(sign_in) for sign_in in sign_ins]
