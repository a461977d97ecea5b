"""The machine a bench runs on: what it is, which core does what, and how much of it somebody else used."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Cores:
    """Who may run where (empty: anywhere). The same for every side."""

    server: tuple[int, ...] = ()
    generator: tuple[int, ...] = ()
    database: tuple[int, ...] = ()

    @classmethod
    def shared_out(cls) -> Cores:
        """The serving process alone against the generator: they must never take each other's time.

        PostgreSQL has the other cores to itself where there are any. With two cores it may use both, for beside the
        generator alone it would be the limit of whichever side lets it do the work. Systems without pinning, and a
        single core, are left as they are.
        """
        if not hasattr(os, "sched_getaffinity"):
            return cls()
        cores = tuple(sorted(os.sched_getaffinity(0)))
        if len(cores) < 2:
            return cls()
        return cls(cores[:1], cores[1:2], cores[2:] or cores)

    def __str__(self) -> str:
        if not self.server:
            return "nothing pinned"
        return (
            f"serving process on core {names(self.server)}, load generator on {names(self.generator)}, "
            f"PostgreSQL and Valkey on {names(self.database)}"
        )


def names(cores: tuple[int, ...]) -> str:
    return "+".join(map(str, cores))


def pin(pid: int, cores: tuple[int, ...]) -> None:
    """Keep a process, its children and those yet to come on these cores (none: leave it)."""
    for process in family(pid) if cores else ():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.cpu_affinity(list(cores))


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pids: Iterable[int]) -> float:
    """What these processes and their descendants have used, those that have ended included."""
    total = 0.0
    for pid in pids:
        for process in family(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # What an ended child used stands in the children_… of whoever waited for it.
                total += times.user + times.system + times.children_user + times.children_system
    return total


def busy_seconds() -> float:
    """What all cores together have worked since the machine started, whoever for."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


class Watch:
    """Tells what the machine worked for others than this process and its descendants, which all of a bench are."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._ours, self._all = cpu_seconds([os.getpid()]), busy_seconds()

    def foreign(self) -> float:
        """Share of all cores since the beginning that others used."""
        ours, all_ = cpu_seconds([os.getpid()]) - self._ours, busy_seconds() - self._all
        return max(0.0, all_ - ours) / (time.monotonic() - self._begun) / (psutil.cpu_count() or 1)


def description() -> str:
    """One line: processor, cores, memory, system."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def versions(*packages: str) -> str:
    """Packages of this environment with their versions."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
