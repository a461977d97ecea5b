"""What each command of the protocol does. The session says when it runs; here is how it is answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

import structlog
from pydantic_core import to_json

from k2k.core.errors import DomainError, Internal, Invalid, Problem, Unauthenticated, Unavailable
from k2k.core.ids import user_channel
from k2k.core.settings import LiveSettings
from k2k.infra.log import name_request
from k2k.infra.streams import Position
from k2k.live import wire
from k2k.live.hub import Hub, Joined
from k2k.live.line import Member
from k2k.ops.authenticator import Authenticator, Principal, permit
from k2k.ops.call import Call, Services
from k2k.ops.limits import Guard
from k2k.ops.perform import key_of, perform
from k2k.ops.problem import document, status_of
from k2k.ops.registry import KEY_FIELD, Operation
from k2k.ops.validation import unknown, validate

log = structlog.get_logger()

VERSION = "k2k/1"


@dataclass(frozen=True)
class Commands:
    """The commands of all sockets of this process."""

    services: Services
    authenticator: Authenticator
    hub: Hub
    operations: Mapping[str, Operation]
    """By their rpc name."""
    settings: LiveSettings
    guard: Guard

    async def authenticate(self, token: str) -> Principal:
        """Who connects. Raises TokenExpired (the SDK then brings a fresh token), Unauthenticated, Unavailable."""
        if not token:
            raise Unauthenticated("Connect with an access token")
        return await self.authenticator.authenticate(token, self.services.db.clock.now())

    async def join_personal(self, member: Member, principal: Principal, wish: wire.Connect) -> Joined:
        """Put the member into its personal channel, from where it left off if it says so."""
        channel = user_channel(principal.id)
        left = wish.subs.get(channel)
        since = Position(left.epoch, left.offset) if left is not None and left.recover else None
        joined = await self.hub.join(member, channel, since)
        try:
            await self.recheck(principal)
        except BaseException:
            self.hub.leave(member, channel)
            raise
        return joined

    async def recheck(self, principal: Principal) -> None:
        """Ask again now that the member listens: a revocation before it did would never be heard. Raises as above."""
        await self.authenticator.check(principal, self.services.db.clock.now(), fresh=True)

    def connected(self, command: wire.Command, client: str, principal: Principal, joined: Joined) -> bytes:
        """The reply to a connect that succeeded."""
        assert isinstance(command.body, wire.Connect)  # noqa: S101 - the session looked
        channel = user_channel(principal.id)
        subscription = wire.subscription(
            joined.position.epoch,
            joined.position.offset,
            joined.publications,
            asked=channel in command.body.subs,
            recovered=joined.recovered,
        )
        settings = self.settings
        result = b'{"client":%s,"version":"%s","ping":%d,"pong":true,%s,"subs":{%s:%s}}' % (
            to_json(client),
            VERSION.encode(),
            max(1, round(settings.ping_seconds)),
            self._expiry(principal),
            to_json(channel),
            subscription,
        )
        return wire.reply(command, result)

    def refreshed(self, command: wire.Command, client: str, principal: Principal) -> bytes:
        """The reply to a refresh that succeeded."""
        members = (to_json(client), VERSION.encode(), self._expiry(principal))
        return wire.reply(command, b'{"client":%s,"version":"%s",%s}' % members)

    async def call(self, command: wire.Command, principal: Principal, device: str, address: str) -> bytes:
        """Run an operation and answer its result or its problem document."""
        assert isinstance(command.body, wire.Rpc)  # noqa: S101 - the session looked
        operation = self.operations.get(command.body.method)
        if operation is None:
            return wire.error_reply(command, 104, "method not found")
        request_id = uuid4().hex
        started, outcome = time.perf_counter(), "ok"
        name_request(request_id)
        try:
            principal = await self._admit(operation, principal, address)
            call = Call(self.services, principal, request_id, self.services.db.clock.now(), device)
            answered = await perform(operation, call, *_asked(operation, command.body.data))
            return wire.reply(command, b'{"data":%s}' % answered.body)
        except DomainError as error:
            outcome = error.code
            return _problem(command, error, status_of(error), request_id)
        except Exception:
            log.exception("unforeseen", rpc=operation.rpc)
            outcome = Internal.code
            return _problem(command, Internal(), 500, request_id)
        finally:
            seconds = time.perf_counter() - started
            self.services.db.metrics.rpcs.labels(operation.rpc, outcome).observe(seconds)

    async def _admit(self, operation: Operation, principal: Principal, address: str) -> Principal:
        """The person as of now. Raises Limited, Unauthenticated, TokenExpired or Denied."""
        principal = await self.authenticator.check(principal, self.services.db.clock.now())
        self.guard.enforce(await self.guard.count(operation, principal, address))
        permit(principal, operation.may)
        return principal

    def _expiry(self, principal: Principal) -> bytes:
        left = principal.expires_at - self.services.db.clock.now()
        return b'"expires":true,"ttl":%d' % max(1, int(left.total_seconds()))


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


def _problem(command: wire.Command, error: DomainError, status: int, request_id: str) -> bytes:
    message = to_json(document(error, status=status, request_id=request_id)).decode()
    return wire.error_reply(command, error.number, message, temporary=isinstance(error, Unavailable))
