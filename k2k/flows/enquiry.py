"""A buyer enquires: the lead is opened and offered to agents, and what the buyer said begins the conversation.

A second enquiry on the same listing joins the first: same lead, same conversation, one more message. Nobody is offered
it again.
"""

from __future__ import annotations

from k2k.core.errors import Conflict, IdempotencyMismatch
from k2k.core.ids import ConversationId, LeadId, ListingId, UserId
from k2k.features.agents import service as agents
from k2k.features.chat import service as chat
from k2k.features.chat.models import Send, SentMessage
from k2k.features.leads import service as leads
from k2k.features.leads.events import LeadOffered
from k2k.features.leads.models import LeadStatus
from k2k.features.listings import service as listings
from k2k.features.listings.errors import ListingNotFound
from k2k.features.listings.models import ListingStatus, Offer
from k2k.infra.transaction import Tx, one
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Routes
from k2k.ops.validation import Answer, ClientId, Input, Text

routes = Routes("enquiries")


class OwnListing(Conflict):
    """Whoever sells it has nothing to ask."""

    code = "own-listing"
    number = 1402
    title = "You cannot enquire about a listing you sell yourself"


class ListingPath(Input):
    listing_id: ListingId


class EnquiryWish(Input):
    client_id: ClientId
    message: Text


class Enquiry(Answer):
    lead_id: LeadId
    conversation_id: ConversationId
    status: LeadStatus
    message: SentMessage


@routes.post(
    "/listings/{listing_id}/enquiries",
    may=Permission.enquire,
    rpc="enquiry.open",
    status=201,
    raises=(ListingNotFound, OwnListing, IdempotencyMismatch),
)
async def open_enquiry(call: Call, path: ListingPath, body: EnquiryWish) -> Enquiry:
    """Ask about a listing. The same client_id again answers the same enquiry."""
    offer = await listings.get_offer(call.db, path.listing_id)
    sellers = await _sellers(call, offer)
    if call.user.id in sellers:
        raise OwnListing
    async with call.db.transaction() as tx:
        lead = await leads.open_lead(tx, offer.id, call.user.id, offer.agency_id)
        conversation = await chat.open_conversation(tx, lead.id, offer.agency_id)
        if lead.opened:
            await _offer(tx, lead.id, offer, sellers)
        send = Send(conversation, call.user.id, body.client_id, body.message)
        sent = one(await chat.send_many(tx, [send]))
    return Enquiry(lead_id=lead.id, conversation_id=conversation, status=LeadStatus(lead.status), message=sent.answer())


async def _sellers(call: Call, offer: Offer) -> list[UserId]:
    """Whom a lead is offered to: the agents of the agency, or the owner who sells without one."""
    if offer.status is not ListingStatus.active:
        raise ListingNotFound
    agency = offer.agency_id
    found = await agents.agency_agents(call.db, agency) if agency is not None else []
    return sorted({*found, offer.owner_id})


async def _offer(tx: Tx, lead: LeadId, offer: Offer, sellers: list[UserId]) -> None:
    event = LeadOffered(lead_id=lead, listing_id=offer.id, kind=offer.kind, price=offer.price, currency=offer.currency)
    await leads.offer_lead(tx, event, sellers, offer.agency_id)
