"""What happens in the moderators' queue."""

from typing import ClassVar

from k2k.core.ids import ItemId, ListingId, UserId
from k2k.features.moderation.models import ItemKind, Outcome
from k2k.infra.streams import Event
from k2k.ops.validation import Moment


class ItemAdded(Event):
    """Something waits for a moderator. `moderation.item` has the rest of it."""

    type: ClassVar[str] = "moderation.item_added"
    to = ("staff",)
    item_id: ItemId
    kind: ItemKind
    listing_id: ListingId


class ItemClaimed(Event):
    """A moderator is at it, for the time being."""

    type: ClassVar[str] = "moderation.item_claimed"
    to = ("staff",)
    item_id: ItemId
    listing_id: ListingId
    claimed_by: UserId
    claimed_until: Moment


class ItemDone(Event):
    """It does not wait any more. `done_by` is null where nobody decided."""

    type: ClassVar[str] = "moderation.item_done"
    to = ("staff",)
    item_id: ItemId
    kind: ItemKind
    listing_id: ListingId
    outcome: Outcome
    done_by: UserId | None
