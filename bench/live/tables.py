"""The part of docs/performance.md: a table a question, its goals beneath."""

from __future__ import annotations

from collections.abc import Sequence

from bench.harness import report
from bench.harness.figures import number
from bench.live.reading import Figure, Goal, Question
from bench.live.swarm import Ceiling


def table(question: Question) -> str:
    rows = [
        [side, *(str(question.spread(side, column.figure)) for column in question.columns)]
        for side in question.readings
    ]
    parts = [f"### {question.title}", report.table(["", *(column.heading for column in question.columns)], rows)]
    if question.goals:
        parts.append(
            report.table(["against", "times better", "goal", ""], [verdict(question, one) for one in question.goals])
        )
    if question.most is not None:
        parts.append(limit(question, *question.most))
    busy = max(one.busy for readings in question.readings.values() for one in readings)
    parts.append(" ".join([f"The clients were busy at most {busy:.0%} of a core.", *question.notes]))
    if doubts := question.doubts():
        parts.append("\n".join(f"- **Doubtful**: {doubt}." for doubt in doubts))
    return "\n\n".join(parts)


def verdict(question: Question, goal: Goal) -> list[str]:
    found = question.times_better(goal)
    if goal.times is None:
        return [f"{goal.against}, {goal.what}", str(found), "–", ""]
    return [f"{goal.against}, {goal.what}", str(found), f"≥ {goal.times:g}", said(found.median >= goal.times)]


def limit(question: Question, what: str, figure: Figure, most: float) -> str:
    """Whether our figure is as small as it should be; `what` is a column's heading, which knows the unit."""
    ours = next(iter(question.readings))
    (column,) = (column for column in question.columns if column.heading == what)
    measured = question.spread(ours, figure).median
    scale = question.spread(ours, column.figure).median / measured
    return f"The goal is at most {number(most * scale)} {what}: {said(measured <= most)}."


def said(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def generator(ceilings: Sequence[Ceiling]) -> str:
    """How it is known that the clients were not the limit."""
    found = "; ".join(
        f"{one.per_second:,.0f} deliveries/s at {one.busy:.0%} of its core, {one.together} in a write, which makes "
        f"{one.at_most:,.0f} of the whole core"
        for one in ceilings
    )
    return (
        "The clients are one native process (`bench/live/clients.c`) on a core of its own. Fed by a native sender "
        f"that does nothing else (`bench/live/sender.c`) they took in {found}. Where they were busy more than 85 % of "
        "their core, *Doubtful* stands under the table."
    )
