"""How far a long work is: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

_WIDTH = 40


class Progress:
    """Tells on `out` how much of `total` is done."""

    def __init__(self, total: int, out: TextIO) -> None:
        self._total = total
        self._out = out
        self._began = time.monotonic()
        self._tenths = 0

    def __call__(self, done: int) -> None:
        """So much is done now."""
        took = max(time.monotonic() - self._began, 1e-6)
        left = took / done * (self._total - done)
        words = f"{done:,} of {self._total:,}, {done / took:,.0f} a second, {left:.0f} s to go"
        if self._out.isatty():
            bar = "#" * (_WIDTH * done // self._total)
            self._out.write(f"\r[{bar:<{_WIDTH}}] {words}   " + ("\n" if done == self._total else ""))
        elif 10 * done // self._total > self._tenths:
            self._tenths = 10 * done // self._total
            self._out.write(words + "\n")
        self._out.flush()
