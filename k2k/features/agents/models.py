"""What goes in and out of agents and agencies, and how lists by skip and limit are asked for and counted."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import EmailStr, Field, StringConstraints

from k2k.core.ids import AgencyId, AgentId, UserId
from k2k.ops.validation import Answer, Input, Moment, Name, Text

Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
"""ISO 3166-1 alpha-2."""
License = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
"""E.164."""
# Web addresses only: what is shown as a link must not be able to run.
Link = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$", max_length=300)]
Specializations = Annotated[tuple[Name, ...], Field(max_length=20)]


def untouched() -> Any:
    """The default of a field of a change: left out it stays as it is; null is for what may be empty."""
    return Field(default=None, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    """Keeps the documents from saying that null is what a left out field means."""
    del schema["default"]


class Page(Input):
    """A part of a list, by place. Deep places are dear to find, so there is an end to them."""

    FURTHEST: ClassVar[int] = 10_000

    skip: int = Field(default=0, ge=0, le=FURTHEST, description="Deeper than 10,000 only a cursor search goes")
    limit: int = Field(default=100, ge=1, le=100)

    @property
    def count_to(self) -> int:
        """How far counting needs to go to tell an exact total from a larger one."""
        return self.FURTHEST + 1

    def headers(self, address: str, total: int) -> dict[str, str]:
        """X-Total-Count, exact to 10,000, and Link (RFC 8288) to the neighbouring parts of the list at `address`."""
        headers = {"X-Total-Count": str(min(total, self.FURTHEST))}
        if total > self.FURTHEST:
            headers["X-Total-Count-Relation"] = "gte"
        neighbours = {"next": self.skip + self.limit, "prev": max(0, self.skip - self.limit)}
        if neighbours["next"] >= total or neighbours["next"] > self.FURTHEST:
            del neighbours["next"]
        if self.skip == 0:
            del neighbours["prev"]
        if neighbours:
            headers["Link"] = ", ".join(
                f'<{address}?skip={skip}&limit={self.limit}>; rel="{name}"' for name, skip in neighbours.items()
            )
        return headers


class AgencyRole(StrEnum):
    owner = "owner"
    manager = "manager"
    member = "member"


class AgentPath(Input):
    agent_id: AgentId


class AgencyPath(Input):
    agency_id: AgencyId


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
    contact_email: str | None
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
