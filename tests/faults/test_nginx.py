"""The service behind the nginx of config/nginx.conf: two real processes, one of which dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sized
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from k2k.core.settings import Settings
from tests.crowd import Phone, Tally, Visitor, busy
from tests.proxy import Proxy, proxy
from tests.service import WORKERS, StartService, until
from tests.support import Api, Live, People, Person, Subprocess, eventually, free_port

pytestmark = pytest.mark.needs("nginx")


@pytest.fixture
async def processes(settings: Settings, spawn: type[Subprocess]) -> list[Subprocess]:
    """Two real `run.py serve`."""
    return await asyncio.gather(*(spawn.start(settings, free_port()) for _ in range(2)))


@pytest.fixture
async def edge(processes: list[Subprocess], tmp_path: Path) -> AsyncIterator[Proxy]:
    """nginx before both, with a rate for the many people that one address plays here."""
    many = {"rate=100r/s": "rate=10000r/s"}
    async with proxy(tmp_path, [process.port for process in processes], many) as started:
        yield started


async def test_reads_go_on_without_an_error_while_a_process_is_killed(
    edge: Proxy, processes: list[Subprocess], people: People
) -> None:
    agent = await people.agent()
    listing = await people.listing(agent)
    api, killed = Api(edge.base), asyncio.Event()
    statuses: list[int] = []

    async def read(end: int) -> None:
        while len(statuses) < end or not killed.is_set():
            statuses.append((await api.get(f"/properties/{listing}")).status)

    readers = [asyncio.create_task(read(600)) for _ in range(8)]
    await eventually(lambda: _at_least(statuses, 200))
    await processes[0].kill()
    killed.set()
    await asyncio.gather(*readers)
    assert set(statuses) == {200}
    assert {line["upstream"].split(", ")[-1] for line in edge.log()[-100:]} == {f"127.0.0.1:{processes[1].port}"}


async def test_a_lead_reaches_sockets_on_both_processes_and_one_that_died_resumes_on_the_other(
    edge: Proxy, processes: list[Subprocess], people: People
) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    listing, next_listing = await people.listing(agent), await people.listing(agent)
    async with AsyncExitStack() as stack:
        # The one with fewer connections gets the next: one desk on each process.
        desks = [await stack.enter_async_context(Live.open(edge.base)) for _ in processes]
        for desk in desks:
            await desk.connect(agent.token)
        first = await enquire(edge, buyer, listing)
        for desk in desks:
            assert (await desk.event("lead.offered"))["data"]["lead_id"] == first

        await processes[0].kill()
        await eventually(lambda: _any_closed(desks))
        lost, kept = sorted(desks, key=lambda desk: not desk.closed.is_set())
        assert not kept.closed.is_set(), "both desks were on the process that died"
        second = await enquire(edge, buyer, next_listing)
        assert (await kept.event("lead.offered"))["data"]["lead_id"] == second

        back = await stack.enter_async_context(Live.open(edge.base))
        channel = f"user:{agent.id}"
        replay = (await back.connect(agent.token, since=(lost.epoch, lost.offset), channel=channel))["subs"][channel]
        assert replay["recovered"] is True
        assert [event["data"]["data"]["lead_id"] for event in replay["publications"]] == [second]


async def test_one_process_after_the_other_is_restarted_and_every_message_is_written_once(
    edge: Proxy, processes: list[Subprocess], people: People, settings: Settings, spawn: type[Subprocess]
) -> None:
    """The rolling restart of docs/deploy.md, while people write who ask again where they are told to."""
    buyer, agent = await people.buyer(), await people.agent()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    stop, sent = asyncio.Event(), list[str]()

    async def write() -> None:
        while not stop.is_set():
            sent.append(await say(edge, buyer, enquiry["conversation_id"]))

    writers = [asyncio.create_task(write()) for _ in range(4)]
    for process in processes:
        assert await process.kill(signal.SIGTERM) == 0
        await spawn.start(settings, process.port)
        await eventually(partial(_serves, edge, process.port, len(edge.log())))
    stop.set()
    await asyncio.gather(*writers)
    await agrees(edge, buyer, enquiry["conversation_id"], sent)


async def test_workers_are_replaced_behind_it_and_no_request_fails(
    start: StartService, people: People, tmp_path: Path
) -> None:
    agent, tally = await people.agent(), Tally()
    service = await start()
    here = [service.supervisor.port] * 2
    async with proxy(tmp_path, here, {"rate=100r/s": "rate=10000r/s"}) as edge:
        visitors = [Visitor(edge.base, "/api/v1/properties?limit=2", tally, pause=pause) for pause in (0.02, 0.5) * 8]
        desks = [Phone(edge.base, agent, tally) for _ in range(4)]
        async with busy(*(visitor.run() for visitor in visitors), *(desk.run() for desk in desks)):
            await until(lambda: all(desk.connected for desk in desks))
            await service.roll()
            await until(lambda: all(desk.connected for desk in desks))
        assert tally.failed == {}
        assert tally.outcomes["3001"] >= len(desks)
        # 499: a visitor that was sent home while it still waited.
        told = {line["upstream_status"] for line in edge.log() if line["status"] != 499}
        assert told <= {"200", "101"}


async def test_a_read_that_was_under_way_as_a_worker_died_is_asked_again(start: StartService, tmp_path: Path) -> None:
    service, tally = await start(), Tally()
    many = {"rate=100r/s": "rate=10000r/s", "max_fails=2 fail_timeout=1s": "max_fails=0"}
    # Of many kept connections to the dead process nginx may pick two in a row before it sees that they have ended.
    many["keepalive 64;"] = "keepalive 1;"
    async with proxy(tmp_path, [service.supervisor.port] * 2, many) as edge:
        visitors = [Visitor(edge.base, "/api/v1/properties?limit=2", tally, pause=0.02) for _ in range(8)]
        async with busy(*(visitor.run() for visitor in visitors)):
            await until(lambda: tally.outcomes["200"] > 200)
            os.kill(min(service.pids), signal.SIGKILL)
            await until(lambda: service.said("how=SIGKILL") == 1 and len(service.pids) == WORKERS)
    assert tally.failed == {}


async def enquire(edge: Proxy, buyer: Person, listing: object) -> str:
    """The id of the lead that an enquiry through the proxy opens."""
    answer = await Api(edge.base).post(
        f"/listings/{listing}/enquiries",
        json={"client_id": f"{listing}", "message": "Is it still free?"},
        token=buyer.token,
    )
    assert answer.status == 201, answer.json
    lead: str = answer.json["lead_id"]
    return lead


async def say(edge: Proxy, buyer: Person, conversation: str) -> str:
    """Send a message, as often as it is answered that nobody knows whether it was written; its text."""
    text = uuid4().hex
    message = {"conversation_id": conversation, "client_id": text, "message": text}
    for _ in range(5):
        answer = await Api(edge.base).post("/chat/messages", json=message, token=buyer.token)
        if answer.status == 201:
            return text
        assert answer.json["code"] == "outcome-unknown"
    raise AssertionError("five times in a row nobody knew")


async def agrees(edge: Proxy, buyer: Person, conversation: str, sent: list[str]) -> None:
    """What was sent is what stands there, each once."""
    found: list[str] = []
    after = 1  # the enquiry itself
    while page := (await messages(edge, buyer, conversation, after)):
        found += [message["message"] for message in page]
        after = page[-1]["seq"]
    assert sorted(found) == sorted(sent)


async def messages(edge: Proxy, buyer: Person, conversation: str, after: int) -> list[dict[str, Any]]:
    answer = await Api(edge.base).get(
        "/chat/messages", params={"conversation_id": conversation, "after_seq": str(after)}, token=buyer.token
    )
    found: list[dict[str, Any]] = answer.json
    return found


async def _at_least(found: Sized, count: int) -> bool:
    return len(found) >= count


async def _serves(edge: Proxy, port: int, since: int) -> bool:
    """Whether the process on that port has got a request after the first `since` of the log."""
    return any(line["upstream"] == f"127.0.0.1:{port}" and line["status"] < 300 for line in edge.log()[since:])


async def _any_closed(desks: list[Live]) -> bool:
    return any(desk.closed.is_set() for desk in desks)
