"""What clients send must be masked, or the connection is closed (RFC 6455 5.1); aiohttp's reader takes it either way.

An unmasked frame is harmless to us and not to a cache between, which might take its text for HTTP.
"""

from __future__ import annotations

from typing import Any

from aiohttp import WebSocketError, WSCloseCode, web

_LENGTH_BYTES = {126: 2, 127: 8}
"""How many bytes of length follow a header whose own seven bits say so."""
_MASK_BYTES = 4


class Masks:
    """Follows a client's frames from header to header."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._left = 0
        """Bytes until the next header."""
        self._head = b""
        """The beginning of a header that has not wholly arrived."""

    def good(self, data: bytes) -> bool:
        """Whether each frame that begins in what arrived is masked."""
        if self._head:
            data, self._head = self._head + data, b""
        place, size = self._left, len(data)
        while place + 2 <= size:
            if data[place + 1] < 0x80:
                return False
            length = data[place + 1] & 0x7F
            begin = place + 2 + _LENGTH_BYTES.get(length, 0)
            if begin > size:
                break
            if length >= 126:
                length = int.from_bytes(data[place + 2 : begin])
            place = begin + _MASK_BYTES + length
        self._left = max(0, place - size)
        self._head = data[place:]
        return True


class _Checked:
    """aiohttp's parser of one connection behind a check of the masks."""

    def __init__(self, masks: Masks, parser: Any, received: Any) -> None:
        self._masks = masks
        self._parser = parser
        self._received = received

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if self._masks.good(data):
            fed: tuple[bool, bytes] = self._parser.feed_data(data)
            return fed
        self.refuse()
        return True, b""

    def refuse(self) -> None:
        """Closes the socket as aiohttp's own protocol errors do."""
        self._received.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, "a frame that is not masked"))

    def feed_eof(self) -> None:
        self._parser.feed_eof()


class MaskedSocket(web.WebSocketResponse):
    """A websocket that closes with 1002 at the first frame that is not masked."""

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        # aiohttp has no public place for this; tests/live/test_bad_frames.py sees when its inner names change.
        connection: Any = request.protocol
        masks = Masks()
        good = masks.good(connection._message_tail)  # what came with the handshake
        if not good:
            connection._message_tail = b""
        super()._post_start(request, protocol, writer)
        checked = connection._payload_parser = _Checked(masks, connection._payload_parser, self._reader)
        if not good:
            checked.refuse()
