"""What goes in and out of leads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from k2k.core.ids import AgencyId, ConversationId, LeadId, ListingId, UserId
from k2k.ops.validation import Answer, Input, Moment


class LeadStatus(StrEnum):
    open = "open"
    claimed = "claimed"
    closed = "closed"


class LeadPath(Input):
    lead_id: LeadId


class DeskQuery(Input):
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class Buyer(Answer):
    id: UserId
    full_name: str
    phone: str | None


class Lead(Answer):
    """`buyer` and `conversation_id` are null for agents until they have claimed the lead."""

    id: LeadId
    listing_id: ListingId
    listing_title: str
    agency_id: AgencyId | None
    status: LeadStatus
    buyer: Buyer | None
    conversation_id: ConversationId | None
    claimed_by: UserId | None
    claimed_at: Moment | None
    created_at: Moment
    updated_at: Moment


@dataclass(frozen=True, slots=True)
class Claim:
    """An agent's wish to have a lead."""

    lead_id: LeadId
    claimant: UserId


@dataclass(frozen=True, slots=True)
class OpenedLead:
    """The buyer's open lead for a listing; `opened` if there was none before."""

    id: LeadId
    status: str
    opened: bool
