"""What can go wrong with looking after the market."""

from k2k.core.errors import Conflict, NotFound


class ItemNotFound(NotFound):
    """There is no such item in the queue, or it is done."""

    code = "moderation-item-not-found"
    number = 1900
    title = "This does not wait for a moderator, or not any more"


class ItemTaken(Conflict):
    """Another moderator is at it; the claim runs out by itself."""

    code = "moderation-item-taken"
    number = 1901
    title = "Another moderator is at it"


class DuplicateNotFound(NotFound):
    """These two were never found to be alike."""

    code = "duplicate-not-found"
    number = 1902
    title = "These two are no candidates"


class DuplicateConfirmed(Conflict):
    """The two are linked already."""

    code = "duplicate-confirmed"
    number = 1903
    title = "It was decided that these two are the same"
