"""Live delivery against its peers: `python -m bench.live [--quick]`."""

import sys

from bench.harness.command import run
from bench.live.measure import BENCH

if __name__ == "__main__":
    sys.exit(run([BENCH], __doc__ or ""))
