"""The database's time, told without the database."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from k2k.core import clock
from k2k.core.clock import Clock

MOMENT = timedelta(seconds=5)


class Tomorrow(datetime):
    """The wall clock after somebody has set it."""

    @classmethod
    def now(cls, tz: object = None) -> Tomorrow:
        return cls.fromtimestamp(time.time() + 86400, UTC)


def test_it_goes_on_from_what_the_database_said() -> None:
    told, told_by = datetime(2031, 5, 6, tzinfo=UTC), Clock()
    told_by.measured(told, time.monotonic() - 60)
    assert timedelta(0) <= told_by.now() - (told + timedelta(seconds=60)) < MOMENT


def test_before_the_first_reading_it_tells_this_machines_time() -> None:
    assert abs(Clock().now() - datetime.now(UTC)) < MOMENT


def test_setting_this_machines_time_does_not_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told_by = Clock()
    monkeypatch.setattr(clock, "datetime", Tomorrow)
    assert abs(told_by.now() - datetime.now(UTC)) < MOMENT
