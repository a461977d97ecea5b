"""Running an example as a reader would."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.support import ROOT


async def told(command: list[str], *arguments: str, directory: Path = ROOT) -> tuple[int | None, str, str]:
    """Exit code, output and complaints of an example."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        | {"PYTHONUTF8": "1"},
    )
    try:
        output, complaints = await asyncio.wait_for(process.communicate(), 50)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), complaints.decode()
