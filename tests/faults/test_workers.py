"""`run.py serve --workers 2` behaves as one process that cannot be killed and does not stop to be replaced."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.crowd import Phone, Tally, Visitor, busy
from tests.exposition import scrape
from tests.service import WORKERS, Service, StartService, until
from tests.support import ROOT, Api, People, Person, free_port

ROLLING_SECONDS = 15


@pytest.fixture
async def service(start: StartService) -> Service:
    return await start()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a deployment has on its disk, to be changed while it runs."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    shutil.copy(ROOT / "run.py", copy)
    for directory in ("k2k", "config", "sql"):
        shutil.copytree(ROOT / directory, copy / directory, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


async def test_what_is_said_to_one_worker_is_heard_at_the_others(service: Service, people: People) -> None:
    agent, buyer = await people.agent(), await people.buyer()
    conversation = await talk(people, buyer, agent)
    # The kernel spreads connections by chance: all nine are on one worker once in 256 runs.
    phone, *desks = (Phone(service.api.base, person, Tally()) for person in (buyer, *[agent] * 8))
    async with busy(phone.run(), *(desk.run() for desk in desks)):
        await until(lambda: all(desk.connected for desk in desks))
        sent = [await phone.say(conversation) for _ in range(5)]
        await until(lambda: all(desk.heard(conversation) == sent for desk in desks))


async def test_killed_workers_are_started_again_and_nobody_is_refused_meanwhile(service: Service) -> None:
    before = service.pids
    assert len(before) == WORKERS
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    # Nobody is left to answer. The connection waits for the next worker.
    assert (await service.api.get("/properties")).status == 200
    await until(lambda: len(service.pids - before) == WORKERS)
    assert service.said("how=SIGKILL") == WORKERS


async def test_a_killed_supervisor_takes_its_workers_with_it(service: Service) -> None:
    workers = [psutil.Process(pid) for pid in service.pids]
    await service.supervisor.kill()
    await until(lambda: not any(worker.is_running() for worker in workers))
    with pytest.raises(aiohttp.ClientConnectionError):
        await service.api.get("/properties")


async def test_a_stopped_service_ends_in_order_and_sends_its_sockets_away(service: Service, people: People) -> None:
    workers, tally = [psutil.Process(pid) for pid in service.pids], Tally()
    async with busy(Phone(service.api.base, person := await people.buyer(), tally).run()):
        phone = Phone(service.api.base, person, tally)
        async with busy(phone.run()):
            await until(lambda: phone.connected)
            assert await service.supervisor.kill(signal.SIGTERM) == 0
    assert tally.outcomes["3001"] == 2
    assert not any(worker.is_running() for worker in workers)


async def test_each_worker_has_its_own_figures_and_a_successor_takes_over_the_port(start: StartService) -> None:
    port = free_port(WORKERS)
    service = await start(K2K_METRICS__PORT=str(port))

    async def figures() -> list[float]:
        scraped = [await scrape(f"http://127.0.0.1:{port + number}") for number in range(WORKERS)]
        return [one.value("process_start_time_seconds") for one in scraped]

    first, second = await figures()
    await service.roll()
    for before, after in zip((first, second), await figures(), strict=True):
        assert after > before


async def test_a_second_service_on_the_same_port_does_not_start(
    service: Service, start: StartService, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="ended instead of serving"):
        await start(K2K_SERVER__PORT=str(service.supervisor.port))
    assert "stop what listens there" in (tmp_path / "1.log").read_text()


async def test_rolling_restarts_under_load_lose_nothing_and_fail_no_request(service: Service, people: People) -> None:
    agent = await people.agent()
    buyers = [await people.buyer() for _ in range(4)]
    conversations = [await talk(people, buyer, agent) for buyer in buyers]
    tally, base, path = Tally(), service.api.base, "/api/v1/properties?limit=2"
    visitors = [
        *(Visitor(base, path, tally, pause=0.05) for _ in range(4)),
        *(Visitor(base, path, tally, keeps=False, pause=0.05) for _ in range(4)),
        *(Visitor(base, path, tally, pause=0.5) for _ in range(40)),
    ]
    phones = [Phone(base, buyer, tally) for buyer in buyers]
    desks = [Phone(base, agent, tally) for _ in range(4)]
    async with busy(*(visitor.run() for visitor in visitors), *(phone.run() for phone in (*phones, *desks))):
        await until(lambda: all(phone.connected for phone in (*phones, *desks)))
        stop = asyncio.Event()
        talks = list(zip(phones, conversations, strict=True))
        writing = [asyncio.ensure_future(phone.write(conversation, stop)) for phone, conversation in talks]
        seen = service.pids
        started = time.monotonic()
        while time.monotonic() < started + ROLLING_SECONDS:
            await service.roll()
            assert not seen & service.pids, "a worker was not replaced"
            seen |= service.pids
        stop.set()
        for (phone, conversation), sent in zip(talks, await asyncio.gather(*writing), strict=True):
            assert sent == await stored(service.api, phone.person, conversation), "each acknowledged message, once"
            await until(lambda: all(one.heard(conversation) == sent for one in (phone, *desks)))  # noqa: B023
    assert tally.failed == {}
    assert tally.outcomes["200"] > 1000
    assert tally.outcomes["3001"] >= len(phones)


async def test_a_release_that_cannot_start_leaves_the_one_before_serving(start: StartService, checkout: Path) -> None:
    service = await start(checkout)
    before = service.pids
    (checkout / ".env").write_text("K2K_SERVER__PROT=8080\n")
    service.supervisor.process.send_signal(signal.SIGHUP)
    await until(lambda: service.said("successor did not start") == 1)
    assert service.said("K2K_SERVER__PROT is not a setting") == 1
    assert service.pids == before


async def test_where_no_worker_starts_nobody_is_kept_waiting(start: StartService, checkout: Path) -> None:
    service = await start(checkout)
    (checkout / ".env").write_text("K2K_SERVER__PROT=8080\n")
    os.kill(min(service.pids), signal.SIGKILL)
    await until(lambda: service.said("worker did not start") >= 2)
    for _ in range(8):
        assert (await service.api.get("/properties", timeout=aiohttp.ClientTimeout(5))).status == 200
    (checkout / ".env").unlink()
    await until(lambda: len(service.pids) == WORKERS)


async def test_a_rolling_restart_brings_what_is_on_the_disk_by_then(start: StartService, checkout: Path) -> None:
    service = await start(checkout)
    headers = checkout / "k2k" / "web" / "headers.py"
    headers.write_text(headers.read_text().replace('"Key2Key"', '"Key2Key of tomorrow"'))
    await service.roll()
    for _ in range(8):
        assert (await service.api.get("/properties")).headers["Server"] == "Key2Key of tomorrow"


async def talk(people: People, buyer: Person, agent: Person) -> str:
    """The conversation of the buyer with the agent, who has claimed the lead."""
    enquiry = await people.enquire(buyer, await people.listing(agent))
    claim = await people._node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=agent.token)
    assert claim.status == 200, claim.json
    conversation: str = enquiry["conversation_id"]
    return conversation


async def stored(api: Api, person: Person, conversation: str) -> list[str]:
    """The client_ids of the conversation as it stands, after the enquiry that opened it."""
    found: list[str] = []
    while True:
        asked = {"conversation_id": conversation, "after_seq": str(1 + len(found))}
        page = (await api.get("/chat/messages", params=asked, token=person.token)).json
        if not page:
            return found
        found += [message["client_id"] for message in page]
