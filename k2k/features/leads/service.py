"""Opening, offering and claiming leads."""

from __future__ import annotations

from collections.abc import Sequence

from k2k.core.errors import DomainError
from k2k.core.ids import AgencyId, LeadId, ListingId, UserId, agency_channel, user_channel
from k2k.features.leads import store
from k2k.features.leads.errors import LeadNotFound, LeadTaken
from k2k.features.leads.events import LeadOffered
from k2k.features.leads.models import Claim, Lead, OpenedLead
from k2k.infra.transaction import Reader, Tx
from k2k.ops.registry import Json


async def open_lead(tx: Tx, listing: ListingId, buyer: UserId, agency: AgencyId | None) -> OpenedLead:
    """The buyer's open lead for the listing, new or not."""
    return await store.open_lead(tx, listing, buyer, agency)


async def offer_lead(tx: Tx, event: LeadOffered, agents: Sequence[UserId], agency: AgencyId | None) -> None:
    """Offer a lead to `agents`, who hear of it at once, and so does their agency."""
    await store.offer_lead(tx, event.lead_id, agents)
    channels = [user_channel(agent) for agent in agents]
    tx.emit(event, to=[*channels, agency_channel(agency)] if agency is not None else channels)


async def claim_many(tx: Tx, claims: Sequence[Claim]) -> list[Json[Lead] | DomainError]:
    """The lead for each claim that won, or had won before; else LeadTaken, or LeadNotFound if it was not offered."""
    return [_outcome(announced.row) for announced in await store.claim_many(tx, claims)]


def _outcome(row: store.ClaimRow) -> Json[Lead] | DomainError:
    if row.mine is None:
        return LeadNotFound()
    return Json(row.lead) if row.mine else LeadTaken()


async def get_lead(db: Reader, lead: LeadId, viewer: UserId) -> Json[Lead]:
    """The lead as `viewer` may see it. Raises LeadNotFound, also for a lead that does not concern them."""
    found = await store.find_lead(db, lead, viewer)
    if found is None:
        raise LeadNotFound
    return found


async def list_leads(db: Reader, agent: UserId, limit: int) -> Json[list[Lead]]:
    """The agent's desk, newest first."""
    return await store.list_leads(db, agent, limit)


async def list_agency_leads(db: Reader, agency: AgencyId, viewer: UserId, limit: int) -> Json[list[Lead]]:
    """The agency's leads as `viewer`, who runs it, may see them, newest first."""
    return await store.list_agency_leads(db, agency, viewer, limit)
