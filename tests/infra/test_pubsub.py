"""What one process says the others hear, whatever becomes of Redis and however fast anybody changes their mind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from k2k.core.settings import RedisSettings, Settings
from k2k.infra import embedded
from k2k.infra.pubsub import PubSub
from tests.support import eventually


class Listener:
    """A link that notes what it hears."""

    def __init__(self, settings: RedisSettings) -> None:
        self.link = PubSub(settings)
        self.link.arrived = lambda channel, message: self.heard.append((channel, message))
        self.heard: list[tuple[str, bytes]] = []

    async def hears(self, channel: str, message: bytes) -> bool:
        return (channel, message) in self.heard


@asynccontextmanager
async def listening(settings: RedisSettings) -> AsyncIterator[Listener]:
    listener = Listener(settings)
    listener.link.start()
    await eventually(lambda: is_up(listener.link))
    yield listener
    await listener.link.close()


async def is_up(link: PubSub) -> bool:
    return link.up


async def is_down(link: PubSub) -> bool:
    return not link.up


def a_channel() -> str:
    return f"test:{uuid4()}"


def of(settings: Settings, server: embedded.Server) -> RedisSettings:
    return settings.redis.model_copy(update={"url": SecretStr(server.url)})


async def channels_known(settings: RedisSettings) -> Callable[[], Awaitable[set[str]]]:
    """What the server says somebody listens to, of the channels of tests."""

    async def ask() -> set[str]:
        async with Redis.from_url(settings.url.get_secret_value()) as redis:
            names: list[Any] = await redis.pubsub_channels(f"{settings.prefix}:test:*")
        return {name.decode().removeprefix(f"{settings.prefix}:") for name in names}

    return ask


async def test_what_is_said_once_a_subscription_is_confirmed_is_heard_in_order(settings: Settings) -> None:
    async with listening(settings.redis) as one, listening(settings.redis) as other:
        channel = a_channel()
        await other.link.subscribe(channel)
        said = [b"%d \r\n\x00" % number for number in range(3000)]
        for message in said:
            one.link.publish(channel, message)
        await eventually(lambda: other.hears(channel, said[-1]))
        assert other.heard == [(channel, message) for message in said]
        assert one.heard == []


async def test_long_messages_go_whole(settings: Settings) -> None:
    async with listening(settings.redis) as one, listening(settings.redis) as other:
        channel, long = a_channel(), os.urandom(3_000_000)
        await other.link.subscribe(channel)
        one.link.publish(channel, long)
        await eventually(lambda: other.hears(channel, long))


async def test_what_is_no_longer_wanted_is_no_longer_followed(settings: Settings) -> None:
    """However fast somebody changes their mind: nothing is left behind, and nothing is lost."""
    known = await channels_known(settings.redis)
    async with listening(settings.redis) as one:
        kept, gone = [a_channel() for _ in range(20)], [a_channel() for _ in range(20)]

        async def waver(channel: str, *, stay: bool) -> None:
            for _ in range(5):
                joining = asyncio.create_task(one.link.subscribe(channel))
                await asyncio.sleep(0)
                await one.link.unsubscribe(channel)
                await joining
            if stay:
                await one.link.subscribe(channel)

        await asyncio.gather(*(waver(channel, stay=channel in kept) for channel in kept + gone))
        mine = set(kept) | set(gone)

        async def settled() -> bool:
            return await known() & mine == set(kept)

        await eventually(settled)


async def test_what_was_given_up_while_redis_was_away_is_not_followed_again(
    settings: Settings, own_valkey: embedded.Server
) -> None:
    own = of(settings, own_valkey)
    known = await channels_known(own)
    async with listening(own) as one:
        given_up, wanted = a_channel(), a_channel()
        await one.link.subscribe(given_up)
        async with Redis.from_url(own.url.get_secret_value()) as redis:
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
            await eventually(lambda: is_down(one.link))
            await one.link.unsubscribe(given_up)
            await one.link.subscribe(wanted)
            await eventually(lambda: is_up(one.link))
            one.link.publish(wanted, b"hello")

            async def heard() -> bool:
                one.link.publish(wanted, b"hello")
                return await one.hears(wanted, b"hello")

            await eventually(heard)
        assert await known() == {wanted}


async def test_a_server_that_froze_is_given_up_and_holds_nobody_up(
    settings: Settings, own_valkey: embedded.Server
) -> None:
    own = of(settings, own_valkey)
    async with listening(own) as one:
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            for _ in range(1000):
                one.link.publish("test:frozen", b"x" * 1000)
            await one.link.subscribe(a_channel())
            assert time.monotonic() - begun < 2
            await eventually(lambda: is_down(one.link))
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)
        await eventually(lambda: is_up(one.link))


async def test_a_server_that_takes_nothing_is_given_up(settings: Settings, own_valkey: embedded.Server) -> None:
    own = of(settings, own_valkey)
    async with listening(own) as one:
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            for _ in range(40):
                one.link.publish("test:frozen", b"x" * 1_000_000)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await eventually(lambda: is_down(one.link), seconds=1)
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)


async def test_a_message_that_cannot_be_handled_does_not_end_the_link(settings: Settings) -> None:
    async with listening(settings.redis) as one:
        channel, heard = a_channel(), list[bytes]()

        def arrived(_: str, message: bytes) -> None:
            heard.append(message)
            if message == b"bad":
                raise ValueError(message)

        one.link.arrived = arrived
        await one.link.subscribe(channel)
        for message in (b"bad", b"good"):
            one.link.publish(channel, message)

        async def both() -> bool:
            return heard == [b"bad", b"good"]

        await eventually(both)
        assert one.link.up


async def test_ping_says_whether_the_server_answers(settings: Settings, own_valkey: embedded.Server) -> None:
    async with listening(of(settings, own_valkey)) as one:
        await one.link.ping()
        os.kill(own_valkey.pid, signal.SIGSTOP)
        try:
            with pytest.raises((OSError, TimeoutError)):
                await one.link.ping()
        finally:
            os.kill(own_valkey.pid, signal.SIGCONT)
