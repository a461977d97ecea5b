"""The command line that every bench has."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.harness import report
from bench.harness.servers import held
from bench.harness.window import ErrorsUnderLoad
from k2k.infra import embedded


@dataclass(frozen=True)
class Bench:
    """One bench: `measure` takes whether to be quick, starts all it needs and gives its part of docs/performance.md."""

    name: str
    measure: Callable[[bool], str]
    minutes: float
    """About how long a thorough run takes."""


def run(benches: Sequence[Bench], description: str) -> int:
    """Run benches by the command line's wishes; 0 if all went well, 1 if one could not go on, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short look; docs/performance.md stays as it is")
    if len(benches) > 1:
        parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(bench.name for bench in benches))
    wishes = parser.parse_args()
    names = getattr(wishes, "names", [])
    if unknown := set(names) - {bench.name for bench in benches}:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}: {', '.join(bench.name for bench in benches)}")
    chosen = [bench for bench in benches if not names or bench.name in names]
    return measure_all(chosen, quick=wishes.quick)


def measure_all(benches: Sequence[Bench], *, quick: bool) -> int:
    begun = time.monotonic()
    length = "a minute or two" if quick else f"about {sum(bench.minutes for bench in benches):.0f} minutes"
    print(f"{', '.join(bench.name for bench in benches)}: {length}; Ctrl-C ends it cleanly", flush=True)
    try:
        with held():
            for bench in benches:
                measured(bench, quick=quick)
    except KeyboardInterrupt:
        print("\nStopped; what was finished is kept", file=sys.stderr)
        return 130
    except (embedded.EmbeddedError, ErrorsUnderLoad) as error:
        print(f"\nThe bench cannot go on: {error}", file=sys.stderr)
        return 1
    print(f"Took {(time.monotonic() - begun) / 60:.1f} minutes")
    return 0


def measured(bench: Bench, *, quick: bool) -> None:
    """Run one bench, show its tables and keep them if it was thorough."""
    print(f"\n== {bench.name}", flush=True)
    block = bench.measure(quick)
    print(f"\n{block}\n")
    if not quick:
        report.write(bench.name, block)
        print(f"Written to {report.DOCUMENT.relative_to(report.DOCUMENT.parents[1])}")
