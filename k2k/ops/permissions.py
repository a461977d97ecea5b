"""Who may do what: one table from roles to permissions. Operations name the permission, never a role.

What depends on the object (is this lead offered to you?) is decided by the service; this table only says which kinds
of people may try.
"""

from __future__ import annotations

from enum import StrEnum, auto


class Role(StrEnum):
    anonymous = auto()
    buyer = auto()
    seller = auto()
    agent = auto()
    admin = auto()


class Permission(StrEnum):
    sign_in = auto()
    """Register, sign in, refresh: whatever token comes along is not looked at."""
    read_market = auto()
    own_account = auto()
    offer_listings = auto()
    enquire = auto()
    chat = auto()
    be_agent = auto()
    claim_leads = auto()
    moderate = auto()


_ANYONE = frozenset({Permission.sign_in, Permission.read_market})
_SIGNED_IN = _ANYONE | {Permission.own_account, Permission.enquire, Permission.chat}
_SELLING = _SIGNED_IN | {Permission.offer_listings, Permission.claim_leads}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.anonymous: _ANYONE,
    Role.buyer: _SIGNED_IN,
    Role.seller: _SELLING,
    Role.agent: _SELLING | {Permission.be_agent},
    Role.admin: frozenset(Permission),
}
