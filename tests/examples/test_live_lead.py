"""The examples run as their first lines say, against a server with the sample market, and tell the whole story."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from tests.examples.running import told
from tests.support import ROOT
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
