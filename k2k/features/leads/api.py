"""Leads as agents meet them: the desk, one lead, and the claim."""

from __future__ import annotations

from k2k.features.leads import service
from k2k.features.leads.errors import LeadNotFound, LeadTaken
from k2k.features.leads.models import Claim, DeskQuery, Lead, LeadPath
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Routes

routes = Routes("leads")


@routes.get("/leads", may=Permission.claim_leads, rpc="lead.list")
async def list_leads(call: Call, query: DeskQuery) -> Json[list[Lead]]:
    """What is offered to me and still open, and what I have claimed, newest first."""
    return await service.list_leads(call.db, call.user.id, query.limit)


@routes.get("/leads/{lead_id}", may=Permission.own_account, rpc="lead.get", raises=(LeadNotFound,))
async def get_lead(call: Call, path: LeadPath) -> Json[Lead]:
    """One lead, for its buyer and for those it was offered to."""
    return await service.get_lead(call.db, path.lead_id, call.user.id)


@routes.post(
    "/leads/{lead_id}/claim",
    may=Permission.claim_leads,
    rpc="lead.claim",
    repeats=Repeats.freely,
    raises=(LeadNotFound, LeadTaken),
)
async def claim_lead(call: Call, path: LeadPath) -> Json[Lead]:
    """Claim an offered lead; exactly one agent wins. Claiming one's own again answers the same."""
    return await call.together(service.claim_many, Claim(path.lead_id, call.user.id))
