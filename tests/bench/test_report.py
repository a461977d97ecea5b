"""Tables and their place in the document; the guards that speak against a figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.harness.compare import Comparison, Scenario, doubts
from bench.harness.equal import differences
from bench.harness.report import DOCUMENT, NoMarkers, comparison, replace_block, table
from bench.harness.window import Reading

READING = Reading(
    per_second=1000.0,
    p50=0.010,
    p99=0.020,
    server_cpu=400e-6,
    backing_cpu=100e-6,
    statements=1.0,
    generator_busy=0.2,
    lateness=0.0,
    foreign=0.01,
)
SLOWER = replace(READING, per_second=200.0, p50=0.050, server_cpu=2000e-6, statements=3.0)


def test_a_block_is_replaced_and_the_rest_stays() -> None:
    document = (
        "# Before\n<!-- bench:rest -->\nold\n<!-- /bench:rest -->\nafter\n<!-- bench:x -->\nx\n<!-- /bench:x -->\n"
    )
    once = replace_block(document, "rest", "new | table\n")
    assert once == document.replace("old", "new | table")
    assert replace_block(once, "rest", "new | table") == once


@pytest.mark.parametrize(
    "document",
    [
        "",
        "<!-- bench:rest -->\n",
        "<!-- /bench:rest -->\n<!-- bench:rest -->\n",
        "<!-- bench:rest -->\n<!-- bench:rest -->\n<!-- /bench:rest -->\n",
    ],
)
def test_a_document_without_a_place_is_left_alone(document: str) -> None:
    with pytest.raises(NoMarkers, match="bench:rest"):
        replace_block(document, "rest", "new")


@pytest.mark.parametrize("name", ["rest", "delivery"])
def test_performance_md_has_a_place_for_every_bench(name: str) -> None:
    assert "| table |" in replace_block(DOCUMENT.read_text(), name, "| table |")


def test_a_table_is_markdown() -> None:
    assert table(["", "p50"], [["ours", "1"]]) == "|  | p50 |\n| --- | --- |\n| ours | 1 |"


def compared(ours: list[Reading], peers: list[Reading], rate: float | None = None) -> Comparison:
    scenario = Scenario("GET /x", ["GET / HTTP/1.1\r\n\r\n"], size=1, connections=1, rate=rate)
    return Comparison(scenario, {"Key2Key": ours, "Peer": peers}, ceiling=20_000.0)


def test_better_is_above_one_whatever_the_unit() -> None:
    text = comparison(compared([READING] * 3, [SLOWER] * 3), "Peer")
    (better,) = [line for line in text.splitlines() if "times better" in line]
    # requests/s, p50, p99, CPU of the server, of the rest, of all, statements
    assert [cell.split()[0].strip("*") for cell in better.split("|")[2:-1]] == [
        *("5.00", "5.00", "1.00", "5.00", "1.00", "4.20", "3.00")
    ]


def test_at_a_steady_rate_nobody_is_better_at_requests_a_second() -> None:
    text = comparison(compared([READING], [SLOWER], rate=100.0), "Peer")
    assert "| **Key2Key, times better** | **–** | **5.00" in text


def test_at_a_steady_rate_the_generators_own_lateness_is_told() -> None:
    text = comparison(compared([replace(READING, lateness=0.0012)], [SLOWER], rate=100.0), "Peer")
    assert "It sent up to 1.2 ms late" in text
    assert "late" not in comparison(compared([READING], [SLOWER]), "Peer")


def test_readings_beyond_doubt_raise_none() -> None:
    assert doubts([READING], ceiling=20_000.0, steady=False) == []
    assert "Doubtful" not in comparison(compared([READING], [SLOWER]), "Peer")


def test_a_busy_generator_is_told() -> None:
    (doubt,) = doubts([READING, replace(READING, generator_busy=0.9)], ceiling=20_000.0, steady=False)
    assert "busy 90% of the time" in doubt
    assert f"- **Doubtful**: Key2Key: {doubt}." in comparison(
        compared([replace(READING, generator_busy=0.9)], [SLOWER]), "Peer"
    )


def test_a_generator_near_its_own_limit_is_told() -> None:
    (doubt,) = doubts([READING], ceiling=1400.0, steady=False)
    assert "only 1.40 times as many" in doubt
    assert doubts([READING], ceiling=1400.0, steady=True) == []  # it was not asked for more


def test_a_busy_machine_is_told() -> None:
    (doubt,) = doubts([READING, replace(READING, foreign=0.31)], ceiling=20_000.0, steady=False)
    assert "up to 31% of the machine" in doubt


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"a": 1, "b": [1.0]}, {"b": [1], "a": 1.0}),
        ("2026-11-22T10:00:00.120Z", "2026-11-22T13:00:00.120000+03:00"),
        (4500000.00, 4500000),
        (None, None),
    ],
)
def test_the_same_content_written_differently_is_equal(ours: object, theirs: object) -> None:
    assert differences(ours, theirs) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "where"),
    [
        ({"a": 1}, {"a": 1, "b": None}, "/b is on one side only"),
        ({"a": [1, 2]}, {"a": [1]}, "/a has 2 and 1 items"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "/a/0/b: 1 and 2"),
        ({"a": True}, {"a": 1}, "/a: True and 1"),
        ({"a": "4.5"}, {"a": 4.5}, "/a: '4.5' and 4.5"),
        ({"a": None}, {"a": ""}, "/a: None and ''"),
        ("2026-11-22T10:00:00.120Z", "2026-11-22T10:00:00.121Z", ": '2026"),
    ],
)
def test_different_content_is_found_with_its_place(ours: object, theirs: object, where: str) -> None:
    (found,) = differences(ours, theirs)
    assert found.startswith(where)
