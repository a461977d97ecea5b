"""What goes in and out of moderation."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from k2k.core.ids import ItemId, ListingId, ReportId, UserId
from k2k.features.listings.kinds import AnyListing
from k2k.features.listings.models import ListingKind
from k2k.ops.channels import StreamPosition
from k2k.ops.paging import CursorPage, NextCursor
from k2k.ops.validation import Answer, Input, Moment, Text

MOST_AT_ONCE = 100
"""Listings that one call decides about: beyond a hundred receivers it would be a job."""


class ReportReason(StrEnum):
    """What is wrong with a listing."""

    spam = "spam"
    misclassified = "misclassified"
    duplicate = "duplicate"
    expired = "expired"
    offensive = "offensive"
    fraud = "fraud"
    wrong_price = "wrong_price"
    other = "other"


class ReportWish(Input):
    reason: ReportReason
    text: Text | None = None


class Report(Answer):
    id: ReportId
    listing_id: ListingId
    reason: ReportReason
    text: str | None
    created_at: Moment


class ReportState(StrEnum):
    open = "open"
    upheld = "upheld"
    dismissed = "dismissed"


class ReportOnDesk(Report):
    """A report as moderators get it."""

    reporter_id: UserId
    state: ReportState
    settled_by: UserId | None
    settled_at: Moment | None


class ItemKind(StrEnum):
    """Why something waits: for its first look, because people reported it, because it looks like another one."""

    review = "review"
    reports = "reports"
    duplicate = "duplicate"


class Outcome(StrEnum):
    """How it came that something does not wait any more; gone: by itself, such as a listing that was withdrawn."""

    approved = "approved"
    rejected = "rejected"
    dismissed = "dismissed"
    confirmed = "confirmed"
    gone = "gone"


class ItemPath(Input):
    item_id: ItemId


class Item(Answer):
    """Something that waits. Who claimed it has it until `claimed_until`; after that it is free again."""

    id: ItemId
    kind: ItemKind
    listing_id: ListingId = Field(description="Of a duplicate the younger one")
    other_id: ListingId | None = Field(description="Of a duplicate the older one")
    listing_kind: ListingKind
    listing_title: str
    claimed_by: UserId | None
    claimed_until: Moment | None
    created_at: Moment


class QueuePage(CursorPage):
    kind: ItemKind | None = None


class Queue(Answer):
    """What waits, the oldest first; `position` is that of the channel `staff`."""

    position: StreamPosition
    items: list[Item]
    next: NextCursor


class ModeratedListing(Answer):
    """All that a moderator must see of a listing: at most a hundred reports, the newest first."""

    listing: AnyListing
    review_reason: str | None = Field(description="Why it was rejected")
    items: list[Item]
    reports: list[ReportOnDesk]


class Rejection(Input):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)] = Field(
        description="What the owner gets to read"
    )


class Listings(Input):
    listing_ids: Annotated[list[ListingId], Field(min_length=1, max_length=MOST_AT_ONCE)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.listing_ids)) < len(self.listing_ids):
            raise PydanticCustomError("twice", "Name each listing once")
        return self


class RejectedListings(Listings, Rejection):
    pass


class Decided(Answer):
    """What became of one of several: where `error` is null, what was asked for."""

    listing_id: ListingId
    error: str | None = Field(description="The code of the problem")
    detail: str | None = Field(description="What a person can do")


class Match(StrEnum):
    """Why two may be the same: the same unit or vehicle, pictures that look alike, the like in the same place."""

    unit = "unit"
    pictures = "pictures"
    alike = "alike"


class PairState(StrEnum):
    candidate = "candidate"
    confirmed = "confirmed"
    dismissed = "dismissed"


class Duplicate(Answer):
    """What may be the same as the listing that was asked about."""

    listing: AnyListing
    reasons: list[Match]
    score: float = Field(description="How likely, from 0 to 1")
    state: PairState
    found_at: Moment
    settled_by: UserId | None
    settled_at: Moment | None


class PairPath(Input):
    listing_id: ListingId
    other_id: ListingId


class Confirmation(Input):
    canonical_id: ListingId | None = Field(
        default=None, description="Which of the two the other one repeats; the older if none is named"
    )
