"""The listener for Prometheus: there for it, and for nobody and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import aiohttp
import pytest

from k2k.core.settings import Settings
from tests.exposition import exposed, scrape
from tests.support import PASSWORD, ROOT, LiveError, Node, People, Subprocess, eventually, free_port


async def test_the_public_listener_has_no_metrics_and_the_other_has_nothing_else(node: Node) -> None:
    async with exposed(node.process.metrics) as base, aiohttp.ClientSession() as session:
        for path in ("/metrics", "/metrics/", "/api/v1/metrics", "//metrics"):
            async with session.get(node.api.base + path) as answer:
                assert answer.status == 404
        for path in ("/", "/health", "/api/v1/properties", "/docs", "/metrics/x", "/connection/websocket"):
            async with session.get(base + path) as answer:
                assert answer.status == 404
        async with session.post(base + "/metrics") as answer:
            assert answer.status == 405
        async with session.get(base + "/metrics") as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_nothing_that_belongs_to_a_person_or_is_secret_is_told(
    node: Node, people: People, settings: Settings
) -> None:
    person = await people.agent()
    listing = await people.listing(person)
    async with aiohttp.ClientSession() as session, exposed(node.process.metrics) as base:
        for path in (f"/canary{person.token}", f"/?token={person.token}", f"/api/v1/properties/{listing}?x=canary"):
            await session.get(node.api.base + path, headers={"Authorization": f"Bearer {person.token}"})
        async with node.live(person.token) as live:
            await live.rpc("me.get")
            with pytest.raises(LiveError):
                await live.command("rpc", {"method": f"canary.{person.id}", "data": {"password": PASSWORD}})
        async with session.get(base + "/metrics") as answer:
            told = await answer.text()
    secrets = (
        "canary",
        PASSWORD,
        person.token,
        person.email,
        str(person.id),
        str(person.sign_in_id),
        str(listing),
        settings.auth.secret.get_secret_value(),
        settings.database.url.get_secret_value(),
        settings.redis.url.get_secret_value(),
    )
    assert "k2k_rpc_seconds" in told
    assert [secret for secret in secrets if secret in told] == []


async def test_two_scrapes_at_once_are_one_question_to_the_database(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.1)

    monkeypatch.setattr(node.process.metrics, "asked", [ask])
    async with exposed(node.process.metrics) as base:
        await asyncio.gather(*(scrape(base) for _ in range(5)))
        assert asked == 1
        await scrape(base)
        assert asked == 2


async def test_a_serving_process_exposes_where_the_settings_say(settings: Settings, spawn: type[Subprocess]) -> None:
    port = free_port()
    process = await spawn.start(settings, free_port(), K2K_METRICS__PORT=str(port))
    found = await scrape(f"http://127.0.0.1:{port}")
    assert found.value("k2k_request_seconds_count", route="/health/ready") >= 1
    assert found.value("k2k_health") == 4
    assert found.value("process_open_fds") > 10
    await eventually(lambda: lag_is_measured(port))
    assert await process.kill(signal.SIGTERM) == 0


async def lag_is_measured(port: int) -> bool:
    return (await scrape(f"http://127.0.0.1:{port}")).value("k2k_loop_lag_seconds_count") > 0


async def test_a_worker_without_a_door_exposes_too(settings: Settings, jobs_database_url: str) -> None:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
        "K2K_ENVIRONMENT": "production",
        "K2K_HOME": str(settings.home),
        "K2K_AUTH__SECRET": settings.auth.secret.get_secret_value(),
        "K2K_METRICS__PORT": str(port),
        "DATABASE_URL": jobs_database_url,
        "REDIS_URL": settings.redis.url.get_secret_value(),
    }
    worker = await asyncio.create_subprocess_exec(sys.executable, "run.py", "worker", cwd=ROOT, env=environment)

    async def answers() -> bool:
        assert worker.returncode is None, "the worker ended"
        try:
            return await lag_is_measured(port)
        except aiohttp.ClientError:
            return False

    try:
        await eventually(answers, seconds=20)
        found = await scrape(f"http://127.0.0.1:{port}")
        assert found.value("k2k_pool_connections_most") == 10
        assert found.value("k2k_pool_connections") > 0
        assert {"k2k_jobs", "k2k_job_seconds"} <= found.types.keys()
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 20) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
