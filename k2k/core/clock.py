"""One clock for all processes: the database's, reckoned on from the moment it was last read."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Tells database time without asking the database.

    It is read whenever a database connection opens (`infra/db`) and goes on with this machine's monotonic clock, so
    nobody notices when somebody sets the time here. Until the first reading it tells this machine's time.
    """

    def __init__(self) -> None:
        self.measured(datetime.now(UTC), time.monotonic())

    def measured(self, database_time: datetime, moment: float) -> None:
        """Take over what the database said (aware) at `moment` of `time.monotonic()`."""
        self._zero = database_time - timedelta(seconds=moment)

    def now(self) -> datetime:
        """The present moment in UTC, as the database would tell it."""
        return self._zero + timedelta(seconds=time.monotonic())
