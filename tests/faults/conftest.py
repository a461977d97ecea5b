"""What stories of dying and restarted processes have in common."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from k2k.core.settings import Settings
from tests.service import WORKERS, Service, StartService, until
from tests.support import ROOT, Subprocess, free_port


@pytest.fixture
async def start(settings: Settings, spawn: type[Subprocess], tmp_path: Path) -> AsyncIterator[StartService]:
    """Starts `run.py serve --workers 2`, in this checkout or in a copy."""
    services: list[Service] = []

    async def start(directory: Path = ROOT, **environment: str) -> Service:
        output = tmp_path / f"{len(services)}.log"
        options = ("--workers", str(WORKERS))
        port = free_port()
        process = await spawn.start(settings, port, *options, output=output, directory=directory, **environment)
        service = Service(process, output)
        services.append(service)
        await until(lambda: service.said(f"with {WORKERS} workers") == 1)  # before that, one alone may be ready
        return service

    yield start
    for service in services:
        await service.supervisor.kill(signal.SIGTERM)
        sys.stdout.write(service.output.read_text())  # which is shown when the test failed
