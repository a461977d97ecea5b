"""What can go wrong with listings."""

from k2k.core.errors import Conflict, Limited, NotFound


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


class VehicleNotFound(NotFound):
    """There is no such vehicle, or none that this person may see."""

    code = "vehicle-not-found"
    number = 1302
    title = "Vehicle not found"


NOT_FOUND = (PropertyNotFound, VehicleNotFound, ListingNotFound)
"""What the doors say of a listing that is not there for somebody."""


class StatusNotPossible(Conflict):
    """From where the listing stands this person cannot take it there. Fetch it to see where it stands."""

    code = "status-not-possible"
    number = 1303
    title = "The listing cannot go there from where it stands"


class UnitOnOffer(Conflict):
    """The same unit or vehicle is on offer already, by the same agency or owner: change or close that listing."""

    code = "unit-on-offer"
    number = 1304
    title = "This very unit is on offer already"


class PostedJustNow(Limited):
    """Between two new listings of one person some seconds pass."""

    code = "posted-just-now"
    number = 1305
    title = "You have posted something just now"


class ImageNotFound(NotFound):
    """The listing has no such picture."""

    code = "image-not-found"
    number = 1315
    title = "Image not found"


class TooManyImages(Conflict):
    """A listing has at most so many pictures: take some away first."""

    code = "too-many-images"
    number = 1316
    title = "The listing has as many images as it may have"


class NoRenewalLeft(Conflict):
    """It was renewed as often as that is possible: offer it anew."""

    code = "no-renewal-left"
    number = 1306
    title = "This listing cannot be renewed any more"
