"""The documents say what is there: links and anchors lead somewhere, named files exist, named commands run."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.files import files, place
from tests.support import ROOT

DOCUMENTS = list(files(".md"))
by_path = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    headings = HEADING.findall(FENCE.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_path
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text()
    for found in [*LINK.finditer(text), *IMAGE.finditer(text)]:
        target, _, anchor = found[1].partition("#")
        where = place(path, found.start(), text)
        if re.match(r"[a-z]+:", target):
            continue
        leads_to = (path.parent / target) if target else path
        assert leads_to.exists(), f"{where}: {target} is not there"
        if anchor:
            assert anchor in anchors(leads_to), f"{where}: {leads_to.name} has no heading for #{anchor}"


TOP = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}
ROOMS = {entry.name for entry in (ROOT / "k2k").iterdir() if entry.is_dir()}
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")


def exists(name: str) -> bool:
    """A file or directory, a module without its ending, or one named from inside k2k/."""
    return any(
        (base / (name + ending)).exists() for base in (ROOT, ROOT / "k2k") for ending in ("", ".py", ".md", ".sql")
    )


def looks_like_a_path(name: str) -> bool:
    first, slash, _ = name.partition("/")
    return bool(PATH.fullmatch(name)) and (first in TOP | ROOMS if slash else name.endswith((".py", ".toml", ".md")))


@by_path
def test_every_file_that_is_named_is_there(path: Path) -> None:
    """`k2k/app.py`, `live/line` or `bench/`; what has a <placeholder> in it is a form and no name.

    A name above a block of code is that of a file to be made.
    """
    text = path.read_text()
    made = set(re.findall(r"^`([^`\n]+)`\n\n```", text, re.MULTILINE))
    gone = [
        f"{place(path, found.start(), text)} `{found[1]}`"
        for found in SPAN.finditer(text)
        if found[1] not in made
        and looks_like_a_path(found[1])
        and not exists(found[1])
        and not (path.parent / found[1]).exists()
    ]
    assert not gone, f"renamed or removed? {gone}"


def code(path: Path) -> str:
    """What a document shows as code, a line each."""
    text = path.read_text()
    return "\n".join([*SPAN.findall(text), *FENCE.findall(text)])


TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
HELP = subprocess.run([sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
COMMANDS = set(re.findall(r"^    (\w+)", HELP, re.MULTILINE))


@by_path
def test_every_command_that_is_named_can_be_run(path: Path) -> None:
    for target in re.findall(r"(?:^|[\s`])make ([a-z][\w-]*)", code(path)):
        assert target in TARGETS, f"{path.relative_to(ROOT)}: make {target} is not in the Makefile"
    for command in re.findall(r"\brun\.py ([a-z]\w*)", code(path)):
        assert command in COMMANDS, f"{path.relative_to(ROOT)}: run.py has no command {command}"


def test_the_makefile_is_understood() -> None:
    """Or the test above would find nothing wrong with anything."""
    assert {"run", "test", "check"} <= TARGETS
    assert {"serve", "migrate", "seed"} <= COMMANDS


REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)", re.MULTILINE)


def test_the_readme_names_every_package_we_chose() -> None:
    table = {
        word.lower()
        for row in re.findall(r"^\| ([^|]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
        for word in re.findall(r"[\w.-]+", row)
    }
    for path in sorted(ROOT.glob("requirements*.in")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith(("#", "-"))]
        missing = {name for name in REQUIREMENT.findall("\n".join(lines)) if name.lower() not in table}
        assert not missing, (
            f"README.md, 'What it stands on', lacks {sorted(missing)} of {path.name}: why, which licence?"
        )


def test_every_feature_has_its_storey() -> None:
    """A feature that stands in none could import whom it likes."""
    features = {path.name for path in (ROOT / "k2k" / "features").iterdir() if (path / "__init__.py").exists()}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for contract in contracts:
        named = set(re.findall(r"k2k\.features\.(\w+)", str(contract)))
        if contract["name"].startswith("Storeys"):
            assert named == features, f"pyproject.toml, '{contract['name']}': {sorted(features ^ named)}"
