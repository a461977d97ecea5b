"""The long run, `make faults`: prints its seed, a line for each fault and a closing table."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.faults.proof.run import Plan, run
from tests.faults.proof.servers import NoDisk

DISK_STORY = ("disk full",) * 3


def main() -> int:
    """Run and print; 0 if nothing was violated, and then nothing is left on disk."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=220)
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help='exactly these: "app killed" …')
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="k2k-faults-"))
    print(f"seed {asked.seed} (the same again: make faults SEED={asked.seed}); history in {home}", flush=True)
    plan = Plan(
        seed=asked.seed,
        faults=asked.faults,
        seconds=asked.minutes * 60,
        home=home,
        hold=(0.5, 6.0),
        busy=6,
        quiet=4,
        names=tuple(asked.only),
        say=lambda line: print(line, flush=True),
    )
    violations = 0
    for part in (plan,) if asked.only else (plan, replace(plan, home=home / "disk", names=DISK_STORY)):
        try:
            report = asyncio.run(run(part))
        except NoDisk:
            print("\nThe story of the full disk is left out: only root may mount one")
            continue
        print(f"\n{report.text()}", flush=True)
        violations += len(report.violations)
    if violations:
        print(f"The history and the logs of the processes are kept in {home}")
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
