"""The examples run as their first lines say, against a server with the sample market, and tell the whole story."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from k2k.core.settings import Settings
from k2k.infra import migrations
from tests.conftest import TEMPLATE
from tests.support import ROOT, Subprocess
from tools import node

PYTHON = [sys.executable, "examples/live_lead.py"]
JAVASCRIPT = [*(node.node() or ["node"]), "examples/live_lead.mjs"]
EXAMPLES = [
    pytest.param(PYTHON, id="python"),
    pytest.param(JAVASCRIPT, id="javascript", marks=pytest.mark.needs("npm packages")),
]
STORY = (
    r"Hanna +enquired",
    r"(Selam|Dawit) +← lead\.offered .* ms from commit to socket",
    r"(Selam|Dawit) +claim refused: lead-taken",
    r"(Selam|Dawit) +claimed it: the buyer is Hanna Girma",
    r"(Selam|Dawit) +← lead\.taken",
    r"Hanna +← message\.new: “Yes, it is\. Would you like to see it tomorrow\?”",
    r"Dawit +✂ the network is cut",
    r"Dawit +socket back, recovered=[Tt]rue: nothing was lost",
)


async def told(command: list[str], *arguments: str, directory: Path = ROOT) -> tuple[int | None, str, str]:
    """Exit code, output and complaints of an example."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        | {"PYTHONUTF8": "1"},
    )
    try:
        output, complaints = await asyncio.wait_for(process.communicate(), 50)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), complaints.decode()


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


@pytest.mark.parametrize("example", EXAMPLES)
async def test_the_story_is_told_to_its_end(market: str, example: list[str]) -> None:
    code, output, complaints = await told(example, "--url", market)
    assert (code, complaints) == (0, ""), output
    for line in STORY:
        assert re.search(line, output), f"{line} is not in\n{output}"


@pytest.mark.parametrize("example", EXAMPLES)
async def test_without_a_server_it_says_how_to_start_one(example: list[str]) -> None:
    code, output, complaints = await told(example, "--url", f"http://127.0.0.1:{unused_port()}")
    assert (code, output) == (1, "")
    assert "No server at" in complaints
    assert "make run" in complaints


@pytest.mark.needs("npm packages")
async def test_without_the_npm_packages_it_says_what_brings_them(tmp_path: Path) -> None:
    (tmp_path / "live_lead.mjs").write_bytes((ROOT / "examples/live_lead.mjs").read_bytes())
    code, output, complaints = await told([JAVASCRIPT[0], "live_lead.mjs"], directory=tmp_path)
    assert (code, output) == (1, "")
    assert "make assets" in complaints
