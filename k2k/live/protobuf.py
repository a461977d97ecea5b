"""The Protobuf encoding of the protocol, which the mobile SDKs speak: the same fields, each message after its length.

A binary frame holds one or more messages, each prefixed by its length as a varint. An empty message is a ping or a
pong. Fields of bytes (`data`, `conn_info`) carry JSON as UTF-8. The definitions are those of the official package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, assert_never

from aiohttp import WSMsgType
from centrifuge.protocol import client_pb2
from google.protobuf.message import DecodeError
from pydantic import ValidationError

from k2k.live import wire
from k2k.live.wire import BadFrame, Command
from k2k.ops.validation import MalformedJson, parse_json

pb: Any = client_pb2  # made by protoc, without types

_LONGEST_VARINT = 5  # of a length below 2^35, far beyond any frame


class ProtobufCodec:
    """For the subprotocol `centrifuge-protobuf`."""

    opcode = WSMsgType.BINARY.value
    ping = b"\x00"

    def decode(self, frame: str | bytes) -> list[Command]:
        if isinstance(frame, str):
            raise BadFrame("a text frame on a socket of Protobuf")
        return [_command(message) for message in _messages(frame)]

    def reply(self, command: Command, result: wire.Result) -> bytes:
        reply = pb.Reply(id=command.id)
        field = getattr(reply, command.kind)
        field.SetInParent()  # an empty result still says which command it answers
        _fill(field, result)
        return _prefixed(reply)

    def refuse(self, command: Command, refusal: wire.Refusal) -> bytes:
        error = pb.Error(code=refusal.code, message=refusal.message, temporary=refusal.temporary)
        return _prefixed(pb.Reply(id=command.id, error=error))

    def push(self, channel: str, news: wire.News) -> bytes:
        push = pb.Push(channel=channel)
        match news:
            case wire.Publication():
                push.pub.CopyFrom(_publication(news))
            case wire.Join(info):
                push.join.info.CopyFrom(_info(info))
            case wire.Leave(info):
                push.leave.info.CopyFrom(_info(info))
            case wire.Granted(subscription):
                push.subscribe.SetInParent()
                if subscription.epoch:
                    push.subscribe.MergeFrom(
                        pb.Subscribe(
                            recoverable=True, positioned=True, epoch=subscription.epoch, offset=subscription.offset
                        )
                    )
            case wire.Withdrawn(code, reason):
                push.unsubscribe.MergeFrom(pb.Unsubscribe(code=code, reason=reason))
            case wire.Close(code, reason):
                push.disconnect.MergeFrom(pb.Disconnect(code=code, reason=reason))
            case _:
                assert_never(news)
        return _prefixed(pb.Reply(push=push))

    def joined(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)


def _messages(frame: bytes) -> Iterator[bytes]:
    """The messages of a frame. Raises BadFrame where a length is none or leads beyond the frame."""
    place = 0
    while place < len(frame):
        length = shift = 0
        while True:
            if place >= len(frame) or shift > 7 * (_LONGEST_VARINT - 1):
                raise BadFrame("a message without its length")
            byte = frame[place]
            place += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        if place + length > len(frame):
            raise BadFrame("half a message")
        yield frame[place : place + length]
        place += length


def _prefixed(message: Any) -> bytes:
    """A message after its length."""
    encoded: bytes = message.SerializeToString()
    length, prefix = len(encoded), bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + encoded


def _command(encoded: bytes) -> Command:
    if not encoded:
        return Command(0, "pong", wire.Pong())
    try:
        message = pb.Command.FromString(encoded)
    except DecodeError:
        raise BadFrame("not a message of the protocol") from None
    kinds = [field.name for field, _ in message.ListFields() if field.name != "id"]
    if kinds == ["send"]:
        return Command(0, "send", wire.Send())
    if len(kinds) != 1 or kinds[0] not in _BODIES or not message.id:
        raise BadFrame("a command has an id and one known name")
    (kind,) = kinds
    try:
        return Command(message.id, kind, _BODIES[kind](getattr(message, kind)))
    except (ValidationError, MalformedJson):
        raise BadFrame(f"the fields of {kind} are not what they should be") from None


def _json(data: bytes) -> Any:
    """What bytes hold; nothing where there are none. Raises MalformedJson."""
    return parse_json(data) if data else None


def _recover(m: Any) -> dict[str, Any]:
    return {"recover": m.recover, "epoch": m.epoch, "offset": m.offset}


def _connect(m: Any) -> wire.Connect:
    subs = {channel: wire.Recover(**_recover(sub)) for channel, sub in m.subs.items()}
    return wire.Connect(token=m.token, data=_json(m.data), name=m.name, version=m.version, subs=subs)


def _subscribe(m: Any) -> wire.Subscribe:
    return wire.Subscribe(channel=m.channel, data=_json(m.data), join_leave=m.join_leave, flag=m.flag, **_recover(m))


def _history(m: Any) -> wire.History:
    since = wire.Since(epoch=m.since.epoch, offset=m.since.offset) if m.HasField("since") else None
    return wire.History(channel=m.channel, limit=m.limit, since=since, reverse=m.reverse)


_BODIES: dict[str, Callable[[Any], wire.Body]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": lambda m: wire.Unsubscribe(channel=m.channel),
    "publish": lambda m: wire.Publish(channel=m.channel, data=_json(m.data)),
    "presence": lambda m: wire.Presence(channel=m.channel),
    "presence_stats": lambda m: wire.PresenceStats(channel=m.channel),
    "history": _history,
    "rpc": lambda m: wire.Rpc(method=m.method, data=_json(m.data)),
    "refresh": lambda m: wire.Refresh(token=m.token),
    "sub_refresh": lambda m: wire.SubRefresh(channel=m.channel),
    "ping": lambda _: wire.Ping(),
}


def _fill(field: Any, result: wire.Result) -> None:
    """Write a result into the field of its reply."""
    match result:
        case wire.Called(data):
            field.data = data
        case wire.Done():
            pass
        case wire.Subscription():
            _subscription(field, result)
        case wire.Connected():
            _connected(field, result)
        case wire.Refreshed(client, version, ttl):
            field.MergeFrom(pb.RefreshResult(client=client, version=version, expires=True, ttl=ttl))
        case wire.Present(clients):
            field.MergeFrom(pb.PresenceResult(presence={one.client: _info(one) for one in clients}))
        case wire.Stats(clients, users):
            field.num_clients, field.num_users = clients, users
        case wire.Past(epoch, offset, publications):
            field.epoch, field.offset = epoch, offset
            field.publications.extend(_publication(one) for one in publications)
        case _:
            assert_never(result)


def _connected(field: Any, result: wire.Connected) -> None:
    field.MergeFrom(pb.ConnectResult(client=result.client, version=result.version, ping=result.ping, pong=True))
    if result.ttl is not None:
        field.expires, field.ttl = True, result.ttl
    for channel, subscription in result.subs.items():
        _subscription(field.subs[channel], subscription)


def _subscription(field: Any, result: wire.Subscription) -> None:
    if not result.epoch:
        return
    field.recoverable = field.positioned = True
    field.epoch, field.offset = result.epoch, result.offset
    if result.was_recovering:
        field.was_recovering, field.recovered = True, result.recovered
        field.publications.extend(_publication(one) for one in result.publications)


def _publication(publication: wire.Publication) -> Any:
    info = _info(publication.info) if publication.info is not None else None
    return pb.Publication(data=publication.data, offset=publication.offset, info=info)


def _info(info: wire.ClientInfo) -> Any:
    return pb.ClientInfo(user=info.user, client=info.client, conn_info=info.conn_info)
