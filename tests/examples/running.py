"""Running an example as a reader would."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tests.support import ROOT


async def told(command: list[str], *arguments: str, directory: Path = ROOT) -> tuple[int | None, str, str]:
    """Exit code, output and complaints of an example."""
    process = await _started([*command, *arguments], directory)
    try:
        output, complaints = await asyncio.wait_for(process.communicate(), 50)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), complaints.decode()


async def heard(command: list[str], lines: Sequence[str]) -> None:
    """Run an example that goes on for ever until it has printed a line for each of these patterns.

    AssertionError if it ends before, TimeoutError if it takes too long.
    """
    process = await _started(command, ROOT)
    assert process.stdout is not None
    missing, output = list(lines), ""
    try:
        async with asyncio.timeout(30):
            while missing:
                line = (await process.stdout.readline()).decode()
                assert line, f"it ended without {missing}:\n{output}{(await process.communicate())[1].decode()}"
                output += line
                missing = [pattern for pattern in missing if not re.search(pattern, output, re.MULTILINE)]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _started(command: list[str], directory: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
        | {"PYTHONUTF8": "1"},
    )
