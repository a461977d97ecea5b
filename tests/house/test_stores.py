"""A store is its feature's own: who needs something of it asks the service."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

STORE = re.compile(r"k2k\.features\.(\w+)\.store\b")


def imported(path: Path) -> Iterator[str]:
    """What a module imports, spelled in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ["features", "seed", "flows", "live", "web", "ops", "infra"])
def test_nobody_reaches_into_another_feature_s_store(room: str) -> None:
    for path in sorted((ROOT / "k2k" / room).rglob("*.py")):
        own = path.relative_to(ROOT / "k2k" / room).parts[0] if room == "features" else None
        reached = {found[1] for name in imported(path) if (found := STORE.match(name))} - {own}
        assert not reached, f"{path.relative_to(ROOT)} imports the store of {sorted(reached)}: ask its service"
