"""Tables in docs/performance.md, between markers, so that what people wrote around them stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.harness.compare import Comparison
from bench.harness.figures import Spread
from bench.harness.machine import Cores, description
from bench.harness.window import Reading

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"

Figure = Callable[[Reading], float]
# (heading, figure, whether more is better)
COLUMNS: tuple[tuple[str, Figure, bool], ...] = (
    ("requests/s", lambda reading: reading.per_second, True),
    ("p50 ms", lambda reading: reading.p50 * 1e3, False),
    ("p99 ms", lambda reading: reading.p99 * 1e3, False),
    ("CPU µs, server", lambda reading: reading.server_cpu * 1e6, False),
    ("CPU µs, PostgreSQL and Valkey", lambda reading: reading.backing_cpu * 1e6, False),
    ("CPU µs, all", lambda reading: reading.cpu * 1e6, False),
    ("statements", lambda reading: reading.statements, False),
)


class NoMarkers(Exception):
    """The document has no place for this table."""


def replace_block(document: str, name: str, block: str) -> str:
    """The document with `block` between `<!-- bench:name -->` and `<!-- /bench:name -->`, all else as it was.

    Raises NoMarkers unless both stand there once, in this order.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise NoMarkers(f"{DOCUMENT.name} needs the lines {begin} and {end}, once each and in this order")
    before, _, rest = document.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n{block.strip()}\n{end}{after}"


def write(name: str, block: str) -> None:
    DOCUMENT.write_text(replace_block(DOCUMENT.read_text(), name, block))


def conditions(name: str, cores: Cores, *versions: str) -> str:
    """When, by which command and on what was measured."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"`make bench ONLY={name}`, {today}: {description()}; {cores}; {'; '.join(versions)}."


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def comparison(found: Comparison, peer: str) -> str:
    """A scenario's table: a row a side, and how many times better than the peer each other one is."""
    rows = [[side, *(str(found.spread(side, figure)) for _, figure, _ in COLUMNS)] for side in found.readings]
    rows += [
        [f"**{side}, times better**", *(f"**{better(found, side, peer, *column)}**" for column in COLUMNS)]
        for side in found.readings
        if side != peer
    ]
    text = f"### {found.scenario.title}\n\n{table(['', *(heading for heading, *_ in COLUMNS)], rows)}\n"
    readings = [reading for readings in found.readings.values() for reading in readings]
    busy = max(reading.generator_busy for reading in readings)
    text += f"\nThe load generator was busy at most {busy:.0%} of a core; alone it makes {found.ceiling:,.0f}/s."
    if found.scenario.rate is not None:
        late = max(reading.lateness for reading in readings) * 1e3
        text += f" It sent up to {late:.1f} ms late (p99), which the latencies include."
    text += "\n"
    doubts = [f"- **Doubtful**: {doubt}." for doubt in found.doubts()]
    return text + "".join(f"\n{doubt}" for doubt in doubts) + "\n" * bool(doubts)


def better(found: Comparison, side: str, peer: str, _heading: str, figure: Figure, more: bool) -> Spread | str:
    """The ratio, turned so that above 1 is better. At a steady rate everybody makes as many requests."""
    if more and found.scenario.rate is not None:
        return "–"
    return found.ratio(side, peer, figure) if more else found.ratio(peer, side, figure)
