"""Signed tokens (JWT, HS256): what is in them, how they are made and what they must survive being read."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal
from uuid import UUID, uuid4

import jwt
from jwt.utils import base64url_decode
from pydantic import ValidationError
from pydantic_core import from_json

from k2k.core.errors import TokenExpired, Unauthenticated
from k2k.core.ids import SignInId, UserId
from k2k.core.settings import AuthSettings
from k2k.features.accounts.models import Claims

ALGORITHM = "HS256"
# Ours have under 500 characters; what is longer is not worth a look.
MAXIMUM_LENGTH = 2048
# Clocks of our own processes follow the database; a second covers the rounding of iat.
LEEWAY_SECONDS = 1
MOST_KEPT = 10_000


class Tokens:
    """Makes and reads the tokens of this deployment.

    The newest secret signs. A token names the key it was signed with (`kid`), which is looked for among our own:
    the newest and those that are kept for reading while their tokens run out.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self.settings = settings
        self._kid = key_id(settings.secret.get_secret_value())
        secrets = [secret.get_secret_value() for secret in (*settings.previous_secrets, settings.secret)]
        self._keys = {key_id(secret): secret for secret in secrets}
        self._jws = jwt.PyJWS(algorithms=[ALGORITHM])
        # A token is shown with every request and checked in a tenth of a millisecond: once will do.
        self._verified = lru_cache(maxsize=MOST_KEPT)(self._verify)

    @property
    def access_lifetime(self) -> timedelta:
        return timedelta(minutes=self.settings.access_minutes)

    @property
    def refresh_lifetime(self) -> timedelta:
        return timedelta(days=self.settings.refresh_days)

    def access(self, user: UserId, sign_in: SignInId, now: datetime) -> str:
        """A fresh access token."""
        return self._sign("access", uuid4(), user, sign_in, now, now + self.access_lifetime)

    def refresh(self, jti: UUID, user: UserId, sign_in: SignInId, issued_at: datetime, expires_at: datetime) -> str:
        """The refresh token of the row `jti`: the same row always gives the same token."""
        return self._sign("refresh", jti, user, sign_in, issued_at, expires_at)

    def read(self, token: str, type_: Literal["access", "refresh"], now: datetime) -> Claims:
        """The claims of a token of ours. Raises TokenExpired if only its time is over, else Unauthenticated."""
        claims = self._verified(token)
        moment = now.timestamp()
        if (claims.iss, claims.aud, claims.type) != (self.settings.issuer, self.settings.audience, type_):
            raise Unauthenticated("The token is not meant for this")
        if claims.iat > moment + LEEWAY_SECONDS:
            raise Unauthenticated("The token is from the future")
        if claims.exp <= moment:
            raise TokenExpired
        return claims

    def _verify(self, token: str) -> Claims:
        """What the token says, if one of our keys signed it; whether it is of today is another question."""
        if len(token) > MAXIMUM_LENGTH:
            raise Unauthenticated("The token is too long to be one of ours")
        try:
            head = from_json(base64url_decode(token.partition(".")[0]))
            # PyJWT checks the signature only: times are held against the database's clock, not this machine's.
            signed = self._jws.decode(token, self._keys[head["kid"]], algorithms=[ALGORITHM])
            return Claims.model_validate_json(signed)
        except (jwt.PyJWTError, ValidationError, ValueError, KeyError, TypeError):  # KeyError: by none of our keys
            raise Unauthenticated("The token does not hold") from None

    def _sign(
        self,
        type_: str,
        jti: UUID,
        user: UserId,
        sign_in: SignInId,
        issued_at: datetime,
        expires_at: datetime,
    ) -> str:
        claims = {
            "iss": self.settings.issuer,
            "aud": self.settings.audience,
            "sub": str(user),
            "sid": str(sign_in),
            "jti": str(jti),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
            "type": type_,
        }
        return jwt.encode(claims, self._keys[self._kid], algorithm=ALGORITHM, headers={"kid": self._kid})


def key_id(secret: str) -> str:
    """The public name of a signing key: a part of its hash, in a domain of its own, that gives nothing of it away."""
    return hashlib.sha256(b"k2k token key\0" + secret.encode()).hexdigest()[:8]


def expiry(claims: Claims) -> datetime:
    """When the token of these claims ends."""
    return datetime.fromtimestamp(claims.exp, UTC)
