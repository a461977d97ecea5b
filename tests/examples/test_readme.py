"""What the README prints is run as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.examples.running import told
from tests.support import ROOT
from tools import node

README = (ROOT / "README.md").read_text()
HERE = "http://127.0.0.1:8080"


def block(language: str, market: str) -> str:
    """The README's only block of that language, told where this server is."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (text,) = found
    assert HERE in text
    return text.replace(HERE, market).replace(HERE.replace("http", "ws"), market.replace("http", "ws"))


async def test_the_five_lines_of_curl(market: str) -> None:
    script = "\necho\n".join(block("sh", market).splitlines())
    code, output, complaints = await told(["bash", "-eu", "-o", "pipefail", "-c", script])
    assert (code, complaints) == (0, ""), output
    listed, enquiry, conversations = [json.loads(line) for line in output.splitlines() if line]
    assert len(listed) == 3
    assert enquiry["message"]["message"] == "Selam! Is it still free?"
    assert enquiry["conversation_id"] in [conversation["id"] for conversation in conversations]


@pytest.mark.needs("npm packages")
async def test_the_ten_lines_of_javascript(market: str, tmp_path: Path) -> None:
    script = tmp_path / "live.mjs"
    script.write_text(block("js", market) + "live.disconnect()\n")
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    code, output, complaints = await told([*(node.node() or ["node"]), str(script)])
    assert (code, complaints) == (0, ""), output
    assert "listening as Selam" in output
