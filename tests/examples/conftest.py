"""The sample market, served by a process of its own, for examples to talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import unused_port

from k2k.core.settings import Settings
from k2k.infra import migrations
from tests.conftest import TEMPLATE
from tests.support import Subprocess


@pytest.fixture(scope="module")
async def market(
    settings: Settings, servers: tuple[str, str], worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """The address of a `run.py serve` that has just seeded the sample market."""
    database = await migrations.ensure_database(servers[0], f"k2k_{worker}_market", template=TEMPLATE)
    await Subprocess.start(
        settings,
        port := unused_port(),
        K2K_ENVIRONMENT="development",
        K2K_HOME=str(tmp_path_factory.mktemp("market")),
        K2K_AUTH__ARGON2_MEMORY_KIB="1024",
        K2K_REDIS__PREFIX=f"{settings.redis.prefix}-market",
        DATABASE_URL=database,
    )
    yield f"http://127.0.0.1:{port}"
    await Subprocess.end_all()
