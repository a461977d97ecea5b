"""What can go wrong with agents and agencies."""

from k2k.core.errors import Conflict, NotFound


class AgentNotFound(NotFound):
    """There is no such agent, or the account is closed."""

    code = "agent-not-found"
    number = 1200
    title = "Agent not found"


class ProfileExists(Conflict):
    """A person has one agent profile; it can be changed."""

    code = "profile-exists"
    number = 1201
    title = "You already have an agent profile"


class LicenseTaken(Conflict):
    """A license belongs to one agent or one agency. Check the number; if it is right, ask us."""

    code = "license-taken"
    number = 1202
    title = "Somebody else already gave this license"


class AgencyNotFound(NotFound):
    """There is no such agency."""

    code = "agency-not-found"
    number = 1203
    title = "Agency not found"


class AlreadyInAgency(Conflict):
    """An agent works for one agency at a time."""

    code = "already-in-agency"
    number = 1204
    title = "You already belong to an agency"


class AgencyNeedsOwner(Conflict):
    """Its owner cannot be taken out of an agency."""

    code = "agency-needs-owner"
    number = 1205
    title = "The owner of an agency cannot leave it"
