"""What happens to leads. `claimed`, `taken` and `assigned` are announced by the statement that claims."""

from typing import ClassVar

from k2k.core.ids import LeadId, ListingId, UserId
from k2k.core.money import Currency, Price
from k2k.features.listings.models import ListingKind
from k2k.infra.streams import Event


class LeadOffered(Event):
    """Somebody has enquired: whoever of these agents claims the lead first takes care of it."""

    type: ClassVar[str] = "lead.offered"
    to = ("user", "agency")
    lead_id: LeadId
    listing_id: ListingId
    kind: ListingKind
    price: Price
    currency: Currency


class LeadClaimed(Event):
    """To the winner, on all their devices, and to the agency: the lead is theirs."""

    type: ClassVar[str] = "lead.claimed"
    to = ("user", "agency")
    lead_id: LeadId
    listing_id: ListingId
    claimed_by: UserId


class LeadTaken(Event):
    """To everybody else who was offered the lead: it is gone."""

    type: ClassVar[str] = "lead.taken"
    to = ("user",)
    lead_id: LeadId
    listing_id: ListingId


class EnquiryAssigned(Event):
    """To the buyer: somebody takes care of the enquiry."""

    type: ClassVar[str] = "enquiry.assigned"
    to = ("user",)
    lead_id: LeadId
    listing_id: ListingId
    agent_id: UserId
