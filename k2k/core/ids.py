"""The types of ids. All are UUIDv7 made by PostgreSQL: unique without asking, and sorted by birth."""

from typing import NewType
from uuid import UUID

UserId = NewType("UserId", UUID)
SignInId = NewType("SignInId", UUID)
AgencyId = NewType("AgencyId", UUID)
AgentId = NewType("AgentId", UUID)
ListingId = NewType("ListingId", UUID)
MediaId = NewType("MediaId", UUID)
ImageId = NewType("ImageId", UUID)
ImportId = NewType("ImportId", UUID)
LeadId = NewType("LeadId", UUID)
ConversationId = NewType("ConversationId", UUID)
MessageId = NewType("MessageId", UUID)
ReportId = NewType("ReportId", UUID)
ItemId = NewType("ItemId", UUID)

Channel = NewType("Channel", str)
"""The address of a stream or of ephemeral news, such as `user:0198…`."""


STAFF = Channel("staff")
"""The channel of those who look after the market."""


def user_channel(user_id: UserId) -> Channel:
    """The channel of everything one person must not miss."""
    return Channel(f"user:{user_id}")


def listing_channel(listing_id: ListingId) -> Channel:
    """The channel of what happens to a listing while it is public."""
    return Channel(f"listing:{listing_id}")


def agency_channel(agency_id: AgencyId) -> Channel:
    """The channel of what an agency's owner and managers follow."""
    return Channel(f"agency:{agency_id}")
