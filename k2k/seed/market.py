"""What a made-up market follows from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from k2k.features.places.models import Gazetted

SPAN = timedelta(days=60)
"""How long before its end the first listing was published: as long as one stays on offer."""


@dataclass(frozen=True, slots=True)
class Market:
    """The same market, the same rows, but for the salt in the hash of the password that all its people share."""

    listings: int
    seed: int
    until: datetime
    """Midnight (UTC) after the last listing."""
    gazetteer: tuple[Gazetted, ...]
    password_hash: str
    block: int = 5_000
    """Listings made and stored at once: some seconds of work, and little enough to hold twice in memory."""

    @property
    def blocks(self) -> int:
        return -(-self.listings // self.block)

    @property
    def begins(self) -> datetime:
        return self.until - SPAN

    @property
    def agents(self) -> int:
        """They offer seven of ten listings."""
        return max(2, self.listings // 100)

    @property
    def sellers(self) -> int:
        """Who offers something without an agent, about twice each."""
        return max(2, self.listings * 3 // 20)

    @property
    def buyers(self) -> int:
        """Those who save something."""
        return max(5, self.listings // 50)
