"""What goes in and out of uploads, and what is known of a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from k2k.core.ids import MediaId
from k2k.ops.files import FileRules
from k2k.ops.validation import Answer, Input, Moment

MIB = 1024 * 1024
IMAGES = FileRules(most=20, bytes_each=20 * MIB)
DOCUMENTS = FileRules(most=10, bytes_each=20 * MIB)

MediaType = Literal["image/jpeg", "image/png", "image/webp", "image/gif", "application/pdf"]


class Purpose(StrEnum):
    """What an upload is for: an image is shown to everybody, a document to nobody but its owner."""

    image = "image"
    document = "document"


TYPES: dict[Purpose, frozenset[str]] = {
    Purpose.image: frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"}),
    Purpose.document: frozenset({"application/pdf", "image/jpeg", "image/png"}),
}
UNSAID = frozenset({"", "application/octet-stream"})
"""Media types of those who do not know: the content tells anyway."""


class UploadState(StrEnum):
    waiting = "waiting"
    ready = "ready"


class Size(StrEnum):
    """Sizes of an image."""

    large = "large"
    medium = "medium"
    small = "small"


FileName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f/\\]+$")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class UploadPath(Input):
    media_id: MediaId


class UploadWish(Input):
    """A file that its owner will put into the storage without going through here."""

    purpose: Purpose
    name: FileName
    media_type: MediaType
    bytes: int = Field(ge=1, le=IMAGES.bytes_each)
    sha256: Sha256 = Field(description="Of the whole file, in hexadecimal digits")

    @model_validator(mode="after")
    def _is_of_a_kind_for_that(self) -> Self:
        if self.media_type not in TYPES[self.purpose]:
            wanted = ", ".join(sorted(TYPES[self.purpose]))
            raise PydanticCustomError("media_type", "Send one of {wanted}", {"wanted": wanted})
        return self


class UploadGrant(Answer):
    """Where to put the announced file, until when, and how: exactly so long, of that type, with these headers."""

    media_id: MediaId
    method: Literal["PUT"]
    url: str
    headers: dict[str, str]
    expires_at: Moment


class Upload(Answer):
    """Something uploaded. An image has its address in three sizes as soon as it is ready, a document never."""

    id: MediaId
    purpose: Purpose
    state: UploadState
    name: str | None = Field(description="As its owner's device calls it")
    media_type: str = Field(description="Of what was sent; images are served as image/webp")
    bytes: int = Field(description="Of what was sent")
    sha256: str
    width: int | None = Field(description="Of the largest size, in pixels")
    height: int | None
    color: str | None = Field(description="The colour that stands out, as #rrggbb")
    blurhash: str | None = Field(description="A blurred image in some thirty letters (blurha.sh)")
    url: str | None = Field(description="At most 1920 pixels wide or high")
    medium_url: str | None = Field(description="At most 960 pixels wide or high")
    small_url: str | None = Field(description="At most 320 pixels wide or high")
    created_at: Moment
    ready_at: Moment | None


class UploadLink(Answer):
    """An address that works for a minute, for whoever has it."""

    url: str
    expires_at: Moment


class Discarded(Answer):
    message: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of somebody's that is ready, as other features see it."""

    id: MediaId
    sha256: bytes


def keys(media: MediaId, purpose: Purpose) -> list[str]:
    """The names in the storage of something that is ready. `media_key` in the migrations says the same in SQL."""
    if purpose is Purpose.document:
        return [f"documents/{media}"]
    return [image_key(media, size) for size in Size]


def image_key(media: MediaId, size: Size) -> str:
    return f"images/{media}-{size}.webp"


def incoming_key(media: MediaId) -> str:
    """Where an announced file is put by its owner. Nobody reads it there but us."""
    return f"incoming/{media}"
