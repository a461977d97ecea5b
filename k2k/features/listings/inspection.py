"""The job of looking at a listing that is another than it was. Whoever looks after the market does it."""

from typing import ClassVar

from k2k.core.ids import ListingId
from k2k.infra.jobs.job import Job


class InspectListing(Job):
    """Find out whether anything about this listing, as it is now, is for a moderator to decide."""

    name: ClassVar[str] = "listing.inspect"
    at_once: ClassVar[int] = 4  # an import brings thousands, and requests want connections too
    listing_id: ListingId
