"""What can go wrong with listings."""

from k2k.core.errors import NotFound


class PropertyNotFound(NotFound):
    """There is no such property, or none that this person may see."""

    code = "property-not-found"
    number = 1300
    title = "Property not found"


class ListingNotFound(NotFound):
    """There is no such listing, of whatever kind."""

    code = "listing-not-found"
    number = 1301
    title = "Listing not found"
