"""What was invoked and what became of it: JSON lines on disk, for the judge and for whoever looks for a cause.

Kinds of lines: `invoke` (a wish is about to be sent), then for its `id` any number of `info` (the outcome of an
attempt is unknown or it was not taken), at last `ok` (acknowledged) or `fail` (refused: it must not have happened).
`joined` and `event` are what a device was told, `fault` and `healed` what was done to the servers.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SYNC_SECONDS = 0.2


class History:
    """Written by one event loop. `started` is the zero of every `t`, in seconds of time.monotonic()."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()
        self._file = path.open("w", encoding="utf-8")
        self._synced = self.started

    def note(self, kind: str, **facts: Any) -> None:
        """Add a line; a crash of this program loses at most the last SYNC_SECONDS."""
        now = time.monotonic()
        self._file.write(json.dumps({"t": round(now - self.started, 3), "kind": kind, **facts}) + "\n")
        if now - self._synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Bring everything to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        self.sync()
        self._file.close()


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The history as it stands on disk."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def about(path: Path, what: str, words: Sequence[str], most: int = 15) -> list[str]:
    """The part of the history that concerns a violation: the last lines with one of its words until it was seen."""
    found: deque[str] = deque(maxlen=most)
    with path.open(encoding="utf-8") as file:
        for line in file:
            if any(word in line for word in words):
                found.append(line.rstrip())
                if '"kind": "violation"' in line and json.loads(line)["what"] == what:
                    break
    return list(found)
