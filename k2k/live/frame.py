"""Websocket frames of our own making (RFC 6455 5.2), so that what was encoded once is written to many as it is.

With compression (RFC 7692) every message is deflated by itself, without memory of those before: what goes to a
thousand sockets is deflated once, and a socket keeps no compressor.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

from aiohttp import WSMsgType

from k2k.live import wire

FIN = 0x80
DEFLATED = 0x40
# SDKs take a frame whole before they look at it: a long queue goes as several.
LONGEST = 64 * 1024
# Below this a deflated message is hardly shorter.
WORTH_DEFLATING = 128
# What the end of each deflated message leaves out (RFC 7692 7.2.1).
TRAIL = b"\x00\x00\xff\xff"


class Framing:
    """How one socket's messages become frames."""

    def __init__(self) -> None:
        self._last = (0, b"")
        """Opcode and message of what was framed last: the next socket is often told the same."""
        self._last_framed = b""

    def framed(self, codec: wire.Codec, messages: Sequence[bytes]) -> bytes:
        """All messages, as one write."""
        if len(messages) == 1:
            opcode, message = self._last
            if messages[0] is not message or codec.opcode != opcode:
                self._last = codec.opcode, messages[0]
                self._last_framed = self.frame(codec.opcode, messages[0])
            return self._last_framed
        return b"".join(self.frame(codec.opcode, codec.joined(some)) for some in _batches(messages))

    def frame(self, opcode: int, payload: bytes) -> bytes:
        """One unfragmented, unmasked frame."""
        return _header(FIN | opcode, len(payload)) + payload

    @staticmethod
    def agreed(window: int) -> Framing:
        """For a window of so many bits, 0 for none: who wants a small one is sent everything plain."""
        return DEFLATING if window == zlib.MAX_WBITS else PLAIN


class _Deflating(Framing):
    def frame(self, opcode: int, payload: bytes) -> bytes:
        if len(payload) < WORTH_DEFLATING:
            return super().frame(opcode, payload)
        deflated = _deflated(payload) if len(payload) <= LONGEST // 16 else _deflate(payload)
        return _header(FIN | DEFLATED | opcode, len(deflated)) + deflated


PLAIN = Framing()
DEFLATING = _Deflating()


def close_frame(close: wire.Close) -> bytes:
    """The frame that begins or answers the closing handshake. A reason takes at most 123 bytes."""
    payload = close.code.to_bytes(2) + close.reason.encode()[:123]
    return PLAIN.frame(WSMsgType.CLOSE.value, payload)


def pong_frame(payload: bytes) -> bytes:
    return PLAIN.frame(WSMsgType.PONG.value, payload)


def _batches(messages: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The messages in parts that are together no longer than a frame should be."""
    begin = size = 0
    for place, message in enumerate(messages):
        if size + len(message) > LONGEST and place > begin:
            yield messages[begin:place]
            begin, size = place, 0
        size += len(message) + 1
    yield messages[begin:]


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2)
    return bytes((first, 127)) + length.to_bytes(8)


def _deflate(payload: bytes) -> bytes:
    compressor = zlib.compressobj(level=6, wbits=-zlib.MAX_WBITS, memLevel=8)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TRAIL)


@lru_cache(maxsize=64)
def _deflated(payload: bytes) -> bytes:
    """What was just deflated for one socket is there for the next."""
    return _deflate(payload)
