"""Lists in parts: by skip and limit, with headers that tell of the whole, or by cursors, which do not get slower."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field
from pydantic_core import PydanticCustomError

from k2k.core.errors import Invalid, Problem
from k2k.core.settings import AuthSettings
from k2k.ops.validation import Input

Place = TypeVar("Place", bound=BaseModel)

PAGED = ("X-Total-Count", "X-Total-Count-Relation", "Link")
"""The headers of a list by skip and limit; the last two only where there is something to say."""


FURTHEST = 10_000


def _not_too_deep(skip: int) -> int:
    if skip > FURTHEST:
        message = "Lists go no further than {furthest}: ask for less, or search, which goes on from a cursor"
        raise PydanticCustomError("too_deep", message, {"furthest": FURTHEST})
    return skip


class Page(Input):
    """A part of a list, by place. Deep places are dear to find, so there is an end to them."""

    skip: Annotated[int, AfterValidator(_not_too_deep)] = Field(
        default=0, ge=0, json_schema_extra={"maximum": FURTHEST}, description="Deeper only a cursor search goes"
    )
    limit: int = Field(default=100, ge=1, le=100)

    @property
    def count_to(self) -> int:
        """How far counting needs to go to tell an exact total from a larger one."""
        return FURTHEST + 1

    def headers(self, address: str, total: int) -> dict[str, str]:
        """X-Total-Count, exact to 10,000, and Link (RFC 8288) to the neighbouring parts of the list at `address`.

        The links ask for the same as this part did, whatever else its model has.
        """
        same = urlencode(self.model_dump(mode="json", exclude_unset=True, exclude={"skip", "limit"}), doseq=True)
        headers = {"X-Total-Count": str(min(total, FURTHEST))}
        if total > FURTHEST:
            headers["X-Total-Count-Relation"] = "gte"
        neighbours = {"next": self.skip + self.limit, "prev": max(0, self.skip - self.limit)}
        if neighbours["next"] >= total or neighbours["next"] > FURTHEST:
            del neighbours["next"]
        if self.skip == 0:
            del neighbours["prev"]
        if neighbours:
            headers["Link"] = ", ".join(
                f'<{address}?{same}{"&" if same else ""}skip={skip}&limit={self.limit}>; rel="{name}"'
                for name, skip in neighbours.items()
            )
        return headers


NextCursor = Annotated[str | None, Field(description="The `cursor` of what follows; null at the end")]


class CursorPage(Input):
    """A part of a list, by the place where the one before it ended: nothing is told twice or left out in between."""

    limit: int = Field(default=50, ge=1, le=100)
    cursor: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="`next` of the part before, asked for with the same filters; none for the first part"
    )


class Birth(BaseModel):
    """A place in a list that goes by when things were made."""

    created_at: AwareDatetime
    id: UUID


@dataclass(frozen=True, slots=True)
class BirthRow:
    """A part of such a list: its items as a JSON array, and the last of them if more follow."""

    items: bytes
    created_at: datetime | None
    id: UUID | None

    @property
    def last(self) -> Birth | None:
        """Where the next part begins; None at the end."""
        if self.created_at is None or self.id is None:
            return None
        return Birth(created_at=self.created_at, id=self.id)


class Cursors:
    """Makes and reads cursors: a place in a list as a text that says nothing to clients, and that only we can make.

    A cursor belongs to one `list_`, which is its name and the filters it was asked for with. The newest secret signs;
    those that are kept for reading tokens do for cursors too.
    """

    SIGNATURE: ClassVar[int] = 16
    """Bytes: nobody has time for 2^128 guesses."""

    def __init__(self, settings: AuthSettings) -> None:
        secrets = (settings.secret, *settings.previous_secrets)
        self._keys = [_key(secret.get_secret_value()) for secret in secrets]

    def seal(self, list_: str, place: BaseModel | None) -> str | None:
        """The cursor of this place; None at the end, where there is no place."""
        if place is None:
            return None
        content = place.model_dump_json().encode()
        return _text(self._signature(self._keys[0], list_, content) + content)

    def open(self, list_: str, cursor: str | None, place: type[Place]) -> Place | None:
        """The place of this cursor, None where there is no cursor. Raises Invalid if it is none of this list."""
        if cursor is None:
            return None
        try:
            return place.model_validate_json(self._content(list_, cursor))
        except ValueError:
            fault = Problem("/cursor", "query", "cursor", "This is no cursor of this list with these filters")
            raise Invalid(problems=[fault]) from None

    def _content(self, list_: str, cursor: str) -> bytes:
        """What was sealed. ValueError if that was not by us, or for another list."""
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        signature, content = raw[: self.SIGNATURE], raw[self.SIGNATURE :]
        ours = (hmac.compare_digest(self._signature(key, list_, content), signature) for key in self._keys)
        # A place has one spelling; base64 as Python reads it has many.
        if not any(ours) or _text(raw) != cursor:
            raise ValueError("not sealed by us")
        return content

    def _signature(self, key: bytes, list_: str, content: bytes) -> bytes:
        name = list_.encode()
        return hmac.digest(key, len(name).to_bytes(2, "big") + name + content, "sha256")[: self.SIGNATURE]


def _key(secret: str) -> bytes:
    """A key of its own, so that no signature made for something else is one of a cursor."""
    return hashlib.sha256(b"k2k cursor key\0" + secret.encode()).digest()


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
