"""What can go wrong with leads."""

from k2k.core.errors import Conflict, NotFound


class LeadNotFound(NotFound):
    """There is no such lead, or it does not concern the one who asks."""

    code = "lead-not-found"
    number = 1400
    title = "Lead not found"


class LeadTaken(Conflict):
    """Another agent was first."""

    code = "lead-taken"
    number = 1401
    title = "Another agent has claimed this lead"
