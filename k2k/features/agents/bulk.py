"""Agents and agencies by the thousand, as rows: for markets made up in development."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from k2k.core.ids import AgencyId, AgentId, UserId
from k2k.infra.bulk import Bulk


class AgencyRow(NamedTuple):
    """A row of agencies."""

    id: AgencyId
    name: str
    license: str
    city: str
    created_at: datetime
    updated_at: datetime


class ProfileRow(NamedTuple):
    """A row of agent_profiles."""

    id: AgentId
    user_id: UserId
    agency_id: AgencyId
    agency_role: str
    display_name: str
    company_name: str
    license: str
    specializations: list[str]
    bio: str
    contact_phone: str
    contact_email: str
    rating: Decimal
    review_count: int
    properties_sold: int
    created_at: datetime
    updated_at: datetime


async def load_agents(bulk: Bulk, agencies: Sequence[AgencyRow], profiles: Sequence[ProfileRow]) -> None:
    """Add agencies and the profiles of their agents, whose accounts are there."""
    await bulk.copy("agencies", AgencyRow._fields, agencies)
    await bulk.copy("agent_profiles", ProfileRow._fields, profiles)
