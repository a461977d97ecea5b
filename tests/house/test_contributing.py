"""CONTRIBUTING.md is followed to the letter in a copy of the tree, and the feature it builds works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.files import files
from tests.support import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
FILES = re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
EDITS = re.findall(r"^In `([\w/.]+)`.*?^```diff\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
# After which line of the file each added line belongs, for "beside the others".
BESIDE = {
    "from k2k.features": "from k2k.features.moderation.service import inspecting\n",
    "    *notes": "    *listings.routes.operations,\n",
    "    await api.put": "    enquiry = await people.enquire(buyer, listing)\n",
}


def run(directory: Path, *command: str) -> str:
    """What a program of this environment printed; AssertionError with all of it if it failed."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *command[1:]], cwd=directory, env=kept, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tree without what is made from it."""
    for path in files():
        there = tmp_path / path.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)
    return tmp_path


def follow(tree: Path) -> set[str]:
    """Do what the page says; the files it touched."""
    number = max(int(path.name[:4]) for path in (tree / "sql/migrations").glob("*.sql")) + 1
    touched = set()
    for name, content in FILES:
        path = tree / name.replace("NNNN", f"{number:04}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        touched.add(name)
    for name, change in EDITS:
        text = (tree / name).read_text()
        removed, added = re.findall(r"^-(.*\n)", change, re.MULTILINE), re.findall(r"^\+(.*\n)", change, re.MULTILINE)
        for line in added:
            (anchor,) = removed or [anchor for start, anchor in BESIDE.items() if line.startswith(start)]
            assert text.count(anchor) == 1, f"{name}: {anchor!r}"
            text = text.replace(anchor, line if removed else anchor + line)
        (tree / name).write_text(text)
        touched.add(name)
    return touched


def test_a_feature_is_added_as_the_page_says(copy: Path) -> None:
    touched = follow(copy)
    sums = run(copy, "python", "-m", "k2k.infra.migrations")
    (copy / "sql/migrations/checksums.txt").write_text(sums)
    run(copy, "python", "run.py", "openapi")
    run(copy, "ruff", "check")
    run(copy, "ruff", "format", "--check")
    run(copy, "lint-imports")
    rules = ("events", "migrations", "statements", "routes", "writes", "stores", "documents")
    house = [f"tests/house/test_{name}.py" for name in rules]
    said = run(copy, "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/features/notes", *house)
    assert re.search(r"\d+ passed", said), said
    assert len(touched) == 13, f"the page promises four places and three names: {sorted(touched)}"
