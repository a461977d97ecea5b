"""What goes in and out of agents and agencies."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import EmailStr, Field, StringConstraints

from k2k.core.ids import AgencyId, AgentId, UserId
from k2k.ops.validation import Answer, Country, Input, Moment, Name, Text, untouched

License = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
"""E.164."""
# Web addresses only: what is shown as a link must not be able to run.
Link = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$", max_length=300)]
Specializations = Annotated[tuple[Name, ...], Field(max_length=20)]


class AgencyRole(StrEnum):
    owner = "owner"
    manager = "manager"
    member = "member"


class AgentPath(Input):
    agent_id: AgentId


class AgencyPath(Input):
    agency_id: AgencyId


class MemberPath(Input):
    agency_id: AgencyId
    agent_id: AgentId


class ProfileDraft(Input):
    display_name: Name
    company_name: Name | None = None
    license: License | None = None
    specializations: Specializations = ()
    bio: Text | None = None
    website: Link | None = None
    facebook: Link | None = None
    twitter: Link | None = None
    linkedin: Link | None = None
    contact_phone: Phone | None = None
    contact_email: EmailStr | None = None
    country: Country = "ET"


class ProfileChange(Input):
    """Only what is sent changes; null clears what may be empty."""

    display_name: Name = untouched()
    company_name: Name | None = untouched()
    license: License | None = untouched()
    specializations: Specializations = untouched()
    bio: Text | None = untouched()
    website: Link | None = untouched()
    facebook: Link | None = untouched()
    twitter: Link | None = untouched()
    linkedin: Link | None = untouched()
    contact_phone: Phone | None = untouched()
    contact_email: EmailStr | None = untouched()
    country: Country = untouched()


class AgencyDraft(Input):
    name: Name
    license: License | None = None
    city: Name
    country: Country = "ET"


class Agent(Answer):
    """An agent as everyone sees them. The contact is the one the agent published."""

    id: AgentId
    user_id: UserId
    agency_id: AgencyId | None
    agency_role: AgencyRole | None
    display_name: str
    company_name: str | None
    license: str | None
    specializations: tuple[str, ...]
    bio: str | None
    website: str | None
    facebook: str | None
    twitter: str | None
    linkedin: str | None
    contact_phone: str | None
    contact_email: EmailStr | None
    rating: float
    review_count: int
    properties_sold: int
    country: str
    created_at: Moment
    updated_at: Moment


class Member(Answer):
    id: AgentId
    user_id: UserId
    display_name: str
    agency_role: AgencyRole


class Agency(Answer):
    id: AgencyId
    name: str
    license: str | None
    city: str
    country: str
    members: tuple[Member, ...]
    created_at: Moment
    updated_at: Moment
