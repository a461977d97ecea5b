"""Rows of agent profiles and agencies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg

from k2k.core.ids import AgencyId, AgentId, UserId
from k2k.features.agents.errors import LicenseTaken
from k2k.features.agents.models import (
    Agency,
    AgencyDraft,
    AgencyRole,
    Agent,
    ProfileChange,
    ProfileDraft,
)
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader, Tx
from k2k.ops.paging import Page
from k2k.ops.registry import Json


@dataclass(frozen=True, slots=True)
class AgentsRow:
    total: int
    body: bytes


@dataclass(frozen=True, slots=True)
class AddedRow:
    id: AgentId
    body: bytes


@dataclass(frozen=True, slots=True)
class ProfileRow:
    id: AgentId
    agency_id: AgencyId | None


@dataclass(frozen=True, slots=True)
class AgencyRow:
    id: AgencyId


@dataclass(frozen=True, slots=True)
class JoinedRow:
    id: AgentId


@dataclass(frozen=True, slots=True)
class MemberRow:
    user_id: UserId


@dataclass(frozen=True, slots=True)
class RemovedRow:
    user_id: UserId
    agency_role: AgencyRole
    removed: bool


@dataclass(frozen=True, slots=True)
class ManagesRow:
    user_id: UserId
    agency_id: AgencyId


_queries = Queries("agents")
LIST_AGENTS = _queries.rows("list_agents", AgentsRow)
GET_AGENT = _queries.json("get_agent")
ADD_PROFILE = _queries.rows("add_profile", AddedRow)
CHANGE_PROFILE = _queries.json("change_profile")
FOUND_AGENCY = _queries.rows("found_agency", AgencyRow)
JOIN_AGENCY = _queries.rows("join_agency", JoinedRow)
GET_AGENCY = _queries.json("get_agency")
FIND_PROFILE = _queries.rows("find_profile", ProfileRow)
REMOVE_MEMBER = _queries.rows("remove_member", RemovedRow)
MANAGERS = _queries.rows("managers", ManagesRow)
AGENCY_AGENTS = _queries.rows("agency_agents", MemberRow)


async def list_agents(db: Reader, page: Page) -> AgentsRow:
    """A part of the public agents, newest first, and their number (counted no further than the page asks)."""
    (row,) = await db.rows(LIST_AGENTS, page.skip, page.limit, page.count_to)
    return row


async def find_agent(db: Reader, agent: AgentId) -> Json[Agent] | None:
    body = await db.find(GET_AGENT, agent)
    return Json(body) if body is not None else None


async def add_profile(tx: Tx, user: UserId, draft: ProfileDraft) -> AddedRow | None:
    """The new profile; None if the person has one. Raises LicenseTaken."""
    with _unique_license():
        return await tx.find(ADD_PROFILE, user, draft.model_dump_json().encode())


async def change_profile(tx: Tx, user: UserId, change: ProfileChange) -> Json[Agent] | None:
    """The profile as it is now; None if the person has none. Raises LicenseTaken."""
    with _unique_license():
        body = await tx.find(CHANGE_PROFILE, user, change.model_dump_json(exclude_unset=True).encode())
    return Json(body) if body is not None else None


async def found_agency(tx: Tx, user: UserId, draft: AgencyDraft) -> AgencyId | None:
    """The new agency, owned by this agent; None if they are no agent or in an agency. Raises LicenseTaken."""
    with _unique_license():
        row = await tx.find(FOUND_AGENCY, user, draft.model_dump_json().encode())
    return row.id if row else None


async def join_agency(tx: Tx, user: UserId, agency: AgencyId, role: AgencyRole) -> bool:
    """Whether the agent is in the agency from now on; false if they are no agent or in one already."""
    return await tx.find(JOIN_AGENCY, user, agency, role) is not None


async def find_agency(db: Reader, agency: AgencyId) -> Json[Agency] | None:
    body = await db.find(GET_AGENCY, agency)
    return Json(body) if body is not None else None


async def find_profile(db: Reader, user: UserId) -> ProfileRow | None:
    return await db.find(FIND_PROFILE, user)


async def remove_member(tx: Tx, by: UserId, agency: AgencyId, agent: AgentId) -> RemovedRow | None:
    """Who is out of the agency now, or is its owner and stays; None for strangers, and if `by` may not do that."""
    return await tx.find(REMOVE_MEMBER, by, agency, agent)


async def manage(db: Reader, asked: Sequence[tuple[UserId | None, AgencyId]]) -> list[bool]:
    """For each whether the person is the agency's owner or one of its managers."""
    rows = await db.rows(MANAGERS, [user for user, _ in asked], [agency for _, agency in asked])
    found = {(row.user_id, row.agency_id) for row in rows}
    return [one in found for one in asked]


async def agency_agents(db: Reader, agency: AgencyId) -> list[UserId]:
    return [row.user_id for row in await db.rows(AGENCY_AGENTS, agency)]


@contextmanager
def _unique_license() -> Iterator[None]:
    """A license given twice is only found out by writing it."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name not in {"agent_profiles_license", "agencies_license"}:
            raise
        raise LicenseTaken from error
