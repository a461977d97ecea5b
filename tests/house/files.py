"""The files of the project: what stands in the tree and is neither ignored nor made by tools."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from tests.support import ROOT

IGNORED = [".git", *(line.strip("/ ") for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip())]


def ignored(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in IGNORED)


def files(*endings: str) -> Iterator[Path]:
    """Every file whose name ends so (none given: every one), without following links."""
    for directory, subdirectories, names in os.walk(ROOT):
        subdirectories[:] = sorted(name for name in subdirectories if not ignored(name))
        for name in sorted(names):
            path = Path(directory) / name
            if not ignored(name) and not path.is_symlink() and name.endswith(endings or ("",)):
                yield path


def text_of(path: Path) -> str | None:
    """What the file says; None if it is no text."""
    content = path.read_bytes()
    return None if b"\x00" in content else content.decode("utf-8", "replace")


def place(path: Path, offset: int, text: str) -> str:
    """Where in the tree: file and line."""
    return f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, offset) + 1}"
