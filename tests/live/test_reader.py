"""What clients send, cut into pieces by the network wherever it likes, is read as it was sent or refused."""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2k.live.reader import CLOSE, PART, PING, PONG, Control, Reader, Violation, close_code

LIMIT = 64 * 1024
FIN, DEFLATED = 0x80, 0x40
TEXT, BINARY = 1, 2


def framed(first: int, payload: bytes, *, masked: bool = True) -> bytes:
    """A frame as it stands on the wire; `first` is its first byte (fin, reserved bits, opcode)."""
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 1 << 16:
        head = bytes([first, bit | 126]) + struct.pack("!H", size)
    else:
        head = bytes([first, bit | 127]) + struct.pack("!Q", size)
    mask = os.urandom(4) if masked else b""
    return head + mask + bytes(byte ^ mask[at % 4] if masked else byte for at, byte in enumerate(payload))


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def cut(sent: bytes, places: list[int]) -> Iterator[bytes]:
    """The same bytes in pieces."""
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    return (sent[begin:end] for begin, end in itertools.pairwise(edges))


@dataclass
class Sent:
    """Frames, and what they say."""

    frames: bytes
    read: list[str | bytes | Control]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
controls = st.builds(
    lambda opcode, payload: Sent(framed(FIN | opcode, payload), [Control(opcode, payload)]),
    st.sampled_from([PING, PONG]),
    st.binary(max_size=125),
)


@st.composite
def messages(draw: st.DrawFn) -> Sent:
    """A text or a binary message, deflated or not, in any number of frames, with control frames between."""
    message = draw(texts | st.binary(max_size=300))
    payload = message.encode() if isinstance(message, str) else message
    first = TEXT if isinstance(message, str) else BINARY
    if draw(st.booleans()):
        payload, first = deflated(payload), first | DEFLATED
    pieces = list(cut(payload, draw(st.lists(st.integers(0, 1000), max_size=3))))
    sent = Sent(b"", [])
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        sent.frames += framed((first if number == 0 else 0) | (FIN if last else 0), piece)
        sent.read.append(message if last else PART)
        if not last and draw(st.booleans()):
            between = draw(controls)
            sent.frames += between.frames
            sent.read += between.read
    return sent


@given(st.lists(messages() | controls, max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
def test_what_was_sent_is_read_wherever_the_network_cuts(sent: list[Sent], places: list[int]) -> None:
    reader = Reader(LIMIT, deflates=True)
    read = [frame for piece in cut(b"".join(one.frames for one in sent), places) for frame in reader.read(piece)]
    assert read == [frame for one in sent for frame in one.read]


def outcome(reader: Reader, pieces: Iterable[bytes]) -> tuple[list[str | bytes | Control], int | None]:
    """What was read, and the code of the violation that ended it."""
    read: list[str | bytes | Control] = []
    try:
        for piece in pieces:
            read += reader.read(piece)
    except Violation as violation:
        return read, violation.code
    return read, None


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5), st.booleans())
def test_whatever_comes_is_read_or_is_a_violation(sent: bytes, places: list[int], deflates: bool) -> None:
    _, code = outcome(Reader(LIMIT, deflates=deflates), cut(sent, places))
    assert code in (None, 1002, 1007, 1009)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_frame_without_a_mask_is_seen_behind_any_other(size: int, step: int) -> None:
    sent = framed(FIN | BINARY, b"x" * size) + framed(FIN | BINARY, b"y", masked=False)
    pieces = (sent[at : at + step] for at in range(0, len(sent), step))
    _, code = outcome(Reader(LIMIT, deflates=False), pieces)
    assert code == 1002


REFUSED: dict[str, tuple[bytes, int]] = {
    "too long": (framed(FIN | TEXT, b"x" * (LIMIT + 1)), 1009),
    "too long in parts": (framed(TEXT, b"x" * LIMIT) + framed(FIN, b"x"), 1009),
    "said to be too long": (framed(FIN | TEXT, b"x" * 70_000)[:10], 1009),
    "too long when inflated": (framed(FIN | DEFLATED | TEXT, deflated(b"x" * (LIMIT + 1))), 1009),
    "a bomb": (framed(FIN | DEFLATED | TEXT, deflated(b"x" * 40_000_000)), 1009),
    "not deflated": (framed(FIN | DEFLATED | TEXT, b"\xff\xff\xff"), 1007),
    "a deflated ping": (framed(FIN | DEFLATED | PING, b""), 1002),
    "a part of nothing": (framed(FIN, b"x"), 1002),
    "a message amid another": (framed(TEXT, b"a") + framed(FIN | TEXT, b"b"), 1002),
    "a ping in parts": (framed(PING, b"x"), 1002),
    "a long ping": (framed(FIN | PING, b"x" * 126), 1002),
    "a surrogate": (framed(FIN | TEXT, b"\xed\xa0\x80"), 1007),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_may_not_be_sent_is_refused_by_code(what: str) -> None:
    sent, expected = REFUSED[what]
    _, code = outcome(Reader(LIMIT, deflates=True), [sent])
    assert code == expected


def test_a_message_of_the_largest_size_is_read() -> None:
    (plain,) = Reader(LIMIT, deflates=True).read(framed(FIN | TEXT, b"x" * LIMIT))
    (inflated,) = Reader(LIMIT, deflates=True).read(framed(FIN | DEFLATED | TEXT, deflated(b"x" * LIMIT)))
    assert plain == inflated == "x" * LIMIT


def test_a_control_frame_is_no_part_of_the_message_around_it() -> None:
    sent = framed(TEXT, b"x" * (LIMIT - 10)) + framed(FIN | PING, b"y" * 100) + framed(FIN, b"z" * 10)
    read, code = outcome(Reader(LIMIT, deflates=False), [sent])
    assert code is None
    assert read == [PART, Control(PING, b"y" * 100), "x" * (LIMIT - 10) + "z" * 10]


def test_what_is_deflated_may_refer_to_the_message_before() -> None:
    reader, compressor = Reader(LIMIT, deflates=True), zlib.compressobj(wbits=-15)
    for _ in range(3):
        payload = (compressor.compress(b"the same again") + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert list(reader.read(framed(FIN | DEFLATED | TEXT, payload))) == ["the same again"]


def test_a_message_may_be_deflated_in_members() -> None:
    """The example of RFC 7692 7.2.3.5."""
    reader = Reader(LIMIT, deflates=True)
    for _ in range(2):
        payload = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"
        assert list(reader.read(framed(FIN | DEFLATED | TEXT, payload))) == ["Hello"]


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_a_close_may_name_its_code(code: int) -> None:
    assert close_code(struct.pack("!H", code) + "ደህና".encode()) == code


def test_a_close_need_not_name_a_code() -> None:
    assert close_code(b"") == 1000
    (frame,) = Reader(LIMIT, deflates=False).read(framed(FIN | CLOSE, b""))
    assert frame == Control(CLOSE)


@pytest.mark.parametrize("payload", ["03", "0000", "03ed", "03ee", "07d0", "1388", "03e8ff"])
def test_a_close_may_not_name_what_is_no_code(payload: str) -> None:
    with pytest.raises(Violation):
        close_code(bytes.fromhex(payload))
