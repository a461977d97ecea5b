"""The process that makes the load, so that it has a core and a figure of its own. Started by `window.Generator`.

On its standard input a plan and the seconds to warm up, as one line of JSON; it says `ready`; then a line `go` for each
window, answered by a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

from bench.harness.load import Load, Outcome, Plan


def main() -> None:
    order = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(Load.connect(Plan(**order["plan"])))
        tell(answer(runner.run(load.run(order["warm_up"])), 0.0))
        for _ in sys.stdin:
            used = time.process_time()
            outcome = runner.run(load.run(order["plan"]["seconds"]))
            tell(answer(outcome, time.process_time() - used))
        load.close()


def answer(outcome: Outcome, cpu_seconds: float) -> dict[str, Any]:
    return {**outcome.__dict__, "cpu_seconds": cpu_seconds}


def tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
