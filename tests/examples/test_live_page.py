"""What docs/live.md prints for JavaScript and Python is run as it stands there; its table of codes misses none."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from k2k.live import wire
from tests.examples.running import heard
from tests.support import ROOT
from tools import node

PAGE = (ROOT / "docs/live.md").read_text()
HERE = "127.0.0.1:8080"
STORY = (r"^heard message\.new [\s\S]*Selam! Is it still free\?", r"^[\w-]{36} is typing$")


def script(section: str, path: Path, market: str) -> str:
    """The only block under a heading of the page as a program, told where this server is."""
    (text,) = re.findall(rf"^#+ {section}\n(?:(?!^#).)*?^```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert HERE in text
    path.write_text(text.replace(HERE, market.removeprefix("http://")))
    return str(path)


@pytest.mark.needs("npm packages")
async def test_the_example_in_javascript(market: str, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    await heard([*(node.node() or ["node"]), script("JavaScript", tmp_path / "live.mjs", market)], STORY)


@pytest.mark.needs("npm packages")
async def test_state_that_is_kept_in_step(market: str, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    program = script("Keeping state", tmp_path / "state.mjs", market)
    await heard([*(node.node() or ["node"]), program], (r"^show \d+ conversations and 0 leads$", r"^in step$"))


async def test_the_example_in_python(market: str, tmp_path: Path) -> None:
    await heard([sys.executable, script("Python", tmp_path / "live.py", market)], STORY)


@pytest.mark.parametrize(
    ("kind", "type_"), [("error", wire.Refusal), ("unsubscribe", wire.Withdrawn), ("close", wire.Close)]
)
def test_every_code_stands_in_the_table(
    kind: str, type_: type[wire.Refusal] | type[wire.Withdrawn] | type[wire.Close]
) -> None:
    codes = {value.code for value in vars(wire).values() if isinstance(value, type_)}
    told = {int(code) for code in re.findall(rf"^\| (\d+) \| {kind} \|", PAGE, re.MULTILINE)}
    assert told - {1009} == codes  # 1009 is the websocket's own
