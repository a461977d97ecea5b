"""What the live bench's tables say of its readings."""

from __future__ import annotations

import pytest

from bench.live.packing import packed
from bench.live.reading import Column, Goal, Question, Reading, in_turn
from bench.live.tables import table

RATE = Column("messages/s", lambda one: one.per_second)
WEIGHT = Column("KiB a socket", lambda one: one.memory / 1024)


def asked(*goals: Goal, ours: float, theirs: float) -> Question:
    readings = {"Key2Key": [Reading(ours, memory=ours)], "peer": [Reading(theirs, memory=theirs)]}
    return Question("Chat", [RATE, WEIGHT], goals, readings)


def test_a_goal_is_reached_or_missed_and_says_so() -> None:
    three_times = Goal("peer", lambda one: one.per_second, "messages/s", 3)
    assert "| peer, messages/s | 3.00 (3.00–3.00) | ≥ 3 | reached |" in table(asked(three_times, ours=300, theirs=100))
    assert "| 2.99 (2.99–2.99) | ≥ 3 | **missed** |" in table(asked(three_times, ours=299, theirs=100))


def test_where_less_is_better_the_ratio_is_turned() -> None:
    weight = Goal("peer", lambda one: one.memory, "memory", 2, more=False)
    assert "| 4.00 (4.00–4.00) | ≥ 2 | reached |" in table(asked(weight, ours=10, theirs=40))


def test_a_limit_of_our_own_is_told_in_the_unit_of_its_column() -> None:
    question = asked(ours=20 * 1024, theirs=1)
    limited = Question(
        "Idle", [WEIGHT], [], question.readings, most=(WEIGHT.heading, lambda one: one.memory, 16 * 1024)
    )
    assert "at most 16.0 KiB a socket: **missed**" in table(limited)


@pytest.mark.parametrize(
    ("reading", "doubt"),
    [
        (Reading(1, busy=0.9), "the clients were busy 90% of the time"),
        (Reading(1, foreign=0.2), "other programs used up to 20% of the machine"),
    ],
)
def test_a_figure_that_may_be_of_something_else_is_doubtful(reading: Reading, doubt: str) -> None:
    assert f"**Doubtful**: Key2Key: {doubt}" in table(Question("Chat", [RATE], [], {"Key2Key": [reading]}))
    assert "Doubtful" not in table(Question("Chat", [RATE], [], {"Key2Key": [Reading(1)]}))


def test_the_sides_take_turns_there_and_back() -> None:
    order: list[str] = []

    def measure(name: str) -> Reading:
        order.append(name)
        return Reading(len(order))

    found = in_turn(["a", "b"], 2, measure)
    assert order == ["a", "b", "b", "a"]
    assert [one.per_second for one in found["a"]] == [1, 4]


def test_messages_for_the_peers_are_message_pack() -> None:
    assert packed(["bench", {"type": 2}]) == b"\x92\xa5bench\x81\xa4type\x02"
    assert packed("x" * 40) == b"\xd9\x28" + b"x" * 40
    assert packed("x" * 300) == b"\xda\x01\x2c" + b"x" * 300
    with pytest.raises(ValueError, match="more than is understood"):
        packed(200)
