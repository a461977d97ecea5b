"""`run.py serve` on a chosen event loop: `python -m bench.harness.serve asyncio|uvloop|default [FILE]`.

Into the file goes how late the loop wakes up, a line every few milliseconds: the time (since 1970) and the seconds.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
import time
from pathlib import Path

from k2k import serving
from k2k.app import Process, build
from k2k.core.settings import Settings

LOOK_SECONDS = 0.002

RUN = Path(__file__).parents[2] / "run.py"


async def watch(path: str) -> None:
    """Note until cancelled how late the loop wakes up."""
    loop, noted = asyncio.get_running_loop(), []
    with await asyncio.to_thread(open, path, "w") as file:
        while True:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            noted.append(f"{time.time()} {max(0.0, loop.time() - due)}\n")
            if len(noted) == 100:  # two hundred milliseconds; the write is in the page cache and takes microseconds
                file.write("".join(noted))
                file.flush()
                noted.clear()


def watched(path: str) -> None:
    """Have the process that will be built watch its loop."""
    watching: set[asyncio.Task[None]] = set()

    async def build_watched(settings: Settings) -> Process:
        watching.add(asyncio.create_task(watch(path)))
        return await build(settings)

    serving.build = build_watched  # type: ignore[attr-defined]  # imported there, so not its own to export


if __name__ == "__main__":
    match sys.argv[1]:
        case "asyncio":
            sys.modules["uvloop"] = None  # type: ignore[assignment]  # Python's own way to make an import of it fail
        case "uvloop":
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if len(sys.argv) > 2:
        watched(sys.argv[2])
    sys.argv[:] = [str(RUN), "serve"]
    runpy.run_path(str(RUN), run_name="__main__")
