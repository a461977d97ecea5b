"""Every bench, or those that are named: `python -m bench [--quick] [NAME …]`."""

from __future__ import annotations

import sys

from bench import delivery, media, rest
from bench.harness.command import run
from bench.live import measure as live

BENCHES = (delivery.BENCH, rest.BENCH, media.BENCH, live.BENCH)

if __name__ == "__main__":
    sys.exit(run(BENCHES, __doc__ or ""))
