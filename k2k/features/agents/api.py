"""Agents and agencies: who sells for others, and becoming one of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from k2k.features.accounts.authenticator import SignInAuthenticator
from k2k.features.accounts.models import Notice
from k2k.features.agents import service, store
from k2k.features.agents.errors import (
    AgencyNeedsOwner,
    AgencyNotFound,
    AgentNotFound,
    AlreadyInAgency,
    LicenseTaken,
    ProfileExists,
)
from k2k.features.agents.models import (
    Agency,
    AgencyDraft,
    AgencyPath,
    Agent,
    AgentPath,
    MemberPath,
    ProfileChange,
    ProfileDraft,
)
from k2k.infra.transaction import Reader
from k2k.ops.call import Call
from k2k.ops.channels import Asked, Presence
from k2k.ops.paging import PAGED, Page
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Reply, Routes
from k2k.web.routes import PREFIX

routes = Routes("agents")


@routes.get("/agents", may=Permission.read_market, headers=PAGED)
async def list_agents(call: Call, query: Page) -> Reply[Json[list[Agent]]]:
    """All agents, newest first. X-Total-Count says how many there are, Link where the next part is."""
    found = await store.list_agents(call.db, query)
    return Reply(Json(found.body), query.headers(f"{PREFIX}/agents", found.total))


@routes.get("/agents/{agent_id}", may=Permission.read_market, rpc="agent.get", raises=(AgentNotFound,))
async def get_agent(call: Call, path: AgentPath) -> Json[Agent]:
    """One agent's public profile."""
    return await service.get_agent(call.db, path.agent_id)


@routes.post(
    "/agents/profile",
    may=Permission.own_account,
    status=201,
    raises=(ProfileExists, LicenseTaken),
    headers=("Location",),
)
async def open_profile(call: Call, body: ProfileDraft) -> Reply[Json[Agent]]:
    """Become an agent: publish a profile. Each person has one."""
    async with call.transaction() as tx:
        agent, profile = await service.open_profile(tx, call.user.id, body)
        # The next call on this sign-in may already do what agents may.
        tx.afterwards.append(lambda: call.use(SignInAuthenticator).forget(call.user.sign_in_id))
    return Reply(profile, {"Location": f"{PREFIX}/agents/{agent}"})


@routes.put("/agents/profile", may=Permission.be_agent, raises=(AgentNotFound, LicenseTaken))
async def change_profile(call: Call, body: ProfileChange) -> Json[Agent]:
    """Change one's own profile: only what is sent, null clears."""
    async with call.transaction() as tx:
        return await service.change_profile(tx, call.user.id, body)


@routes.post(
    "/agencies",
    may=Permission.be_agent,
    status=201,
    raises=(AgentNotFound, AlreadyInAgency, LicenseTaken),
    headers=("Location",),
)
async def found_agency(call: Call, body: AgencyDraft) -> Reply[Json[Agency]]:
    """Found an agency and become its owner."""
    async with call.transaction() as tx:
        agency = await service.found_agency(tx, call.user.id, body)
        founded = await service.get_agency(tx, agency)
    return Reply(founded, {"Location": f"{PREFIX}/agencies/{agency}"})


@routes.get("/agencies/{agency_id}", may=Permission.read_market, raises=(AgencyNotFound,))
async def get_agency(call: Call, path: AgencyPath) -> Json[Agency]:
    """An agency and the agents who work for it."""
    return await service.get_agency(call.db, path.agency_id)


@routes.delete(
    "/agencies/{agency_id}/members/{agent_id}",
    may=Permission.be_agent,
    rpc="agency.remove",
    raises=(AgencyNotFound, AgentNotFound, AgencyNeedsOwner),
)
async def remove_member(call: Call, path: MemberPath) -> Notice:
    """Leave one's agency, or, as its owner or manager, take somebody out of it."""
    async with call.transaction() as tx:
        await service.remove_member(tx, call.user.id, path.agency_id, path.agent_id)
    return Notice(message="The agent no longer belongs to the agency")


@routes.channel(
    "agency:{agency_id}",
    may=Permission.be_agent,
    kept=timedelta(days=30),
    presence=Presence.people,
    state="agency.desk",
)
async def follow_agency(db: Reader, asked: Sequence[Asked[AgencyPath]]) -> list[bool]:
    """What happens in an agency, for its owner and managers."""
    return await store.manage(db, [(one.user_id, one.path.agency_id) for one in asked])
