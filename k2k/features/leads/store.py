"""Rows of leads and their offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from k2k.core.ids import AgencyId, LeadId, ListingId, UserId
from k2k.features.leads.models import Claim, Lead, OpenedLead
from k2k.infra.sql import Queries
from k2k.infra.transaction import Announced, Reader, Tx
from k2k.ops.registry import Json


@dataclass(frozen=True, slots=True)
class ClaimRow:
    position: int
    events: bytes
    mine: bool | None
    """Whether the lead is now the claimant's; None where it was not offered to them."""
    lead: bytes


_queries = Queries("leads")
OPEN_LEAD = _queries.rows("open_lead", OpenedLead)
OFFER_LEAD = _queries.command("offer_lead")
CLAIM_MANY = _queries.rows("claim_many", ClaimRow)
GET_LEAD = _queries.json("get_lead")
LIST_LEADS = _queries.json("list_leads")
LIST_AGENCY_LEADS = _queries.json("list_agency_leads")


async def open_lead(tx: Tx, listing: ListingId, buyer: UserId, agency: AgencyId | None) -> OpenedLead:
    (row,) = await tx.rows(OPEN_LEAD, listing, buyer, agency)
    return row


async def offer_lead(tx: Tx, lead: LeadId, offered_to: Sequence[UserId]) -> None:
    await tx.run(OFFER_LEAD, lead, sorted(offered_to))


async def claim_many(tx: Tx, claims: Sequence[Claim]) -> list[Announced[ClaimRow]]:
    """One row per claim, in order."""
    return await tx.announce(CLAIM_MANY, [claim.lead_id for claim in claims], [claim.claimant for claim in claims])


async def find_lead(db: Reader, lead: LeadId, viewer: UserId) -> Json[Lead] | None:
    body = await db.find(GET_LEAD, lead, viewer)
    return Json(body) if body is not None else None


async def list_leads(db: Reader, agent: UserId, limit: int) -> Json[list[Lead]]:
    (body,) = await db.rows(LIST_LEADS, agent, limit)
    return Json(body)


async def list_agency_leads(db: Reader, agency: AgencyId, viewer: UserId, limit: int) -> Json[list[Lead]]:
    (body,) = await db.rows(LIST_AGENCY_LEADS, agency, viewer, limit)
    return Json(body)
