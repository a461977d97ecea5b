"""`@pytest.mark.needs("chromium")`: a test that drives a program of tests/programs.py.

Where the program is missing the test is left out, and the last line of the run says so: a run that could not look is
not to be taken for one that looked.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.programs import PROGRAMS, missing

NOT_RUN = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): left out where one of these programs is missing")


@pytest.hookimpl(trylast=True)  # after -k and -m: counts what was asked for
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    absent = missing()
    first = {item: next((name for name in _needs(item) if name in absent), None) for item in items}
    left_out = [item for item in items if first[item]]
    config.stash[NOT_RUN] = Counter(name for name in first.values() if name)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not first[item]]


def _needs(item: pytest.Item) -> list[str]:
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    if unknown := set(names) - PROGRAMS.keys():
        raise pytest.UsageError(f"{item.nodeid} needs {unknown}, which tests/programs.py does not know")
    return names


def pytest_sessionfinish(session: pytest.Session) -> None:
    """xdist: every worker has collected the same; each tells."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["not_run"] = dict(session.config.stash.get(NOT_RUN, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """xdist: the controller collects nothing itself and takes a worker's word."""
    told = getattr(node, "workeroutput", {}).get("not_run")
    if told is not None:
        node.config.stash[NOT_RUN] = Counter(told)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The very last line, under pytest's own summary."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    left_out = config.stash.get(NOT_RUN, None)
    if not left_out or terminal is None:
        return
    reasons = [f"{count} for want of {name} ({PROGRAMS[name].remedy})" for name, count in left_out.items()]
    terminal.write_line(f"NOT RUN: {left_out.total()} tests, {' and '.join(reasons)}", red=True, bold=True)
