"""Files as they come in: one after the other, in parts, never whole in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from k2k.core.errors import Invalid


class FileTooLarge(Invalid):
    """A file is over the limit for its kind, or there are more files than one request may bring."""

    code = "file-too-large"
    number = 1030
    title = "The file is too large"


class NotMultipart(Invalid):
    """Files come as multipart/form-data (RFC 7578), each in a part named `files`."""

    code = "not-multipart"
    number = 1031
    title = "Send files as multipart/form-data in fields named files"


@dataclass(frozen=True, slots=True)
class FileRules:
    """What one request may bring."""

    most: int
    """Files in one request."""
    bytes_each: int
    """The longest file."""
    seconds: float = 120.0
    """How long all of it may take to arrive: slow networks are the usual ones."""


@dataclass(frozen=True, slots=True)
class File:
    """One file on its way in. Read its chunks before asking for the next file."""

    name: str
    """As the client says: nothing may be done with it but showing it."""
    media_type: str
    """As the client says, in lower case, without parameters; empty if it does not say."""
    chunks: AsyncIterator[bytes]
    """Raises FileTooLarge where the file goes on beyond the limit."""


Files = AsyncIterator[File]
"""Raises NotMultipart, FileTooLarge for one file too many, and what a broken or slow body raises."""
