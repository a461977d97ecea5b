"""Becoming an agent, and working for an agency."""

from __future__ import annotations

from k2k.core.errors import Denied, DomainError
from k2k.core.ids import AgencyId, AgentId, UserId, agency_channel, user_channel
from k2k.features.accounts import service as accounts
from k2k.features.agents import store
from k2k.features.agents.errors import AgencyNeedsOwner, AgencyNotFound, AgentNotFound, AlreadyInAgency, ProfileExists
from k2k.features.agents.models import Agency, AgencyDraft, AgencyRole, Agent, ProfileChange, ProfileDraft
from k2k.infra.transaction import Reader, Tx
from k2k.live.access import AccessGained, AccessLost
from k2k.ops.permissions import Role
from k2k.ops.registry import Json


async def get_agent(db: Reader, agent: AgentId) -> Json[Agent]:
    """The public profile. Raises AgentNotFound."""
    found = await store.find_agent(db, agent)
    if found is None:
        raise AgentNotFound
    return found


async def open_profile(tx: Tx, user: UserId, draft: ProfileDraft) -> tuple[AgentId, Json[Agent]]:
    """Make a person an agent. Raises ProfileExists or LicenseTaken."""
    added = await store.add_profile(tx, user, draft)
    if added is None:
        raise ProfileExists
    await accounts.become(tx, user, Role.agent)
    return added.id, Json(added.body)


async def change_profile(tx: Tx, user: UserId, change: ProfileChange) -> Json[Agent]:
    """Change what was sent of the person's own profile. Raises AgentNotFound or LicenseTaken."""
    changed = await store.change_profile(tx, user, change)
    if changed is None:
        raise _no_profile()
    return changed


async def get_agency(db: Reader, agency: AgencyId) -> Json[Agency]:
    """The agency and its public agents, longest there first. Raises AgencyNotFound."""
    found = await store.find_agency(db, agency)
    if found is None:
        raise AgencyNotFound
    return found


async def found_agency(tx: Tx, user: UserId, draft: AgencyDraft) -> AgencyId:
    """A new agency with this agent as its owner. Raises AgentNotFound, AlreadyInAgency or LicenseTaken."""
    agency = await store.found_agency(tx, user, draft)
    if agency is None:
        raise await _why_no_member(tx, user)
    tx.emit(AccessGained(channel=agency_channel(agency)), to=[user_channel(user)])
    return agency


async def join_agency(tx: Tx, user: UserId, agency: AgencyId, role: AgencyRole) -> None:
    """Take an agent into an agency. Raises AgentNotFound, AgencyNotFound or AlreadyInAgency."""
    await get_agency(tx, agency)
    if not await store.join_agency(tx, user, agency, role):
        raise await _why_no_member(tx, user)
    if role is not AgencyRole.member:
        tx.emit(AccessGained(channel=agency_channel(agency)), to=[user_channel(user)])


async def remove_member(tx: Tx, by: UserId, agency: AgencyId, agent: AgentId) -> None:
    """Take an agent out of an agency: what only its people may follow ends with the transaction.

    Raises AgencyNotFound, AgentNotFound, AgencyNeedsOwner, or Denied for whoever neither runs it nor is meant.
    """
    gone = await store.remove_member(tx, by, agency, agent)
    if gone is None:
        members = Agency.model_validate_json(await get_agency(tx, agency)).members
        raise Denied if any(member.id == agent for member in members) else AgentNotFound
    if not gone.removed:
        raise AgencyNeedsOwner
    if gone.agency_role is not AgencyRole.member:
        channel = agency_channel(agency)
        tx.emit(AccessLost(channel=channel, user_id=gone.user_id), to=[channel, user_channel(gone.user_id)])


async def manages(db: Reader, user: UserId, agency: AgencyId) -> bool:
    """Whether the person is the agency's owner or one of its managers."""
    (allowed,) = await store.manage(db, [(user, agency)])
    return allowed


async def agency_of(db: Reader, user: UserId) -> AgencyId | None:
    """The agency this person works for, if any."""
    profile = await store.find_profile(db, user)
    return profile.agency_id if profile else None


async def agency_agents(db: Reader, agency: AgencyId) -> list[UserId]:
    """The agency's living agents whose account is active, longest there first."""
    return await store.agency_agents(db, agency)


async def _why_no_member(db: Reader, user: UserId) -> DomainError:
    return _no_profile() if await store.find_profile(db, user) is None else AlreadyInAgency()


def _no_profile() -> AgentNotFound:
    return AgentNotFound("You have no agent profile yet: open one first")
