"""A service of several workers: a real `run.py serve --workers`, and what is asked of it from outside."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import Api, Subprocess, eventually

WORKERS = 2


@dataclass
class Service:
    """A supervisor and its workers."""

    supervisor: Subprocess
    output: Path

    @property
    def api(self) -> Api:
        return self.supervisor.api

    @property
    def pids(self) -> set[int]:
        """The processes that its supervisor has started and that have not ended."""
        children = psutil.Process(self.supervisor.process.pid).children()
        return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}

    def said(self, words: str) -> int:
        """How often it has said these words."""
        return self.output.read_text().count(words)

    async def roll(self) -> None:
        """A rolling restart, from the signal to the last worker."""
        before = self.said("all workers are replaced")
        self.supervisor.process.send_signal(signal.SIGHUP)
        await until(lambda: self.said("all workers are replaced") > before)


StartService = Callable[..., Awaitable[Service]]


async def until(condition: Callable[[], bool], *, seconds: float = 45) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds, seconds=seconds)
