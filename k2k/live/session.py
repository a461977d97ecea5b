"""One socket's state: who it speaks for, what it follows, which of its calls are running, and when it must be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from math import inf
from typing import Any, Protocol, assert_never
from uuid import uuid4

from pydantic_core import to_json

from k2k.core.errors import DomainError, Unauthenticated
from k2k.core.ids import Channel, UserId, user_channel
from k2k.infra.ephemeral import Place
from k2k.live import wire
from k2k.live.command import VERSION, Commands, ConnectWish
from k2k.live.following import Following, subscription
from k2k.live.hub import Joined
from k2k.live.lobby import Ticket
from k2k.live.presence import occupant
from k2k.live.pulse import Pulse
from k2k.live.wire import Command, Push, Refused
from k2k.ops.authenticator import Principal
from k2k.ops.channels import Address, Kind, Presence


class Outlet(Protocol):
    """The sending side of a socket."""

    def offer(self, message: bytes) -> None: ...

    def cut(self, close: wire.Close) -> None: ...

    async def drained(self) -> None: ...

    @property
    def closing(self) -> bool:
        """Whether it was cut."""

    @property
    def untaken(self) -> int:
        """Bytes that the client's network has not taken."""


class Session:
    """Runs a socket's commands: connect, subscribe and refresh strictly in order, calls side by side once started.

    A call that was started is finished even if the socket goes away: what it wrote may have been committed.
    """

    __slots__ = (
        "_calls",
        "_client",
        "_codec",
        "_commands",
        "_connected",
        "_device",
        "_following",
        "_freed",
        "_gained",
        "_hoped_for",
        "_outlet",
        "_paid_until",
        "_personal",
        "_ticket",
        "address",
        "device_kind",
        "principal",
        "pulse",
    )

    def __init__(
        self, outlet: Outlet, codec: wire.Codec, commands: Commands, address: str, ticket: Ticket | None = None
    ) -> None:
        self._outlet = outlet
        self._codec = codec
        self._commands = commands
        self._ticket = ticket
        self._client = str(uuid4())
        self._device = ""
        self._calls: set[asyncio.Task[None]] | None = None
        self._freed: asyncio.Future[None] | None = None
        self._following = Following(self, commands)
        self._hoped_for: frozenset[str] = frozenset()
        self._gained: frozenset[Channel] = frozenset()
        self._personal: Channel | None = None
        self._connected = False
        self._paid_until = 0.0
        self.address = address
        self.pulse = Pulse(outlet, codec.ping, commands.wheel, commands.settings)
        self.device_kind = "other"
        self.principal: Principal | None = None

    # What the hub and the people who revoke call

    @property
    def user_id(self) -> UserId | None:
        return self.principal.id if self.principal is not None else None

    @property
    def info(self) -> wire.ClientInfo:
        """How others see this socket."""
        user = str(self.principal.id) if self.principal is not None else ""
        return wire.ClientInfo(user, self._client, to_json({"device": self.device_kind}))

    def offer(self, push: Push) -> None:
        """Queue a push."""
        self._outlet.offer(push.encoded(self._codec))

    def lose_access(self, channel: Channel) -> None:
        """The channel may no longer be followed."""
        self._following.lose_access(channel)

    def gain_access(self, channel: Channel) -> None:
        """The channel may be followed from now on; if the app had wished to, it does, once its connect is answered."""
        if channel not in self._hoped_for:
            return
        if not self._connected:
            self._gained |= {channel}
        elif channel not in self._following:
            self._start_call(self._grant(channel))

    def revoke(self) -> None:
        """The sign-in has ended: the socket is closed for good."""
        self._outlet.cut(wire.INVALID_TOKEN)

    def cut(self, close: wire.Close) -> None:
        self._outlet.cut(close)

    async def drained(self) -> None:
        await self._outlet.drained()

    def places(self) -> Iterator[Place]:
        """Where this socket is present."""
        if self._connected:
            if self._personal is not None:
                yield self._at_home(self._personal)
            for channel, kind in self._following.present():
                yield self._in(channel, kind)

    def appear(self, channel: Channel, kind: Kind) -> None:
        if kind.presence is not Presence.hidden:
            self._commands.presence.enter(self._in(channel, kind))

    def disappear(self, channel: Channel, kind: Kind) -> None:
        if kind.presence is not Presence.hidden:
            self._commands.presence.leave(self._in(channel, kind))

    # What the socket calls

    async def receive(self, frame: str | bytes) -> None:
        """Run the commands of one frame. Returns when the next frame may be read."""
        try:
            commands = self._codec.decode(frame)
        except wire.BadFrame:
            self._outlet.cut(wire.BAD_REQUEST)
            return
        if not commands and not self.pay():
            self._outlet.cut(wire.TOO_MANY_COMMANDS)  # frames of nothing cost as well, and have no answer to refuse
        for command in commands:
            if not await self._obey(command):
                return

    async def close(self) -> None:
        """The socket is gone. Waits for its calls, each of which ends by the database's deadline."""
        if self._ticket is not None:
            self._ticket.leave()
        self.pulse.stop()
        if self._personal is not None:
            if self._connected:
                self._commands.presence.leave(self._at_home(self._personal))
            self._commands.hub.forget(self, self._personal)
        self._following.leave_all()
        self._connected = False
        await asyncio.gather(*(self._calls or ()), return_exceptions=True)

    # Commands

    async def _obey(self, command: Command) -> bool:
        """Run one command; false if the rest of the frame must not be looked at."""
        if self._outlet.closing:
            return False
        if isinstance(command.body, wire.Connect) == self._connected:
            self._outlet.cut(wire.BAD_REQUEST)
            return False
        if not self.pay():
            return self._refuse_for_haste(command)
        if isinstance(command.body, wire.Connect):
            return await self._connect(command, command.body)
        try:
            await self._commands.admit(command.body, self.principal, self.address)
            await self._run(command, command.body)
        except (Refused, DomainError) as error:
            self._refuse(command, _refusal(error))
        return True

    async def _run(self, command: Command, body: wire.Body) -> None:
        match body:
            case wire.Rpc() | wire.Presence() | wire.PresenceStats() | wire.History():
                await self._call(command)
            case wire.Subscribe():
                await self._subscribe(command, body)
            case wire.Refresh():
                await self._refresh(command, body)
            case wire.SubRefresh():
                await self._sub_refresh(command, body.channel)
            case wire.Unsubscribe():
                self._following.unsubscribe(Channel(body.channel))
                self._reply(command, wire.Done())
            case wire.Publish():
                self._commands.publish(self._following.kind(body.channel), body, self.info)
                self._reply(command, wire.Done())
            case wire.Pong() | wire.Send():
                pass
            case wire.Ping() | wire.Connect():
                raise Refused(wire.NOT_AVAILABLE)
            case _:
                assert_never(body)

    async def _connect(self, command: Command, wish: wire.Connect) -> bool:
        try:
            asked = ConnectWish.of(wish)
            self.principal = await self._commands.authenticate(wish.token)
            self._device = " ".join(part for part in (wish.name, wish.version) if part)
            self.device_kind = asked.device
            joined = await self._enter(wish, asked)
        except (Refused, DomainError) as error:
            # The SDK may have sent subscribes behind this: answering them would end it for good.
            self.principal = None
            self._refuse(command, _refusal(error))
            self._outlet.cut(wire.CLOSED)
            return False
        self._welcome(command, wish, joined)
        return True

    async def _enter(self, wish: wire.Connect, asked: ConnectWish) -> dict[Channel, Joined | None]:
        """Join what the server grants on connect. Raises Refused or a domain error."""
        principal = self.principal
        if principal is None:
            return {}
        self._personal = personal = user_channel(principal.id)
        self._hoped_for = frozenset(asked.follow)
        # Even an app that follows its personal channel by itself must be found there when its sign-in ends.
        await self._commands.hub.watch_over(self, personal)
        joined: dict[Channel, Joined | None] = {}
        wanted = [personal, *asked.follow] if asked.personal == "server" else list(asked.follow)
        for channel in wanted:
            address = self._commands.channels.find(channel)
            if address is not None and channel not in joined:
                try:
                    joined[address.channel] = await self._following.join(
                        address, wish.subs.get(channel, wire.Recover()), granted=True
                    )
                except Refused as refused:
                    if channel == personal or refused.refusal is not wire.PERMISSION_DENIED:
                        raise
        # Asked again now that we listen: a revocation before would never be heard.
        await self._commands.recheck(principal)
        return joined

    def _welcome(self, command: Command, wish: wire.Connect, joined: dict[Channel, Joined | None]) -> None:
        self._connected = True
        # What was lost while the others were being joined is not told of.
        joined = {channel: one for channel, one in joined.items() if channel in self._following}
        if self._ticket is not None:
            self._ticket.connect(signed_in=self.principal is not None)
        subs = {channel: subscription(wish.subs.get(channel, wire.Recover()), one) for channel, one in joined.items()}
        ttl = self._commands.ttl(self.principal) if self.principal is not None else None
        ping = max(1, round(self._commands.settings.ping_seconds))
        self._reply(command, wire.Connected(self._client, VERSION, ttl, ping, subs))
        for channel, one in joined.items():
            self._following.admit(channel, one)
        if self._personal is not None:
            self._commands.presence.enter(self._at_home(self._personal), self._crowd)
        self.pulse.start(self._expiry())
        for channel in self._gained:
            self.gain_access(channel)

    async def _subscribe(self, command: Command, wish: wire.Subscribe) -> None:
        address = self._commands.channels.find(wish.channel)
        if address is None:
            raise Refused(wire.UNKNOWN_CHANNEL)
        joined = await self._following.join(address, wish)
        if joined is not None and wish.recover and not joined.recovered and wish.flag & wire.REJECT_UNRECOVERED:
            self._following.unsubscribe(address.channel)
            raise Refused(wire.UNRECOVERABLE)
        self._reply(command, subscription(wish, joined))
        self._following.admit(address.channel, joined)

    async def _grant(self, channel: Channel) -> None:
        """Subscribe the client to what it may follow now."""
        address = self._commands.channels.find(channel)
        if address is None:
            return
        try:
            joined = await self._following.join(address, wire.Recover(), granted=True)
        except Refused:
            return  # the permission is gone again
        except DomainError:
            self._outlet.cut(wire.INSUFFICIENT_STATE)  # the next connect will grant it
            return
        self.offer(Push(channel, wire.Granted(subscription(wire.Recover(), joined))))
        self._following.admit(channel, joined)

    async def _refresh(self, command: Command, wish: wire.Refresh) -> None:
        principal = await self._commands.authenticate(wish.token)
        if principal is None or self.principal is None or principal.id != self.principal.id:
            raise Unauthenticated("The token speaks for somebody else")
        before, self.principal = self.principal, principal  # a revocation from here on is heard
        try:
            await self._commands.recheck(principal)
        except DomainError:
            self.principal = before
            raise
        self.pulse.prolong(self._expiry())
        self._reply(command, wire.Refreshed(self._client, VERSION, self._commands.ttl(principal)))

    async def _sub_refresh(self, command: Command, channel: str) -> None:
        """Subscriptions end with their permission, not with a token; who asks is asked about."""
        self._following.kind(channel)
        address = self._commands.channels.find(channel)
        assert address is not None  # noqa: S101 - it is followed
        await self._check_again(address)
        self._reply(command, wire.Done())

    async def _check_again(self, address: Address) -> None:
        try:
            await self._commands.check_access(address, self.principal)
        except Refused:
            self._following.lose_access(address.channel)
            raise

    async def _call(self, command: Command) -> None:
        """Start a call, once fewer than the allowed number run; until then nothing more is read."""
        while self._crowded:
            self._freed = asyncio.get_running_loop().create_future()
            await self._freed
        self._start_call(self._answer(command))

    async def _answer(self, command: Command) -> None:
        body = command.body
        try:
            if isinstance(body, wire.Rpc):
                called = await self._commands.call(body, self.principal, self._device, self.address)
                if isinstance(called, wire.Refusal):
                    self._refuse(command, called)
                else:
                    self._reply(command, called)
            else:
                assert isinstance(body, wire.Presence | wire.PresenceStats | wire.History)  # noqa: S101 - as _obey says
                self._reply(command, await self._commands.look(body, self._following.kind(body.channel)))
        except (Refused, DomainError) as error:
            self._refuse(command, _refusal(error))

    def _start_call(self, call: Coroutine[Any, Any, None]) -> None:
        if self._calls is None:
            self._calls = set()
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._end_call)

    def _end_call(self, task: asyncio.Task[None]) -> None:
        assert self._calls is not None  # noqa: S101 - it was among them
        self._calls.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._outlet.cut(wire.SERVER_ERROR)
            self._commands.unforeseen(fault)
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)

    @property
    def _crowded(self) -> bool:
        return self._calls is not None and len(self._calls) >= self._commands.settings.rpc_at_once

    # Limits and time

    def pay(self) -> bool:
        """Whether one more command is within the rate (GCRA, by the loop's clock)."""
        settings, now = self._commands.settings, asyncio.get_running_loop().time()
        self._paid_until = max(self._paid_until, now) + 1 / settings.commands_per_second
        return self._paid_until - now <= settings.commands_at_once / settings.commands_per_second

    def _refuse_for_haste(self, command: Command) -> bool:
        """Error 111 first; what goes on as if nothing had been said is abuse."""
        settings, now = self._commands.settings, asyncio.get_running_loop().time()
        # Refused commands are owed as well: twice the allowance on top of it, and the socket goes.
        if self._paid_until - now > 3 * settings.commands_at_once / settings.commands_per_second:
            self._outlet.cut(wire.TOO_MANY_COMMANDS)
            return False
        if command.id:
            self._refuse(command, wire.TOO_MANY_REQUESTS)
        return True

    def _crowd(self, others: int) -> None:
        """So many other sockets of this person are open, over all processes."""
        if others >= self._commands.settings.sockets_per_user:
            self._outlet.cut(wire.CONNECTION_LIMIT)

    def _expiry(self) -> float:
        """The loop's time at which the socket must have had another token."""
        if self.principal is None:
            return inf
        left = self.principal.expires_at - self._commands.services.db.clock.now()
        return asyncio.get_running_loop().time() + left.total_seconds() + self._commands.settings.expiry_grace_seconds

    # Answers

    def _reply(self, command: Command, result: wire.Result) -> None:
        self._outlet.offer(self._codec.reply(command, result))

    def _refuse(self, command: Command, refusal: wire.Refusal) -> None:
        self._outlet.offer(self._codec.refuse(command, refusal))

    def _at_home(self, personal: Channel) -> Place:
        """Being online is being present in one's own channel."""
        return Place(personal, occupant(self.info), told=False)

    def _in(self, channel: Channel, kind: Kind) -> Place:
        return Place(channel, occupant(self.info), told=kind.presence is Presence.people)


def _refusal(error: Refused | DomainError) -> wire.Refusal:
    return error.refusal if isinstance(error, Refused) else wire.refusal(error)
