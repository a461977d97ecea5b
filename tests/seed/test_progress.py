"""How far a long work is told."""

from __future__ import annotations

from io import StringIO

from k2k.seed.progress import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_for_each_tenth() -> None:
    out = StringIO()
    progress = Progress(200, out)
    for done in range(1, 201):
        progress(done)
    lines = out.getvalue().splitlines()
    assert [line.partition(" of 200")[0] for line in lines] == [str(done) for done in range(20, 201, 20)]


def test_a_terminal_gets_a_bar_that_grows_on_one_line() -> None:
    out = Terminal()
    progress = Progress(4, out)
    for done in range(1, 5):
        progress(done)
    assert [bar.count("#") for bar in out.getvalue().split("\r")] == [0, 10, 20, 30, 40]
    assert out.getvalue().count("\n") == 1
