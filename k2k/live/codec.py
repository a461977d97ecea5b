"""The JSON encoding of the protocol: a text frame holds one or more objects separated by newlines, in both directions.

`{}` from the server is a ping, from the client a pong. A reply names the id of its command, a push has none, and every
result object stands there even when it is empty. What PostgreSQL rendered is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from aiohttp import WSMsgType
from pydantic import ValidationError
from pydantic_core import to_json

from k2k.live import wire
from k2k.live.wire import BadFrame, Command
from k2k.ops.validation import MalformedJson, parse_json


class JsonCodec:
    """What browsers and the Python SDK speak unless told otherwise."""

    opcode = WSMsgType.TEXT.value
    ping = b"{}"

    def decode(self, frame: str | bytes) -> list[Command]:
        if isinstance(frame, bytes):
            raise BadFrame("a binary frame on a socket of text")
        return [_command(line) for line in frame.split("\n") if line]

    def reply(self, command: Command, result: wire.Result) -> bytes:
        return b'{"id":%d,"%s":%s}' % (command.id, command.kind.encode(), _result(result))

    def refuse(self, command: Command, refusal: wire.Refusal) -> bytes:
        error: dict[str, object] = {"code": refusal.code, "message": refusal.message}
        if refusal.temporary:
            error["temporary"] = True
        return to_json({"id": command.id, "error": error})

    def push(self, channel: str, news: wire.News) -> bytes:
        match news:
            case wire.Publication():
                told = b'"pub":' + _publication(news)
            case wire.Join(info):
                told = b'"join":{"info":%s}' % _info(info)
            case wire.Leave(info):
                told = b'"leave":{"info":%s}' % _info(info)
            case wire.Granted(subscription):
                told = b'"subscribe":' + _subscription(subscription)
            case wire.Withdrawn(code, reason):
                told = b'"unsubscribe":' + to_json({"code": code, "reason": reason})
            case wire.Close(code, reason):
                return b'{"push":{"disconnect":%s}}' % to_json({"code": code, "reason": reason})
            case _:
                assert_never(news)
        return b'{"push":{"channel":%s,%s}}' % (to_json(channel), told)

    def joined(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join(messages)


def _command(line: str) -> Command:
    try:
        value = parse_json(line)
    except MalformedJson as error:
        raise BadFrame(error.detail) from None
    if not isinstance(value, dict):
        raise BadFrame("a command is an object")
    if not value:
        return Command(0, "pong", wire.Pong())
    if "send" in value:
        return Command(0, "send", wire.Send())
    kinds = [kind for kind in value if kind in wire.COMMANDS]
    id_ = value.get("id")
    if len(kinds) != 1 or not isinstance(id_, int) or isinstance(id_, bool) or not 0 < id_ < 2**32:
        raise BadFrame("a command has an id and one known name")
    (kind,) = kinds
    try:
        # Absent fields and null mean the same in the protocol.
        body = wire.COMMANDS[kind].model_validate({k: v for k, v in (value[kind] or {}).items() if v is not None})
    except (ValidationError, AttributeError):
        raise BadFrame(f"the fields of {kind} are not what they should be") from None
    return Command(id_, kind, body)  # type: ignore[arg-type]  # the table holds the union's members


def _result(result: wire.Result) -> bytes:
    match result:
        case wire.Called(data):
            return b'{"data":%s}' % data
        case wire.Done():
            return b"{}"
        case wire.Subscription():
            return _subscription(result)
        case wire.Connected():
            return _connected(result)
        case wire.Refreshed(client, version, ttl):
            return to_json({"client": client, "version": version, "expires": True, "ttl": ttl})
        case wire.Present(clients):
            return b'{"presence":{%s}}' % b",".join(to_json(one.client) + b":" + _info(one) for one in clients)
        case wire.Stats(clients, users):
            return b'{"num_clients":%d,"num_users":%d}' % (clients, users)
        case wire.Past(epoch, offset, publications):
            return b'{"publications":[%s],"epoch":%s,"offset":%d}' % (
                _publications(publications),
                to_json(epoch),
                offset,
            )
        case _:
            assert_never(result)


def _connected(result: wire.Connected) -> bytes:
    expiry = b'"expires":true,"ttl":%d,' % result.ttl if result.ttl is not None else b""
    subs = b",".join(to_json(channel) + b":" + _subscription(one) for channel, one in result.subs.items())
    return b'{"client":%s,"version":%s,"ping":%d,"pong":true,%s"subs":{%s}}' % (
        to_json(result.client),
        to_json(result.version),
        result.ping,
        expiry,
        subs,
    )


def _subscription(result: wire.Subscription) -> bytes:
    if not result.epoch:
        return b"{}"
    members = b'"recoverable":true,"positioned":true,"epoch":%s,"offset":%d' % (to_json(result.epoch), result.offset)
    if result.was_recovering:
        members += b',"was_recovering":true,"recovered":%s' % (b"true" if result.recovered else b"false")
        members += b',"publications":[%s]' % _publications(result.publications)
    return b"{%s}" % members


def _publications(publications: Iterable[wire.Publication]) -> bytes:
    return b",".join(_publication(one) for one in publications)


def _publication(publication: wire.Publication) -> bytes:
    members = b'{"data":' + publication.data
    if publication.offset:
        members += b',"offset":%d' % publication.offset
    if publication.info is not None:
        members += b',"info":' + _info(publication.info)
    return members + b"}"


def _info(info: wire.ClientInfo) -> bytes:
    more = b',"conn_info":' + info.conn_info if info.conn_info else b""
    return b'{"user":%s,"client":%s%s}' % (to_json(info.user), to_json(info.client), more)
