"""What happens to listings, for those who look at one just now and for their owners."""

from typing import ClassVar, Literal

from k2k.core.ids import ListingId
from k2k.core.money import Currency, Price
from k2k.features.listings.models import ListingStatus
from k2k.infra.streams import Event
from k2k.ops.validation import Moment


class ListingPriceChanged(Event):
    """The price or its currency is another one."""

    type: ClassVar[str] = "listing.price_changed"
    to = ("listing",)
    listing_id: ListingId
    price: Price
    currency: Currency
    previous_price: Price
    previous_currency: Currency


class ListingStatusChanged(Event):
    """The listing is in another state. Where it is no longer public, `access.lost` follows."""

    type: ClassVar[str] = "listing.status_changed"
    to = ("listing",)
    listing_id: ListingId
    status: ListingStatus | Literal["deleted"]


class ListingExpiring(Event):
    """The time of one's listing ends soon. Renew it, or let it go."""

    type: ClassVar[str] = "listing.expiring"
    to = ("user",)
    listing_id: ListingId
    expires_at: Moment


class ListingExpired(Event):
    """The time of one's listing has ended, and it is not public any more. It can be renewed."""

    type: ClassVar[str] = "listing.expired"
    to = ("user",)
    listing_id: ListingId


class ListingApproved(Event):
    """To its owner: somebody has looked at the listing, and it is public from now on."""

    type: ClassVar[str] = "listing.approved"
    to = ("user",)
    listing_id: ListingId


class ListingRejected(Event):
    """To its owner: the listing is not public, or not any more. `listing.mine` has the reason."""

    type: ClassVar[str] = "listing.rejected"
    to = ("user",)
    listing_id: ListingId
