"""What can go wrong with brands."""

from k2k.core.errors import NotFound


class BrandNotFound(NotFound):
    """No make of vehicles is known by that name. It can be offered all the same: a listing keeps what is written."""

    code = "brand-not-found"
    number = 1800
    title = "Brand not found"
