"""Versions: a change meant for what somebody saw is not made to something else (RFC 9110 section 13.1.1)."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from k2k.core.errors import Conflict
from k2k.ops.validation import Input


class VersionMismatch(Conflict):
    """What the change was meant for is no longer what is there. Fetch it anew, and decide with what you see then."""

    code = "version-mismatch"
    number = 1032
    title = "Somebody else has changed it since you saw it"


_TAG = re.compile(r'(?:W/)?"(\d{1,9})(?:\.[^"]*)?"')


def _version(sent: object) -> object:
    """The version in an entity tag; None for `*`, whichever there is."""
    if not isinstance(sent, str):
        return sent
    if sent.strip() == "*":
        return None
    found = _TAG.fullmatch(sent.strip())
    if found is None:
        raise PydanticCustomError("entity_tag", "Send the ETag of the answer you are changing, as it came")
    return int(found[1])


class IfMatch(Input):
    """What a change is meant for. Only the version in the tag counts, so a weak tag is as good as a strong one."""

    if_match: Annotated[int | None, Field(ge=0), BeforeValidator(_version)] = Field(
        default=None,
        description="The version that the change is meant for: in a request the ETag of the answer that showed it, "
        "over a socket the number in its `version`. If there is a newer one nothing is changed",
    )


def tag(version: int, body: bytes) -> str:
    """The entity tag of an answer that shows this version, and more that has none."""
    return f'W/"{version}.{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
