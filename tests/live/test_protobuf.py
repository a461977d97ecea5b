"""The two encodings held against the official definitions and against each other, and frames that are neither."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from centrifuge.protocol import client_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from k2k.core.ids import Channel
from k2k.live import wire
from k2k.live.codec import JsonCodec
from k2k.live.door import PATH, PROTOBUF
from k2k.live.protobuf import ProtobufCodec
from k2k.live.wire import BadFrame, ClientInfo, Command, Publication, Subscription
from tests.support import Node, People, Person

pb: Any = client_pb2
JSON, BINARY = JsonCodec(), ProtobufCodec()
RAW = {"data", "conn_info"}
"""Fields of bytes, which hold JSON."""


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def prefixed(*messages: Any) -> bytes:
    """A frame of messages."""
    encoded = [message.SerializeToString() for message in messages]
    return b"".join(varint(len(one)) + one for one in encoded)


def replies(frame: bytes) -> list[Any]:
    """The messages of a frame, read with the official definitions."""
    found, place = [], 0
    while place < len(frame):
        length = shift = 0
        while True:
            byte = frame[place]
            length |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                break
        found.append(pb.Reply.FromString(frame[place : place + length]))
        place += length
    return found


# Commands of clients, as both encodings carry them

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
offsets = st.integers(0, 2**63 - 1)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
recovers = {"recover": st.booleans(), "epoch": texts, "offset": offsets}
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "connect": {
        "token": texts,
        "data": jsons,
        "name": texts,
        "version": texts,
        "subs": st.dictionaries(texts, st.fixed_dictionaries({}, optional=recovers), max_size=3),
    },
    "subscribe": {"data": jsons, "join_leave": st.booleans(), "flag": st.integers(0, 3), **recovers},
    "unsubscribe": {},
    "publish": {"data": jsons},
    "presence": {},
    "presence_stats": {},
    "history": {
        "limit": st.integers(-1, 2**31 - 1),
        "reverse": st.booleans(),
        "since": st.fixed_dictionaries({}, optional={"epoch": texts, "offset": offsets}),
    },
    "rpc": {"method": texts, "data": jsons},
    "refresh": {"token": texts},
    "sub_refresh": {},
    "ping": {},
}
ADDRESSED = {"subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"}


def command(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Such commands as an SDK would build them: some fields given, others left out."""
    channel = {"channel": texts} if kind in ADDRESSED else {}
    body = st.fixed_dictionaries(channel, optional=FIELDS[kind])
    return st.fixed_dictionaries({"id": st.integers(1, 2**32 - 1), kind: body})


unanswered = st.sampled_from([{}, {"send": {"data": 1}}])
commands = st.one_of(unanswered, *map(command, FIELDS))


def as_message(command: dict[str, Any]) -> Any:
    """The command in the official definitions."""
    message = pb.Command(id=command.get("id", 0))
    for kind, body in command.items():
        if kind != "id":
            field = getattr(message, kind)
            field.SetInParent()
            _fill(field, body)
    return message


def _fill(message: Any, body: dict[str, Any]) -> None:
    for name, value in body.items():
        if name in RAW:
            setattr(message, name, json.dumps(value).encode())
        elif name == "subs":
            for channel, sub in value.items():
                _fill(message.subs[channel], sub)
        elif name == "since":
            message.since.SetInParent()
            _fill(message.since, value)
        else:
            setattr(message, name, value)


def decoded_alike(*batch: dict[str, Any]) -> None:
    text = "\n".join(json.dumps(one) for one in batch)
    assert BINARY.decode(prefixed(*map(as_message, batch))) == JSON.decode(text)


@pytest.mark.parametrize("kind", FIELDS)
@settings(max_examples=40)
@given(st.data())
def test_what_is_decoded_from_equal_commands_is_equal(kind: str, data: st.DataObject) -> None:
    decoded_alike(data.draw(command(kind)))


@settings(max_examples=40)
@given(st.lists(commands, min_size=2, max_size=5))
def test_what_is_decoded_from_equal_frames_is_equal(batch: list[dict[str, Any]]) -> None:
    decoded_alike(*batch)


def test_every_command_of_the_protocol_is_among_them() -> None:
    official = {field.name for field in pb.Command.DESCRIPTOR.fields}
    assert official == {"id", "send", *FIELDS} == {"id", "send", *wire.COMMANDS}


# Results, refusals and pushes

infos = st.builds(ClientInfo, texts, texts, st.sampled_from([b"", b'{"device":"phone"}']))
datas = jsons.map(lambda value: json.dumps(value).encode())
numbers = st.integers(0, 2**31 - 1)
publications = st.builds(Publication, datas, offsets, st.none() | infos)
subscriptions = st.builds(
    Subscription, texts, offsets, st.booleans(), st.booleans(), st.lists(publications, max_size=3)
)
RESULTS: dict[str, st.SearchStrategy[wire.Result]] = {
    "connect": st.builds(
        wire.Connected,
        texts,
        texts,
        st.none() | st.integers(1, 10**6),
        st.integers(1, 60),
        st.dictionaries(texts.map(Channel), subscriptions, max_size=3),
    ),
    "subscribe": subscriptions,
    "unsubscribe": st.just(wire.Done()),
    "publish": st.just(wire.Done()),
    "presence": st.builds(wire.Present, st.lists(infos, max_size=3, unique_by=lambda info: info.client)),
    "presence_stats": st.builds(wire.Stats, numbers, numbers),
    "history": st.builds(wire.Past, texts, offsets, st.lists(publications, max_size=3)),
    "rpc": st.builds(wire.Called, datas),
    "refresh": st.builds(wire.Refreshed, texts, texts, st.integers(1, 10**6)),
    "sub_refresh": st.just(wire.Done()),
}
closes = st.builds(wire.Close, st.integers(3000, 4999), texts)
news: st.SearchStrategy[wire.News] = st.one_of(
    publications,
    st.builds(wire.Join, infos),
    st.builds(wire.Leave, infos),
    st.builds(wire.Granted, st.builds(Subscription, texts, offsets)),
    st.builds(wire.Withdrawn, st.integers(2000, 2999), texts),
    closes,
)


def meant_by_message(message: Any) -> dict[str, Any]:
    meant: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.type == field.TYPE_BYTES:
            meant[field.name] = json.loads(value)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            meant[field.name] = {key: meant_by_message(one) for key, one in value.items()}
        elif field.type == field.TYPE_MESSAGE:
            many = isinstance(value, list) or hasattr(value, "append")
            meant[field.name] = [meant_by_message(one) for one in value] if many else meant_by_message(value)
        else:
            meant[field.name] = value
    return meant


def without_defaults(value: Any) -> Any:
    """Zero, false and empty mean the same as absent, but for JSON that is passed through."""
    if isinstance(value, list):
        return [without_defaults(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: one if name in RAW else without_defaults(one) for name, one in value.items()}
    return {name: one for name, one in found.items() if name in RAW or one not in (0, "", [], {})}


def same(text: bytes, binary: bytes, result: str | None = None) -> None:
    """Both say the same, and the reply's own field is there even if it is empty."""
    (message,) = replies(binary)
    from_json, from_binary = json.loads(text), meant_by_message(message)
    assert without_defaults(from_binary) == without_defaults(from_json)
    if result is not None:
        assert from_json.keys() == from_binary.keys() == {"id", result}


@pytest.mark.parametrize("kind", RESULTS)
@settings(max_examples=40)
@given(st.data())
def test_a_result_means_the_same_in_both_encodings(kind: str, data: st.DataObject) -> None:
    asked, result = Command(data.draw(st.integers(1, 2**32 - 1)), kind, wire.Ping()), data.draw(RESULTS[kind])
    same(JSON.reply(asked, result), BINARY.reply(asked, result), kind)


@given(st.integers(1, 2**32 - 1), st.builds(wire.Refusal, st.integers(1, 2000), texts, st.booleans()))
def test_a_refusal_means_the_same_in_both_encodings(id_: int, refusal: wire.Refusal) -> None:
    asked = Command(id_, "rpc", wire.Ping())
    same(JSON.refuse(asked, refusal), BINARY.refuse(asked, refusal), "error")


@given(texts.filter(bool), news)
def test_a_push_means_the_same_in_both_encodings(channel: str, told: wire.News) -> None:
    channel = "" if isinstance(told, wire.Close) else channel
    same(JSON.push(channel, told), BINARY.push(channel, told), None)


def test_a_ping_is_an_empty_message() -> None:
    (ping,) = replies(BINARY.ping)
    assert (ping, json.loads(JSON.ping)) == (pb.Reply(), {})


@given(st.lists(st.builds(wire.Withdrawn, st.integers(2000, 2999), st.text("x", max_size=300)), max_size=5))
def test_messages_joined_in_a_frame_can_be_told_apart(many: list[wire.Withdrawn]) -> None:
    """Also those whose length takes two bytes."""
    frame = BINARY.joined([BINARY.push("channel", one) for one in many])
    assert [wire.Withdrawn(one.push.unsubscribe.code, one.push.unsubscribe.reason) for one in replies(frame)] == many


# Frames that are not the protocol

PING = prefixed(pb.Command(id=1, ping=pb.PingRequest()))
BROKEN = {
    "half a message": prefixed(as_message({"id": 1, "rpc": {"method": "me.get"}}))[:-1],
    "a length alone": b"\x05",
    "a length beyond the frame": b"\x7f" + PING[1:],
    "a length of 2^31": b"\xff\xff\xff\xff\x07x",
    "a length of 2^63": b"\xff\xff\xff\xff\xff\xff\xff\xff\x7fx",
    "a length without an end": b"\xff\xff\xff\xff\xff\xff",
    "half a length": PING + b"\x80",
    "a good message and a bad one": PING + b"\x02\xff\xff",
    "a wire type that is none": b"\x01\x07",
    "text that is not UTF-8": b"\x06"
    + pb.Command(id=1, rpc=pb.RPCRequest(method="x")).SerializeToString()[:-1]
    + b"\xff",
    "JSON": b'{"id":1,"ping":{}}',
    "no id": prefixed(pb.Command(ping=pb.PingRequest())),
    "an id and nothing else": prefixed(pb.Command(id=1)),
    "two commands in one": prefixed(pb.Command(id=1, ping=pb.PingRequest(), presence=pb.PresenceRequest(channel="x"))),
    "data that is not JSON": prefixed(pb.Command(id=1, rpc=pb.RPCRequest(method="x", data=b"{"))),
    "data that is not UTF-8": prefixed(pb.Command(id=1, rpc=pb.RPCRequest(method="x", data=b'"\xff"'))),
    "an offset of 2^63": prefixed(pb.Command(id=1, subscribe=pb.SubscribeRequest(channel="x", offset=2**63))),
    "a limit below -1": prefixed(pb.Command(id=1, history=pb.HistoryRequest(channel="x", limit=-2))),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_the_protocol_is_a_bad_frame(what: str) -> None:
    with pytest.raises(BadFrame):
        BINARY.decode(BROKEN[what])


@given(st.binary(max_size=60))
def test_any_bytes_are_commands_or_a_bad_frame(frame: bytes) -> None:
    try:
        decoded = BINARY.decode(frame)
    except BadFrame:
        return
    assert all(isinstance(one, Command) for one in decoded)


def test_each_encoding_refuses_the_frames_of_the_other() -> None:
    with pytest.raises(BadFrame):
        BINARY.decode('{"id":1,"ping":{}}')
    with pytest.raises(BadFrame):
        JSON.decode(PING)


def test_what_later_protocols_add_is_left_out() -> None:
    """Field 100 of a command's body is unknown to us and to the definitions."""
    body = pb.RPCRequest(method="me.get").SerializeToString() + b"\xa0\x06\x01"
    encoded = b"\x08\x01" + rpc_tag() + varint(len(body)) + body
    assert BINARY.decode(varint(len(encoded)) + encoded) == [Command(1, "rpc", wire.Rpc(method="me.get"))]


def rpc_tag() -> bytes:
    return varint(pb.Command.DESCRIPTOR.fields_by_name["rpc"].number << 3 | 2)


# On the wire


@asynccontextmanager
async def opened(node: Node, *protocols: str, path: str = PATH) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(node.api.base + path, protocols=protocols) as socket,
    ):
        yield socket


def connect(person: Person) -> Any:
    return as_message({"id": 1, "connect": {"token": person.token}})


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ((PROTOBUF,), PROTOBUF),
        (("centrifuge-json", PROTOBUF), "centrifuge-json"),
        ((PROTOBUF, "centrifuge-json"), PROTOBUF),
        (("centrifuge-json",), "centrifuge-json"),
        ((), None),
    ],
)
async def test_the_first_encoding_that_a_client_offers_is_spoken(
    node: Node, people: People, offered: tuple[str, ...], agreed: str | None
) -> None:
    person = await people.buyer()
    async with opened(node, *offered) as socket:
        assert socket.protocol == agreed
        if agreed == PROTOBUF:
            await socket.send_bytes(prefixed(connect(person)))
            (reply,) = replies(await socket.receive_bytes(timeout=5))
            assert list(reply.connect.subs) == [f"user:{person.id}"]
        else:
            await socket.send_str(json.dumps({"id": 1, "connect": {"token": person.token}}))
            reply = await socket.receive_json(timeout=5)
            assert list(reply["connect"]["subs"]) == [f"user:{person.id}"]


async def test_commands_come_and_answers_go_together(node: Node, people: People) -> None:
    person = await people.buyer()
    wishes = [as_message({"id": id_, "unsubscribe": {"channel": f"nobody:{id_}"}}) for id_ in range(2, 200)]
    async with opened(node, PROTOBUF) as socket:
        await socket.send_bytes(prefixed(connect(person), *wishes))
        answers: list[Any] = []
        frames = 0
        while len(answers) < 1 + len(wishes):
            answers += [reply for reply in replies(await socket.receive_bytes(timeout=5)) if reply.id]
            frames += 1
        assert [reply.id for reply in answers] == list(range(1, 200))
        assert all(reply.HasField("unsubscribe") for reply in answers[1:])
        assert frames < 10


@pytest.mark.parametrize("what", ["text", *BROKEN])
async def test_what_is_not_the_protocol_closes_the_socket_for_good(node: Node, people: People, what: str) -> None:
    person = await people.buyer()
    async with opened(node, PROTOBUF) as socket:
        await socket.send_bytes(prefixed(connect(person)))
        await socket.receive_bytes(timeout=5)
        if what == "text":
            await socket.send_str('{"id":2,"ping":{}}')
        else:
            await socket.send_bytes(BROKEN[what])
        closed = await socket.receive(timeout=5)
        assert (closed.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 3501)


async def test_a_refused_connect_is_answered_and_the_rest_of_its_frame_is_not(node: Node) -> None:
    async with opened(node, PROTOBUF) as socket:
        subscribe = as_message({"id": 2, "subscribe": {"channel": "staff"}})
        await socket.send_bytes(prefixed(as_message({"id": 1, "connect": {"token": "nonsense"}}), subscribe))
        (reply,) = replies(await socket.receive_bytes(timeout=5))
        assert (reply.id, reply.error.code) == (1, 101)
        assert ((await socket.receive(timeout=5)).type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 3000)
