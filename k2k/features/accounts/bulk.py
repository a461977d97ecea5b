"""People by the thousand, as rows: for markets made up in development."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from k2k.core.ids import UserId
from k2k.infra.bulk import Bulk


class UserRow(NamedTuple):
    """A row of users."""

    id: UserId
    email: str
    phone: str | None
    password_hash: str
    full_name: str
    role: str
    is_verified: bool
    created_at: datetime
    updated_at: datetime


async def load_users(bulk: Bulk, rows: Sequence[UserRow]) -> None:
    """Add accounts."""
    await bulk.copy("users", UserRow._fields, rows)
