"""Every series is moved by what it claims, and by nothing an attacker sends."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from k2k.core.settings import Settings
from k2k.infra import embedded, migrations
from k2k.infra.batch import Batch
from k2k.infra.jobs.job import Attempt, Job
from k2k.infra.metrics import ASK_SECONDS, Metrics
from tests.exposition import Watch, exposed, scrape, watching
from tests.live.test_delivery import (
    clog,
    drop,
    hear,
    only_socket,
    publish_nothing,
    stall,
    started,
    tell,
    with_live,
    with_redis,
)
from tests.support import PASSWORD, PREFIX, Live, LiveError, Node, People, Workplace, a_property, eventually

SENT = "k2k_commit_to_socket_seconds"


async def until(watch: Watch, holds: Callable[[], bool], *, seconds: float = 10) -> None:
    """Scrape until it holds."""

    async def found() -> bool:
        await watch.look()
        return holds()

    await eventually(found, seconds=seconds)


# Requests


async def test_a_request_is_counted_by_its_method_pattern_and_status(node: Node, people: People) -> None:
    seller = await people.agent()
    async with watching(node.process.metrics) as watch:
        listing = await people.listing(seller)
        for path in (f"/properties/{listing}", f"/properties/{listing}/", f"/properties/{uuid4()}"):
            answer = await node.api.get(path)
        await watch.look()
        route = PREFIX + "/properties/{listing_id}"
        for status, count in ((200, 2), (404, 1)):
            assert watch.grew("k2k_request_seconds_count", method="GET", route=route, status=status) == count
        assert watch.grew("k2k_request_seconds_count", method="POST", route=PREFIX + "/properties", status=201) == 1
        assert 0 < watch.grew("k2k_request_seconds_sum", route=route) < 10
        assert watch.grew("k2k_requests_refused_total", code=answer.json["code"]) == 1


async def test_addresses_ids_and_methods_that_somebody_makes_up_are_no_series(node: Node) -> None:
    methods = ("GET", "PROPFIND", "MKCOL", "SUBSCRIBE", "PURGE", "TRACE", "FOO", "LOCK")
    async with watching(node.process.metrics) as watch, aiohttp.ClientSession(node.api.base) as session:

        async def ask(path: str, method: str) -> int:
            async with session.request(method, path) as answer:
                return answer.status

        async def once() -> None:
            for number in range(40):
                for prefix in ("/", f"{PREFIX}/properties/", f"{PREFIX}/", "/health/", "/assets/"):
                    await ask(f"{prefix}{uuid4()}", methods[number % len(methods)])

        await once()
        await watch.look()
        for value in watch.now.values_of("k2k_request_seconds_count", "method"):
            assert value in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}
        for value in watch.now.values_of("k2k_request_seconds_count", "route"):
            assert value == "none" or value in patterns(node.process.app)
        assert watch.grew("k2k_request_seconds_count", method="other", route="none") > 0
        watch.before = watch.now
        await once()
        assert not {name for name, _ in (await watch.look()).new_series() if name.startswith("k2k_")}


def patterns(app: web.Application) -> set[str]:
    return {resource.canonical.rstrip("/") or "/" for resource in app.router.resources()}


async def test_a_socket_is_no_request_and_is_counted_as_it_comes_and_goes(settings: Settings, people: People) -> None:
    person = await people.buyer()
    async with started(settings) as home, watching(home.process.metrics) as watch:
        async with home.live(person.token), home.live(person.token):
            await watch.look()
            assert watch.now.value("k2k_sockets") == 2
            assert watch.grew("k2k_sockets_opened_total") == 2
            assert watch.now.value("k2k_channels") == 1
        await until(watch, lambda: watch.now.value("k2k_sockets") == 0)
        assert watch.now.value("k2k_request_seconds_count", route="/connection/websocket") == 0
        assert watch.now.value("k2k_socket_queue_frames") == 0


async def test_a_repeat_of_an_idempotency_key_is_counted(node: Node, people: People) -> None:
    seller, key = await people.agent(), {"Idempotency-Key": uuid4().hex}
    async with watching(node.process.metrics) as watch:
        for _ in range(3):
            answer = await node.api.post("/properties", json=a_property(), token=seller.token, headers=key)
            assert answer.status == 201
        assert (await watch.look()).grew("k2k_answers_replayed_total") == 2


async def test_who_is_over_a_limit_is_counted_under_the_limit(settings: Settings, people: People) -> None:
    person = await people.buyer()
    limits = settings.limits.model_copy(update={"enabled": True, "user_per_minute": 3})
    redis = settings.redis.model_copy(update={"prefix": f"k2k-{uuid4().hex}"})
    own = settings.model_copy(update={"limits": limits, "redis": redis})
    async with started(own) as home, watching(home.process.metrics) as watch:
        statuses = [(await home.api.get("/auth/me", token=person.token)).status for _ in range(5)]
        assert statuses == [200] * 3 + [429] * 2
        await watch.look()
        assert watch.grew("k2k_limited_total", policy="user") == 2
        assert watch.grew("k2k_requests_refused_total", code="limited") == 2
        assert watch.grew("k2k_batch_items_sum", batch="limits") == 5


async def test_passwords_that_are_being_hashed_are_seen(settings: Settings) -> None:
    dear = settings.auth.model_copy(update={"argon2_memory_kib": 65536, "argon2_passes": 3})
    sent = {"email": f"{uuid4().hex}@people.example", "password": PASSWORD}  # as dear for nobody as for somebody
    async with started(settings.model_copy(update={"auth": dear})) as home, watching(home.process.metrics) as watch:
        asked = [asyncio.create_task(home.api.post("/auth/login", json=sent)) for _ in range(8)]
        await until(watch, lambda: watch.now.value("k2k_password_hashes") == 8)
        await asyncio.gather(*asked)
        assert (await watch.look()).now.value("k2k_password_hashes") == 0


# Sockets


async def test_an_rpc_is_counted_by_name_and_outcome_and_an_unknown_one_not(node: Node, people: People) -> None:
    person = await people.buyer()
    async with watching(node.process.metrics) as watch, node.live(person.token) as live:
        await live.rpc("me.get")
        with pytest.raises(LiveError):
            await live.rpc("lead.claim", lead_id=str(uuid4()))
        for _ in range(20):
            with pytest.raises(LiveError):
                await live.command("rpc", {"method": f"no.{uuid4().hex}", "data": {}})
        await live.rpc("me.get")
        await watch.look()
        assert watch.grew("k2k_rpc_seconds_count", rpc="me.get", outcome="ok") == 2
        assert watch.grew("k2k_rpc_seconds_count", rpc="lead.claim") == 1
        assert watch.grew("k2k_rpc_seconds_count", rpc="lead.claim", outcome="ok") == 0
        assert not any(name.startswith("no.") for name in watch.now.values_of("k2k_rpc_seconds_count", "rpc"))


async def test_the_way_from_commit_to_socket_is_measured_within_a_process_and_between_two(
    node: Node, second_node: Node, people: People
) -> None:
    person = await people.buyer()
    async with (
        node.live(person.token) as here,
        second_node.live(person.token) as there,
        watching(node.process.metrics) as first,
        watching(second_node.process.metrics) as second,
    ):
        await tell(node, person, *range(20))
        for live in (here, there):
            await hear(live, *range(20))
        await until(second, lambda: second.grew(f"{SENT}_count", by="redis") == 20)
        # Its own messages come back to the first by Redis: they are not deliveries.
        await asyncio.sleep(0.2)
        await first.look()
        assert (first.grew(f"{SENT}_count", by="process"), first.grew(f"{SENT}_count", by="redis")) == (20, 0)
        assert 0 < first.grew(f"{SENT}_sum", by="process") / 20 < 0.5
        # Their clocks agree within milliseconds only: what seems to arrive before it was sent took no time.
        assert 0 <= second.grew(f"{SENT}_sum", by="redis") / 20 < 1
        for watch in (first, second):
            assert watch.now.value("k2k_socket_wait_seconds_count") > 0
            assert watch.now.value("k2k_redis_up") == 1
        assert first.grew("k2k_batch_items_sum", batch="publishes") == 20


async def test_nobody_listens_and_no_delivery_is_measured(node: Node, people: People) -> None:
    person = await people.buyer()
    async with watching(node.process.metrics) as watch:
        await tell(node, person, 1, 2)
        assert (await watch.look()).grew(f"{SENT}_count") == 0


async def test_a_message_from_a_clock_that_is_ahead_makes_no_delivery_negative(
    node: Node, second_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    ahead = node.process.db.clock.now().timestamp() + 3600
    async with second_node.live(person.token) as live, watching(second_node.process.metrics) as watch:
        publish = node.process.pubsub.publish

        def from_the_future(channel: str, message: bytes) -> None:
            head, body = message.split(b"\n", 1)
            publish(channel, b" ".join([*head.split(b" ")[:3], f"{ahead:.4f}".encode()]) + b"\n" + body)

        monkeypatch.setattr(node.process.pubsub, "publish", from_the_future)
        await tell(node, person, 1)
        await hear(live, 1)
        await watch.look()
        assert watch.grew(f"{SENT}_count", by="redis") == 1
        assert watch.grew(f"{SENT}_sum", by="redis") == 0


async def test_what_was_not_announced_is_counted_as_filled_and_as_late_as_it_was(
    node: Node, second_node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await people.buyer()
    publish_nothing(node, monkeypatch)
    async with second_node.live(person.token) as live, watching(second_node.process.metrics) as watch:
        await tell(node, person, 1)
        await hear(live, 1)  # by the tail, which so has just looked
        start = time.monotonic()
        await tell(node, person, 2, 3)
        await hear(live, 2, 3)
        waited = time.monotonic() - start
        await until(watch, lambda: watch.grew("k2k_events_filled_total") == 3)
        assert watch.grew(f"{SENT}_count", by="database") == 3
        assert watch.grew(f"{SENT}_sum", by="database") > waited
        assert watch.grew(f"{SENT}_count", by="redis") == 0


async def test_a_client_that_is_cut_is_counted_under_the_code(settings: Settings, people: People) -> None:
    person, gone = await people.buyer(), await people.buyer()
    async with started(settings) as home, watching(home.process.metrics) as watch:
        async with home.live(gone.token) as live:
            await home.api.post("/auth/logout", token=gone.token)
            assert await live.close_code() == 3500
        async with Live.open(home.api.base) as live:
            await live.socket.send_str("no json")
            assert await live.close_code() == 3501
        async with home.live(person.token) as live:
            served = only_socket(home)
            stall(live)
            await clog(home, person, served)
            await until(watch, lambda: watch.now.value("k2k_socket_queue_frames") > 0)
            for number in range(900):  # one by one: what one transaction tells may go as one write
                await tell(home, person, number, filling="x" * 8000)
                if served.closing:
                    break
            await until(watch, lambda: watch.grew("k2k_sockets_cut_total", code=3008) == 1)
            drop(live)
        for code in (3500, 3501, 3008):
            assert watch.grew("k2k_sockets_cut_total", code=code) == 1
        assert watch.now.values_of("k2k_sockets_cut_total", "code") == {"3500", "3501", "3008"}


# The database and Redis


async def test_the_pool_shows_what_is_used_and_who_waits(settings: Settings) -> None:
    database = settings.database.model_copy(update={"pool_min": 1, "pool_max": 2})
    own = settings.model_copy(update={"database": database, "live": with_live(settings, tail_seconds=60).live})
    async with started(own) as home, watching(home.process.metrics) as watch, AsyncExitStack() as held:
        db = home.process.db
        assert watch.before.value("k2k_pool_connections_most") == 2
        for _ in range(2):
            await held.enter_async_context(db.transaction())
        waiting = asyncio.create_task(db.ping())
        await watch.look()
        assert watch.now.value("k2k_pool_connections") == 2
        assert watch.now.value("k2k_pool_idle_connections") == 0
        assert watch.now.value("k2k_health", check="database") == 0  # as /health/ready says
        await held.aclose()
        await waiting
        await watch.look()
        assert watch.now.value("k2k_pool_idle_connections") > 0
        assert watch.now.value("k2k_health") == 4
        assert watch.grew("k2k_pool_wait_seconds_sum") > 0.5


async def test_what_goes_together_is_counted_as_it_goes() -> None:
    metrics, go = Metrics(), asyncio.Event()

    async def run(items: list[int]) -> list[int]:
        await go.wait()
        return items

    batch = Batch[int, int](run, observe=metrics.batches.labels("test").observe)
    asked = [asyncio.create_task(batch.add(number)) for number in range(10)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*asked) == list(range(10))
    async with exposed(metrics) as base:
        found = await scrape(base)
    assert found.value("k2k_batch_items_sum", batch="test") == 10
    assert found.value("k2k_batch_items_count", batch="test") < 10


async def test_sent_messages_are_counted_as_a_batch_of_their_set_function(node: Node, people: People) -> None:
    seller, buyer = await people.agent(), await people.buyer()
    async with watching(node.process.metrics) as watch:
        enquiry = await people.enquire(buyer, await people.listing(seller))
        assert (await node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=seller.token)).status == 200
        await watch.look()
        assert watch.grew("k2k_batch_items_count", batch="claim_many") == 1
        assert watch.grew("k2k_batch_items_sum", batch="sign-ins") > 0


@asynccontextmanager
async def fragile(
    settings: Settings, path: Path, valkey: embedded.Server
) -> AsyncIterator[tuple[Node, Watch, embedded.Server]]:
    """A process on servers that may be killed, its watch, and its PostgreSQL."""
    postgres = await asyncio.to_thread(embedded.start_postgres, path / "postgres", durable=False)
    try:
        url = await migrations.ensure_database(postgres.url, "k2k")
        await asyncio.to_thread(migrations.migrate, url)
        database = settings.database.model_copy(update={"url": SecretStr(url)})
        jobs = settings.jobs.model_copy(update={"in_process": False})
        own = with_redis(settings, valkey).model_copy(update={"database": database, "jobs": jobs})
        async with started(own) as home, watching(home.process.metrics) as watch:
            yield home, watch, postgres
    finally:
        with suppress(ProcessLookupError):
            os.kill(postgres.pid, signal.SIGCONT)
        await asyncio.to_thread(postgres.stop)


async def quick(watch: Watch) -> None:
    """A scrape that does not take longer than it says."""
    start = time.monotonic()
    await watch.look()
    assert time.monotonic() - start < ASK_SECONDS + 1


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP])
async def test_without_valkey_scrapes_are_quick_and_say_so(
    settings: Settings, own_valkey: embedded.Server, death: signal.Signals
) -> None:
    async with started(with_redis(settings, own_valkey)) as home, watching(home.process.metrics) as watch:
        assert (watch.before.value("k2k_redis_up"), watch.before.value("k2k_health", check="redis")) == (1, 1)
        os.kill(own_valkey.pid, death)
        await quick(watch)
        assert watch.now.value("k2k_health", check="redis") == 0
        assert watch.now.value("k2k_health", check="database") == 1
        await until(watch, lambda: watch.now.value("k2k_redis_up") == 0, seconds=15)
        if death == signal.SIGSTOP:
            os.kill(own_valkey.pid, signal.SIGCONT)  # or its end takes ten seconds


async def test_without_postgresql_scrapes_are_quick_and_say_so(
    settings: Settings, own_valkey: embedded.Server, tmp_path: Path
) -> None:
    async with fragile(settings, tmp_path, own_valkey) as (home, watch, postgres):
        async with home.process.db.transaction() as tx:
            tx.enqueue(Count(number=1))
        await watch.look()
        assert watch.now.value("k2k_jobs", name="test.count", state="waiting") == 1
        assert watch.now.value("k2k_tail_age_seconds") < 5
        tails = watch.now.value("k2k_tail_seconds_count")
        await until(watch, lambda: watch.now.value("k2k_tail_seconds_count") > tails)
        os.kill(postgres.pid, signal.SIGSTOP)  # the postmaster: connections that are open still answer
        backends = children(postgres.pid)
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(4):
                await quick(watch)
                assert not watch.now.has("k2k_jobs")
                assert watch.now.value("k2k_health", check="database") == 0
            await until(watch, lambda: watch.now.value("k2k_tail_age_seconds") > 3)
        finally:
            for pid in (*backends, postgres.pid):
                os.kill(pid, signal.SIGCONT)
        await until(watch, lambda: watch.now.value("k2k_health") == 4)
        await until(watch, lambda: watch.now.value("k2k_tail_age_seconds") < 3)
        assert watch.now.value("k2k_jobs", name="test.count", state="waiting") == 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_one_figure_that_cannot_be_had_does_not_cost_the_others() -> None:
    async def broken() -> None:
        raise RuntimeError("no such table")

    metrics = Metrics()

    async def told() -> None:
        metrics.health.labels("test").set(1)

    metrics.asked += [broken, told]
    async with exposed(metrics) as base:
        assert (await scrape(base)).value("k2k_health", check="test") == 1


# Jobs


class Count(Job):
    """Fails if `number` is odd."""

    name: ClassVar[str] = "test.count"
    tries: ClassVar[int] = 1
    number: int


async def test_jobs_are_counted_in_the_queue_as_they_run_and_as_dead_letters(
    settings: Settings, workplace: Workplace
) -> None:
    started_job, go = asyncio.Event(), asyncio.Event()

    async def handle(job: Count, _attempt: Attempt) -> None:
        if job.number % 2:
            raise ValueError("odd")
        started_job.set()
        await go.wait()

    own = workplace.settings.model_copy(
        update={"jobs": workplace.settings.jobs.model_copy(update={"in_process": False})}
    )
    async with started(own) as home, watching(home.process.metrics) as watch:
        await workplace.enqueue(Count(number=2), Count(number=1))
        await asyncio.sleep(0.05)
        await watch.look()
        assert watch.now.value("k2k_jobs", name="test.count", state="waiting") == 2
        assert watch.now.value("k2k_jobs_oldest_seconds", name="test.count", state="waiting") > 0.04
        worker = home.process.worker
        worker.bind(Count, handle)
        await worker.start()  # Node.stop stops it
        await asyncio.wait_for(started_job.wait(), 10)
        await until(watch, lambda: watch.now.value("k2k_jobs", name="test.count", state="dead") == 1)
        assert watch.now.value("k2k_jobs", name="test.count", state="running") == 1
        go.set()
        await until(watch, lambda: watch.now.value("k2k_jobs", name="test.count", state="running") == 0)
        for outcome in ("finished", "dead"):
            assert watch.now.value("k2k_job_seconds_count", name="test.count", outcome=outcome) == 1


# The process


async def test_a_loop_that_is_held_up_is_seen_late() -> None:
    metrics = Metrics()
    async with watching(metrics) as watch:
        await asyncio.sleep(0)  # the watch sleeps
        time.sleep(0.8)  # noqa: ASYNC251 - holding up the loop is the point
        await until(watch, lambda: watch.grew("k2k_loop_lag_seconds_count") >= 1)
        assert watch.grew("k2k_loop_lag_seconds_sum") > 0.2
        assert watch.now.value("process_resident_memory_bytes") > 1e6


async def test_two_processes_in_one_share_nothing(node: Node, second_node: Node) -> None:
    async with watching(node.process.metrics) as first, watching(second_node.process.metrics) as second:
        await node.api.get("/properties")
        assert (await first.look()).grew("k2k_request_seconds_count") == 1
        assert (await second.look()).grew("k2k_request_seconds_count") == 0


async def test_a_process_that_stopped_leaves_no_task(settings: Settings) -> None:
    async def story() -> set[asyncio.Task[object]]:
        home = await Node.start(settings)
        async with watching(home.process.metrics) as watch:
            await home.api.get("/properties")
            await watch.look()
        await home.stop()
        return asyncio.all_tasks() - {asyncio.current_task()}

    # On a loop of its own, where nobody else's tasks come and go.
    assert await asyncio.to_thread(asyncio.run, story()) == set()


async def test_no_figure_is_negative_or_no_number(node: Node) -> None:
    async with exposed(node.process.metrics) as base:
        found = await scrape(base)
    for (name, labels), value in found.samples.items():
        assert value >= 0, (name, labels)
        assert not math.isnan(value), (name, labels)
