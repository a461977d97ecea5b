"""Real servers of the run's own, one template database, one database a worker, and people to act in the stories.

The process that starts pytest also starts PostgreSQL and Valkey in a directory of their own and migrates the template;
each worker copies it. Nothing of a developer's is touched, and no test relies on another's rows.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from pydantic import SecretStr

from k2k.app import LIVE, OPERATIONS
from k2k.core.settings import Settings, load
from k2k.infra import embedded, migrations
from k2k.web import asyncapi, openapi
from tests.support import Api, Node, People, Subprocess, Workplace

pytest_plugins = ["tests.needs"]

TEMPLATE = "k2k_template"
Source = TypeVar("Source")
_servers: list[tuple[Path, embedded.Server, embedded.Server]] = []


def pytest_configure(config: pytest.Config) -> None:
    """Once a run, before any worker: servers and template."""
    _write_plain_tracebacks()
    if hasattr(config, "workerinput"):
        return
    home = Path(tempfile.mkdtemp(prefix="k2k-test-"))
    postgres = embedded.start_postgres(home / "postgres", durable=False)
    valkey = embedded.start_valkey(home / "valkey")
    _servers.append((home, postgres, valkey))
    template = asyncio.run(migrations.ensure_database(postgres.url, TEMPLATE))
    asyncio.run(migrations.check_server(template))
    migrations.migrate(template)
    config.k2k_servers = (postgres.url, valkey.url)  # type: ignore[attr-defined]


def _write_plain_tracebacks() -> None:
    """As the service does. The pretty ones that structlog makes by itself hold up everybody for a second each."""
    *steps, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*steps, plain])


def pytest_unconfigure(config: pytest.Config) -> None:
    for home, postgres, valkey in _servers:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)
    _servers.clear()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """xdist: tell a worker where the servers are."""
    node.workerinput["k2k_servers"] = node.config.k2k_servers  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The URLs of the run's PostgreSQL server and Valkey."""
    given = getattr(request.config, "workerinput", {}).get("k2k_servers")
    found: tuple[str, str] = given or request.config.k2k_servers  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    return str(getattr(request.config, "workerinput", {}).get("workerid", "alone"))


@pytest.fixture(scope="session")
async def database_url(servers: tuple[str, str], worker: str) -> str:
    """This worker's own migrated database."""
    return await migrations.ensure_database(servers[0], f"k2k_{worker}", template=TEMPLATE)


@pytest.fixture(scope="session")
async def jobs_database_url(servers: tuple[str, str], worker: str) -> str:
    """A database where no serving process takes the jobs."""
    return await migrations.ensure_database(servers[0], f"k2k_jobs_{worker}", template=TEMPLATE)


@pytest.fixture
async def workplace(settings: Settings, jobs_database_url: str) -> AsyncIterator[Workplace]:
    """An empty queue, and workers on it."""
    workplace = await Workplace.open(settings, jobs_database_url)
    await workplace.db.records("truncate pgqueuer, pgqueuer_log, pgqueuer_schedules", ())
    yield workplace
    await workplace.close()


@pytest.fixture(scope="session")
def settings(
    database_url: str, servers: tuple[str, str], worker: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """Real settings, with cheap hashes and short patience."""
    base = load({})
    return base.model_copy(
        update={
            "home": tmp_path_factory.mktemp("home"),
            "server": base.server.model_copy(update={"port": 0, "shutdown_seconds": 2.0}),
            "limits": base.limits.model_copy(update={"enabled": False}),
            "database": base.database.model_copy(update={"url": SecretStr(database_url), "pool_max": 5}),
            "redis": base.redis.model_copy(update={"url": SecretStr(servers[1]), "prefix": f"k2k-{worker}"}),
            "auth": base.auth.model_copy(
                update={"secret": SecretStr(secrets.token_urlsafe(48)), "argon2_memory_kib": 1024}
            ),
            "live": base.live.model_copy(update={"ping_seconds": 5.0, "pong_seconds": 2.0}),
        }
    )


@pytest.fixture(scope="session")
async def node(settings: Settings) -> AsyncIterator[Node]:
    """One serving process, inside the test process."""
    node = await Node.start(settings)
    yield node
    await node.stop()


@pytest.fixture(scope="module")
async def second_node(settings: Settings) -> AsyncIterator[Node]:
    """Another serving process that shares nothing with the first but the servers."""
    node = await Node.start(settings)
    yield node
    await node.stop()


@pytest.fixture
async def spawn(settings: Settings) -> AsyncIterator[type[Subprocess]]:
    """Real `run.py serve` processes on this worker's database: `await spawn.start(settings)`."""
    yield Subprocess
    await Subprocess.end_all()


@pytest.fixture(scope="session")
def api(node: Node) -> Api:
    return node.api


@pytest.fixture(scope="session")
def people(node: Node) -> People:
    return People(node)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[embedded.Server]:
    """A Valkey that a test may kill."""
    server = embedded.start_valkey(tmp_path / "valkey")
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def _documents_made_once() -> Iterator[None]:
    """All nodes serve the same documents: to make them anew is most of what it takes to start one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openapi, "document", _once(openapi.document, OPERATIONS))
        patch.setattr(asyncapi, "document", _once(asyncapi.document, LIVE))
        yield


def _once(make: Callable[[Source], dict[str, Any]], usual: Source) -> Callable[[Source], dict[str, Any]]:
    made = cache(lambda: make(usual))
    return lambda source: made() if source is usual else make(source)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("K2K_") or name in {"DATABASE_URL", "REDIS_URL"}]:
        monkeypatch.delenv(name)
