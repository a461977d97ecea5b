"""`run.py serve` on a chosen event loop: `python -m bench.harness.serve asyncio|uvloop|default`."""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path

RUN = Path(__file__).parents[2] / "run.py"

if __name__ == "__main__":
    match sys.argv[1]:
        case "asyncio":
            sys.modules["uvloop"] = None  # type: ignore[assignment]  # Python's own way to make an import of it fail
        case "uvloop":
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    sys.argv[:] = [str(RUN), "serve"]
    runpy.run_path(str(RUN), run_name="__main__")
