"""The life of a listing: the one table of who may move it from where to where."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from k2k.features.listings.models import ListingStatus as Status


class Mover(Enum):
    """Who moves it."""

    owner = auto()
    reviewer = auto()
    clock = auto()
    """Time itself, by way of a job."""


_ON_THE_MARKET = frozenset({Status.active, Status.under_offer, Status.reserved})
_OPEN = _ON_THE_MARKET | {Status.coming_soon, Status.paused}
_NOT_YET = frozenset({Status.draft, Status.rejected})

MOVES: Mapping[Mover, Mapping[Status, frozenset[Status]]] = {
    # To each status: from which ones.
    Mover.owner: {
        Status.draft: frozenset({Status.pending_review, Status.rejected}),
        Status.pending_review: _NOT_YET | {Status.coming_soon, Status.paused, Status.withdrawn},
        Status.coming_soon: frozenset({Status.draft}),
        Status.active: _OPEN | {Status.draft, Status.withdrawn},
        Status.under_offer: _ON_THE_MARKET,
        Status.reserved: _ON_THE_MARKET,
        Status.paused: _OPEN,
        Status.withdrawn: _OPEN | {Status.pending_review, Status.expired},
        Status.cancelled: _OPEN | _NOT_YET | {Status.pending_review, Status.withdrawn, Status.expired},
        Status.sold: _OPEN | {Status.expired},
        Status.rented: _OPEN | {Status.expired},
        Status.leased: _OPEN | {Status.expired},
    },
    Mover.reviewer: {
        Status.active: frozenset({Status.pending_review, Status.rejected}),
        # Also what its owner could put back by themselves.
        Status.rejected: _OPEN | {Status.pending_review, Status.withdrawn, Status.expired},
    },
    Mover.clock: {
        Status.expired: frozenset({Status.active}),
    },
}
_PUBLIC_FIRST = frozenset({Status.active, Status.coming_soon})
CLOSED = frozenset({Status.sold, Status.rented, Status.leased})
"""Done with: the deal is made."""


def may_come_from(mover: Mover, status: Status, *, review: bool) -> frozenset[Status]:
    """From where this mover may take a listing to `status`, besides from there itself; empty: never.

    With `review` nobody but a reviewer takes to the public what was never there.
    """
    found = MOVES[mover].get(status, frozenset())
    return found - {Status.draft} if review and mover is Mover.owner and status in _PUBLIC_FIRST else found


def first(status: Status, *, review: bool) -> Status:
    """Where a new listing stands that its owner wants to be at `status`."""
    return Status.pending_review if review and status in _PUBLIC_FIRST else status
