"""What goes in and out of accounts."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, EmailStr, Field, StringConstraints

from k2k.core.ids import UserId
from k2k.ops.permissions import Role
from k2k.ops.validation import Answer, Input, Moment, Name

# Has forms in documents hide what is typed.
Secret = Field(json_schema_extra={"format": "password"})
# Any characters, exactly as typed; the upper end keeps hashing bounded.
Password = Annotated[str, StringConstraints(min_length=8, max_length=128), Secret]


class Registration(Input):
    full_name: Name
    email: EmailStr
    password: Password


class Credentials(Input):
    email: Annotated[str, StringConstraints(min_length=1, max_length=254)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=128), Secret]


class PasswordForm(BaseModel):
    """The OAuth2 password form (RFC 6749 section 4.3.2). Grant, scope and client are taken and not looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: Annotated[str, StringConstraints(min_length=1, max_length=254)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=128), Secret]
    grant_type: str | None = None
    scope: str | None = None
    client_id: str | None = None
    client_secret: str | None = None

    def body(self) -> Credentials:
        """The same as the JSON body."""
        return Credentials(email=self.username, password=self.password)


class Refresh(Input):
    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class TokenPair(Answer):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds until the access token runs out")


class Notice(Answer):
    message: str


class UserPath(Input):
    user_id: UserId


class User(Answer):
    id: UserId
    email: EmailStr | None
    phone: str | None
    full_name: str
    avatar: str | None
    role: Role
    is_verified: bool
    is_active: bool
    country: str
    created_at: Moment
    updated_at: Moment


# Until the year 9999: what a datetime can hold.
UnixSeconds = Annotated[int, Field(le=253_402_300_799)]


class Claims(BaseModel):
    """The claims of our tokens (RFC 7519), types checked: PyJWT accepts a text as `exp`, and none at all."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    iss: str
    aud: str
    sub: UUID
    sid: UUID = Field(description="The sign-in the token belongs to")
    jti: UUID
    iat: UnixSeconds
    exp: UnixSeconds
    type: Literal["access", "refresh"]
