"""One clock for all processes: the database's, reckoned from the local one plus a measured offset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Tells database time without asking the database.

    The offset is measured whenever a database connection opens (`infra/db`); until then it is zero.
    """

    def __init__(self) -> None:
        self._offset = timedelta()

    def measured(self, database_time: datetime, local_time: datetime) -> None:
        """Take over the offset seen when the database said `database_time` at `local_time` (both aware)."""
        self._offset = database_time - local_time

    def now(self) -> datetime:
        """The present moment in UTC, as the database would tell it."""
        return datetime.now(UTC) + self._offset
