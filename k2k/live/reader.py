"""Websocket frames as clients send them (RFC 6455): unmasked, put together, inflated (RFC 7692), text as text.

aiohttp's own reader takes frames without a mask and hands messages over through a queue to a task; both would be kept
by every idle socket. This one keeps what has arrived of a frame, and nothing between two.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiohttp import WSCloseCode, WSMsgType

from k2k.live.frame import DEFLATED, FIN, TRAIL

_RESERVED = 0x30
_MASKED = 0x80
_MASK_BYTES = 4
_LENGTH_BYTES = {126: 2, 127: 8}
"""How many bytes of length follow a header whose own seven bits say so."""
CONTINUATION, TEXT, BINARY = WSMsgType.CONTINUATION.value, WSMsgType.TEXT.value, WSMsgType.BINARY.value
CLOSE, PING, PONG = WSMsgType.CLOSE.value, WSMsgType.PING.value, WSMsgType.PONG.value
_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
# A message may be deflated in several members (RFC 7692 7.2.3.5); nobody needs more.
_MOST_MEMBERS = 16


class Violation(Exception):
    """The client broke the rules of websockets: the connection is to be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Control(NamedTuple):
    """A frame that is no message: CLOSE, PING, PONG, or CONTINUATION for a part of a message that goes on."""

    opcode: int
    payload: bytes = b""


PART = Control(CONTINUATION)


class Reader:
    """Reads one connection. Messages are at most `limit` bytes long, inflated; text comes as str, binary as bytes."""

    __slots__ = ("_begun", "_deflated", "_deflates", "_held", "_inflater", "_limit", "_needed", "_opcode", "_parts")

    def __init__(self, limit: int, *, deflates: bool) -> None:
        self._limit = limit
        self._deflates = deflates
        self._inflater: Any = None
        """What clients deflate may refer to what they sent before."""
        self._parts: list[bytes] | None = None
        """A frame that has not wholly arrived; it is looked at again once `_held` has reached `_needed`."""
        self._held = self._needed = 0
        self._begun: bytearray | None = None
        """The parts so far of a message whose first frame had `_opcode`."""
        self._opcode = 0
        self._deflated = False

    def read(self, data: bytes) -> Iterator[str | bytes | Control]:
        """The messages and control frames that end in what arrived, in order.

        Raises Violation; what comes after that must not be read.
        """
        if self._parts is not None:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return
            data, self._parts = b"".join(self._parts), None
        place = 0
        while (end := self._end(data, place)) is not None:
            yield self._taken(data[place], _unmasked(data, place, end))
            place = end
        if place < len(data):
            self._parts, self._held = [data[place:]], len(data) - place

    def _end(self, data: bytes, place: int) -> int | None:
        """Where the frame that begins at `place` ends; None if it has not wholly arrived. Raises Violation."""
        self._needed = 2
        if len(data) < place + 2:
            return None
        first, second = data[place], data[place + 1]
        length, begin = second & 0x7F, place + 2
        self._check(first, second, length)
        if length > 125:
            begin += _LENGTH_BYTES[length]
            self._needed = begin - place
            if len(data) < begin:
                return None
            length = int.from_bytes(data[place + 2 : begin])
        begun = self._begun if self._begun is not None and first & 0x0F < CLOSE else b""
        if length + len(begun) > self._limit:
            raise Violation(WSCloseCode.MESSAGE_TOO_BIG, "message too big")
        end = begin + _MASK_BYTES + length
        self._needed = end - place
        return end if end <= len(data) else None

    def _check(self, first: int, second: int, length: int) -> None:
        """Raises Violation for a header that may not come now."""
        opcode = first & 0x0F
        if not second & _MASKED:
            # Harmless to us and not to a cache between, which might take its text for HTTP.
            fault = "a frame without a mask"
        elif opcode not in _OPCODES:
            fault = "an unknown opcode"
        elif first & _RESERVED or (first & DEFLATED and not (self._deflates and opcode in (TEXT, BINARY))):
            fault = "reserved bits"
        elif opcode >= CLOSE and (length > 125 or not first & FIN):
            fault = "a control frame that is long or in parts"
        elif opcode < CLOSE and (opcode == CONTINUATION) != (self._begun is not None):
            fault = "a part of another message"
        else:
            return
        raise Violation(WSCloseCode.PROTOCOL_ERROR, fault)

    def _taken(self, first: int, payload: bytes) -> str | bytes | Control:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            return Control(opcode, payload)
        if opcode != CONTINUATION:
            self._opcode, self._deflated = opcode, bool(first & DEFLATED)
        if self._begun is not None:
            self._begun += payload
            payload = b""
        if not first & FIN:
            self._begun = bytearray(payload) if self._begun is None else self._begun
            return PART
        if self._begun is not None:
            payload, self._begun = bytes(self._begun), None
        return self._message(payload)

    def _message(self, payload: bytes) -> str | bytes:
        if self._deflated:
            payload = self._inflate(payload)
        if self._opcode == BINARY:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError:
            raise Violation(WSCloseCode.INVALID_TEXT, "text that is not UTF-8") from None

    def _inflate(self, payload: bytes) -> bytes:
        inflated, left = bytearray(), payload + TRAIL
        try:
            for _ in range(_MOST_MEMBERS):
                if self._inflater is None:
                    self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
                inflated += self._inflater.decompress(left, self._limit + 1 - len(inflated))
                if len(inflated) > self._limit:
                    break
                if not self._inflater.eof:
                    return bytes(inflated)
                left, self._inflater = self._inflater.unused_data, None
        except zlib.error:
            raise Violation(WSCloseCode.INVALID_TEXT, "not deflated") from None
        raise Violation(WSCloseCode.MESSAGE_TOO_BIG, "message too big")


def close_code(payload: bytes) -> int:
    """The code that a close frame names; 1000 if it names none. Raises Violation for one that may not be sent."""
    if not payload:
        return WSCloseCode.OK
    code = int.from_bytes(payload[:2])
    allowed = code in _CLOSE_CODES or 3000 <= code < 5000
    if len(payload) < 2 or not allowed:
        raise Violation(WSCloseCode.PROTOCOL_ERROR, "a close frame with a code that may not be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(WSCloseCode.INVALID_TEXT, "a reason that is not UTF-8") from None
    return code


# Those of RFC 6455 7.4.1 and later registrations, without those that only stand for a connection without a close frame.
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})


def _unmasked(data: bytes, place: int, end: int) -> bytes:
    """The payload of the frame that stands there. Long integers are the fastest XOR that Python has."""
    begin = place + 2 + _LENGTH_BYTES.get(data[place + 1] & 0x7F, 0)
    mask, payload = data[begin : begin + _MASK_BYTES], data[begin + _MASK_BYTES : end]
    length = len(payload)
    stretched = (mask * (length // _MASK_BYTES + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(stretched, "little")).to_bytes(length, "little")
