"""What each command of the protocol does. The session says when it runs; here is how it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import uuid4

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from k2k.core.errors import DomainError, Internal, Invalid, Problem, Unavailable
from k2k.core.ids import Channel, user_channel
from k2k.core.settings import LiveSettings
from k2k.infra.log import name_request
from k2k.infra.streams import Streams
from k2k.live import wire
from k2k.live.hub import Hub
from k2k.live.presence import Presence
from k2k.live.wheel import Wheel
from k2k.live.wire import Refused
from k2k.ops import channels
from k2k.ops.authenticator import Authenticator, Principal, permit
from k2k.ops.call import Call, Services
from k2k.ops.channels import Address, Asked, Channels, Kind
from k2k.ops.limits import Guard
from k2k.ops.perform import key_of, perform
from k2k.ops.permissions import PERMISSIONS, Role
from k2k.ops.problem import document, status_of
from k2k.ops.registry import KEY_FIELD, Operation
from k2k.ops.validation import unknown, validate

log = structlog.get_logger()

VERSION = "k2k/1"
# A connect is the lobby's to count, and to leave costs nothing.
COUNTED = (
    wire.Subscribe,
    wire.SubRefresh,
    wire.Refresh,
    wire.Publish,
    wire.Presence,
    wire.PresenceStats,
    wire.History,
)
Device = Literal["phone", "tablet", "desktop", "web", "other"]
# What the SDKs call themselves where the app says nothing.
_DEVICES: Mapping[str, Device] = {"js": "web", "swift": "phone", "java": "phone", "dart": "phone"}


class ConnectWish(BaseModel):
    """The `data` of a connect. `follow`: channels the server is to grant on connect and as soon as they are allowed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")
    personal: Literal["server", "client"] = "server"
    """Who subscribes to the personal channel; "client" for apps with getState."""
    device: Device = "other"
    follow: Annotated[list[Annotated[str, Field(max_length=channels.LONGEST)]], Field(max_length=16)] = []

    @classmethod
    def of(cls, wish: wire.Connect) -> ConnectWish:
        """What the app asks for. Raises Refused."""
        try:
            asked = cls.model_validate({} if wish.data is None else wish.data)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            place = "/".join(map(str, ("data", *fault["loc"])))
            raise Refused(wire.Refusal(wire.BAD_COMMAND.code, f"{place}: {fault['msg']}")) from None
        if "device" in asked.model_fields_set:
            return asked
        return asked.model_copy(update={"device": _DEVICES.get(wish.name, "other")})


@dataclass(frozen=True)
class Commands:
    """The commands of all sockets of this process."""

    services: Services
    authenticator: Authenticator
    hub: Hub
    streams: Streams
    channels: Channels
    operations: Mapping[str, Operation]
    """By their rpc name."""
    presence: Presence
    whisper: Callable[[Channel, wire.News], None]
    """Tell the followers of a channel, on all processes, what is not numbered."""
    wheel: Wheel
    settings: LiveSettings
    guard: Guard

    async def authenticate(self, token: str) -> Principal | None:
        """Who connects; nobody in particular without a token.

        Raises TokenExpired (the SDK then brings a fresh token), Unauthenticated, Unavailable.
        """
        return await self.authenticator.authenticate(token, self.services.db.clock.now()) if token else None

    async def recheck(self, principal: Principal) -> None:
        """Ask again now that the session listens: a revocation before it did would never be heard. Raises as above."""
        await self.authenticator.check(principal, self.services.db.clock.now(), fresh=True)

    async def admit(self, body: wire.Body, principal: Principal | None, address: str) -> None:
        """Count what makes us ask the database or Redis, over all sockets of one person or address.

        Rpcs are counted when they are called. Raises Limited.
        """
        if isinstance(body, COUNTED):
            await self.guard.admit_command(principal, address)

    async def check_access(self, address: Address, principal: Principal | None) -> None:
        """Raises Refused unless the person may follow the channel now; Unavailable if that cannot be told."""
        if principal is not None and address.channel == user_channel(principal.id):
            return
        kind = address.kind
        if kind.may not in PERMISSIONS[await self._role(kind, principal)]:
            raise Refused(wire.PERMISSION_DENIED)
        asked = Asked(principal.id if principal is not None else None, address.path)
        if not await self.services.db.gather(kind.allows, asked):
            raise Refused(wire.PERMISSION_DENIED)

    async def _role(self, kind: Kind, principal: Principal | None) -> Role:
        """The role of who asks; it may have changed since they connected, so one that is not enough is asked again."""
        if principal is None:
            return Role.anonymous
        if kind.may in PERMISSIONS[principal.role]:
            return principal.role
        now = self.services.db.clock.now()
        return (await self.authenticator.check(principal, now, fresh=True)).role

    def ttl(self, principal: Principal) -> int:
        """Whole seconds until the access token ends, at least 1."""
        left = principal.expires_at - self.services.db.clock.now()
        return max(1, int(left.total_seconds()))

    def publish(self, kind: Kind, wish: wire.Publish, info: wire.ClientInfo) -> None:
        """Say something in a channel that is followed. Raises Refused where clients may not, or not that."""
        if kind.says is None:
            raise Refused(wire.PERMISSION_DENIED)
        said = validate(kind.says, wish.data, "body")
        self.whisper(Channel(wish.channel), wire.Publication(to_json(said), info=info))

    async def look(self, wish: wire.Presence | wire.PresenceStats | wire.History, kind: Kind) -> wire.Result:
        """What a followed channel holds: who is there, or what happened. Raises Refused or a domain error."""
        channel = Channel(wish.channel)
        match wish:
            case wire.Presence():
                if kind.presence is not channels.Presence.people:
                    raise Refused(wire.NOT_AVAILABLE)
                return wire.Present(await self.presence.people(channel))
            case wire.PresenceStats():
                if kind.presence is channels.Presence.hidden:
                    raise Refused(wire.NOT_AVAILABLE)
                people = kind.presence is channels.Presence.people
                count = self.presence.count if people else self.presence.crowd
                return wire.Stats(*await count(channel))
            case wire.History():
                if kind.kept is None:
                    raise Refused(wire.NOT_AVAILABLE)
                return await self._history(channel, wish)

    async def _history(self, channel: Channel, wish: wire.History) -> wire.Past:
        since = wish.since.offset if wish.since is not None else None
        past = await self.streams.history(channel, since, limit=wish.limit, reverse=wish.reverse)
        if wish.since is not None and wish.since.epoch not in ("", past.top.epoch):
            raise Refused(wire.UNRECOVERABLE)
        events = [wire.Publication(event.body, event.offset) for event in past.events]
        return wire.Past(past.top.epoch, past.top.offset, events)

    async def call(
        self, wish: wire.Rpc, principal: Principal | None, device: str, address: str
    ) -> wire.Called | wire.Refusal:
        """Run an operation; its result, or its problem document."""
        operation = self.operations.get(wish.method)
        if operation is None:
            return wire.METHOD_NOT_FOUND
        request_id = uuid4().hex
        started, outcome = time.perf_counter(), "ok"
        name_request(request_id)
        try:
            principal = await self._admit(operation, principal, address)
            call = Call(self.services, principal, request_id, self.services.db.clock.now(), device, address)
            answered = await perform(operation, call, *_asked(operation, wish.data))
            return wire.Called(bytes(answered.body))
        except DomainError as error:
            outcome = error.code
            return _problem(error, status_of(error), request_id)
        except Exception:
            log.exception("unforeseen", rpc=operation.rpc)
            outcome = Internal.code
            return _problem(Internal(), 500, request_id)
        finally:
            seconds = time.perf_counter() - started
            self.services.db.metrics.rpcs.labels(operation.rpc, outcome).observe(seconds)

    async def _admit(self, operation: Operation, principal: Principal | None, address: str) -> Principal | None:
        """The person as of now. Raises Limited, Unauthenticated, TokenExpired or Denied."""
        if principal is not None:
            now = self.services.db.clock.now()
            principal = await self.authenticator.check(principal, now, told=True)
            if operation.may not in PERMISSIONS[principal.role]:  # perhaps not any more: somebody became an agent
                principal = await self.authenticator.check(principal, now, fresh=True)
        self.guard.enforce(await self.guard.count(operation, principal, address))
        permit(principal, operation.may)
        return principal

    def unforeseen(self, fault: BaseException) -> None:
        """A fault of ours ended a call."""
        log.error("unforeseen", exc_info=fault)


def _asked(operation: Operation, sent: object) -> tuple[dict[str, object], str | None]:
    """What came as an rpc's data: path, query and body as models, and the idempotency key. Raises Invalid."""
    if sent is None:
        sent = {}
    if not isinstance(sent, dict):
        raise Invalid(problems=[Problem("", "body", "dict_type", "data must be an object")])
    parts = _parts(operation, {name: value for name, value in sent.items() if name != KEY_FIELD})
    return parts, key_of(operation, sent.get(KEY_FIELD), f"/{KEY_FIELD}", "body")


def _parts(operation: Operation, flat: Mapping[str, object]) -> dict[str, object]:
    """The flat object as path, query and body models; the faults of all three are told together."""
    parts: dict[str, object] = {}
    faults: list[Problem] = []
    for part, values in operation.split(flat).items():
        model = operation.models.get(part)
        if model is None:
            faults += [unknown(name, "body") for name in values]
            continue
        try:
            parts[part] = validate(model, values, "body")
        except Invalid as error:
            faults += error.problems
    if faults:
        raise Invalid(problems=faults)
    return parts


def _problem(error: DomainError, status: int, request_id: str) -> wire.Refusal:
    message = to_json(document(error, status=status, request_id=request_id)).decode()
    return wire.Refusal(error.number, message, temporary=isinstance(error, Unavailable))
