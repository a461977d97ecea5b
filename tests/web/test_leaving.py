"""A process that leaves loses no request that has reached it: not in the queue, not on a connection it holds open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from k2k.core.settings import Settings
from k2k.web import server
from k2k.web.headers import LEAVING, RELIEVED
from tests.raw_http import connection, one_answer
from tests.support import Node

ASK = b"GET /health/ready HTTP/1.1\r\nHost: k2k\r\n\r\n"


@pytest.fixture
async def leaver(settings: Settings) -> AsyncIterator[Node]:
    node = await Node.start(settings)
    yield node
    await node.stop()


async def test_who_waits_to_be_accepted_when_the_listener_closes_is_answered(leaver: Node) -> None:
    address = leaver.runner.addresses[0][:2]
    waiting = [socket.create_connection(address) for _ in range(20)]  # blocks the loop, which so accepts nobody
    for one in waiting:
        one.sendall(ASK)
    await leaver.runner.stop_listening()
    for one in waiting:
        reader, writer = await asyncio.open_connection(sock=one)
        assert (await one_answer(reader)).status == 200
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_an_idle_connection_is_left_open_and_its_next_answer_closes_it(leaver: Node) -> None:
    async with connection(leaver.api.base) as (reader, writer):
        writer.write(ASK)
        assert "Connection" not in (await one_answer(reader)).headers
        leaver.process.app[LEAVING].set()
        await leaver.runner.stop_listening()
        emptied = asyncio.ensure_future(leaver.runner.emptied(0.1))
        await asyncio.sleep(0.3)
        writer.write(ASK)
        assert (await one_answer(reader)).headers["Connection"] == "close"
        await asyncio.wait_for(emptied, 1)


async def test_a_connection_that_stays_idle_is_waited_for_no_longer_than_it_would_have_lived(
    leaver: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connection(leaver.api.base) as (reader, writer):
        writer.write(ASK)
        await one_answer(reader)
        monkeypatch.setattr(server, "KEEPALIVE_SECONDS", 0.3)
        await asyncio.wait_for(leaver.runner.emptied(0.1), 2)
        assert not reader.at_eof()


@pytest.mark.parametrize(("relieved", "status"), [(False, 503), (True, 200)])
async def test_balancers_turn_away_unless_a_successor_serves_at_the_same_address(
    leaver: Node, relieved: bool, status: int
) -> None:
    if relieved:
        leaver.process.app[RELIEVED].set()
    leaver.process.app[LEAVING].set()
    async with connection(leaver.api.base) as (reader, writer):
        writer.write(ASK)
        assert (await one_answer(reader)).status == status
