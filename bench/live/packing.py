"""As much of MessagePack as the peers' messages need."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

Value = str | int | Sequence["Value"] | Mapping[str, "Value"]


def packed(value: Value) -> bytes:
    """Strings, integers up to 127, and lists and maps of up to 15 of them. Raises ValueError for more."""
    match value:
        case str():
            return _string(value.encode())
        case int() if 0 <= value < 128:
            return bytes([value])
        case Mapping() if len(value) < 16:
            return bytes([0x80 + len(value)]) + b"".join(packed(key) + packed(one) for key, one in value.items())
        case Sequence() if len(value) < 16:
            return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
    raise ValueError(f"{value!r} is more than is understood here")


def _string(text: bytes) -> bytes:
    if len(text) < 32:
        return bytes([0xA0 + len(text)]) + text
    return (struct.pack(">BB", 0xD9, len(text)) if len(text) < 256 else struct.pack(">BH", 0xDA, len(text))) + text
