"""One socket's state: who it speaks for, where it listens, which of its rpcs are running, and when it must be gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol, assert_never
from uuid import uuid4

from k2k.core.errors import DomainError, Unauthenticated
from k2k.core.ids import user_channel
from k2k.live import wire
from k2k.live.command import Commands
from k2k.ops.authenticator import Principal


class Outlet(Protocol):
    """The sending side of a socket."""

    def offer(self, frame: bytes) -> None: ...

    def cut(self, close: wire.Close) -> None: ...


class Session:
    """Runs a socket's commands: connect and refresh strictly in order, rpcs started in order and then side by side.

    An rpc that was started is finished even if the socket goes away: what it wrote may have been committed.
    """

    def __init__(self, outlet: Outlet, commands: Commands, address: str) -> None:
        self._outlet = outlet
        self._commands = commands
        self._address = address
        self._client = str(uuid4())
        self._device = ""
        self._rpcs: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(commands.settings.rpc_at_once)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.principal: Principal | None = None
        self._arm("connect", commands.settings.connect_seconds, wire.NOT_CONNECTED)

    def offer(self, frame: bytes) -> None:
        """Queue a frame; a member of a line."""
        self._outlet.offer(frame)

    def lose(self) -> None:
        """The SDK reconnects, is told that it could not be recovered, and the app fetches its state."""
        self._outlet.cut(wire.INSUFFICIENT_STATE)

    def revoke(self) -> None:
        """The sign-in has ended: the socket is closed for good."""
        self._outlet.cut(wire.INVALID_TOKEN)

    async def receive(self, frame: str) -> None:
        """Run the commands of one text frame. Returns when the next frame may be read."""
        try:
            commands = wire.decode(frame)
        except wire.BadFrame:
            self._outlet.cut(wire.BAD_REQUEST)
            return
        for command in commands:
            if not await self._obey(command):
                return

    async def close(self) -> None:
        """The socket is gone. Waits for its rpcs, each of which ends by the database's deadline."""
        for timer in self._timers.values():
            timer.cancel()
        if self.principal is not None:
            self._commands.hub.leave(self, user_channel(self.principal.id))
        await asyncio.gather(*self._rpcs, return_exceptions=True)

    async def _obey(self, command: wire.Command) -> bool:
        """Run one command; false if the rest of the frame must not be looked at."""
        if isinstance(command.body, wire.Connect) == (self.principal is not None):
            self._outlet.cut(wire.BAD_REQUEST)
            return False
        match command.body:
            case wire.Connect():
                return await self._connect(command, command.body)
            case wire.Rpc():
                await self._start_rpc(command)
            case wire.Refresh():
                return await self._refresh(command, command.body)
            case wire.Pong():
                self._disarm("pong")
            case wire.Send():
                pass
            case body:
                self.offer(self._refusal(command, body))
        return True

    def _refusal(
        self, command: wire.Command, body: wire.Subscribe | wire.Publish | wire.Unsubscribe | wire.Unserved
    ) -> bytes:
        """The answer to what there is no channel for: the personal one is granted on connect, to nobody else."""
        match body:
            case wire.Subscribe(channel=channel):
                granted = self.principal is not None and channel == user_channel(self.principal.id)
                code, message = (105, "already subscribed") if granted else (103, "permission denied")
                return wire.error_reply(command, code, message)
            case wire.Publish():
                return wire.error_reply(command, 103, "permission denied")
            case wire.Unsubscribe():
                return wire.reply(command)
            case wire.Unserved():
                return wire.error_reply(command, 108, "not available")
            case _:
                assert_never(body)

    async def _connect(self, command: wire.Command, wish: wire.Connect) -> bool:
        try:
            principal = await self._commands.authenticate(wish.token)
            self.principal = principal
            joined = await self._commands.join_personal(self, principal, wish)
        except DomainError as error:
            # The SDK may have sent subscribes behind this: answering them would end it for good.
            self.principal = None
            self.offer(wire.protocol_error(command, error))
            self._outlet.cut(wire.CLOSED)
            return False
        self._disarm("connect")
        self._device = " ".join(part for part in (wish.name, wish.version) if part)
        self.offer(self._commands.connected(command, self._client, principal, joined))
        self._commands.hub.admit(self, user_channel(principal.id), joined.position)
        self._expect_expiry(principal)
        ping = self._commands.settings.ping_seconds
        self._after("ping", random.uniform(ping / 2, ping), self._ping)  # noqa: S311 - only spreads the load
        return True

    async def _refresh(self, command: wire.Command, wish: wire.Refresh) -> bool:
        assert self.principal is not None  # noqa: S101 - _obey looked
        try:
            principal = await self._commands.authenticate(wish.token)
            if principal.id != self.principal.id:
                raise Unauthenticated("The token speaks for somebody else")
            self.principal = principal
            await self._commands.recheck(principal)
        except DomainError as error:
            self.offer(wire.protocol_error(command, error))
            return True
        self._expect_expiry(principal)
        self.offer(self._commands.refreshed(command, self._client, principal))
        return True

    async def _start_rpc(self, command: wire.Command) -> None:
        """Start the rpc, once fewer than the allowed number run; until then nothing more is read."""
        await self._room.acquire()
        task = asyncio.get_running_loop().create_task(self._rpc(command))
        self._rpcs.add(task)
        task.add_done_callback(self._rpcs.discard)

    async def _rpc(self, command: wire.Command) -> None:
        try:
            assert self.principal is not None  # noqa: S101 - _obey looked
            self.offer(await self._commands.call(command, self.principal, self._device, self._address))
        finally:
            self._room.release()

    def _expect_expiry(self, principal: Principal) -> None:
        left = principal.expires_at - self._commands.services.db.clock.now()
        self._arm("expiry", left.total_seconds() + self._commands.settings.expiry_grace_seconds, wire.EXPIRED)

    def _ping(self) -> None:
        settings = self._commands.settings
        self.offer(wire.PING)
        self._after("pong", settings.pong_seconds, self._miss_pong)
        self._after("ping", settings.ping_seconds, self._ping)

    def _miss_pong(self) -> None:
        """No pong in time. While its rpcs fill the room nothing is read, so it may be waiting for us to look."""
        if self._room.locked():
            self._after("pong", self._commands.settings.pong_seconds, self._miss_pong)
        else:
            self._outlet.cut(wire.NO_PONG)

    def _arm(self, name: str, seconds: float, close: wire.Close) -> None:
        """Cut the socket with `close` unless disarmed within `seconds`."""
        self._after(name, seconds, lambda: self._outlet.cut(close))

    def _after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._disarm(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, action)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
