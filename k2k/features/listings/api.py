"""Properties: the market for everyone, and offering something on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from k2k.features.accounts.models import Notice
from k2k.features.listings import service, store
from k2k.features.listings.errors import PropertyNotFound
from k2k.features.listings.models import (
    ListingPath,
    MapPath,
    Property,
    PropertyChange,
    PropertyDraft,
    PropertyPath,
)
from k2k.infra.transaction import Reader
from k2k.ops.call import Call
from k2k.ops.channels import Asked, Presence
from k2k.ops.paging import PAGED, Page
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Reply, Routes
from k2k.web.routes import PREFIX

routes = Routes("properties")


@routes.get("/properties", may=Permission.read_market, headers=PAGED)
async def list_properties(call: Call, query: Page) -> Reply[Json[list[Property]]]:
    """All active properties, newest first. X-Total-Count says how many there are, Link where the next part is."""
    found = await store.list_properties(call.db, query)
    return Reply(Json(found.body), query.headers(f"{PREFIX}/properties", found.total))


@routes.get("/properties/{property_id}", may=Permission.read_market, rpc="property.get", raises=(PropertyNotFound,))
async def get_property(call: Call, path: PropertyPath) -> Json[Property]:
    """One property: active ones for everyone, others for their owner and the agents of their agency."""
    return await service.get_property(call.db, path.property_id, call.principal.id if call.principal else None)


@routes.post("/properties", may=Permission.offer_listings, status=201, rpc="property.publish", headers=("Location",))
async def publish_property(call: Call, body: PropertyDraft) -> Reply[Json[Property]]:
    """Offer a property. It is public at once."""
    async with call.transaction() as tx:
        listing, published = await service.publish_property(tx, call.user.id, body, call.now)
    return Reply(published, {"Location": f"{PREFIX}/properties/{listing}"})


@routes.put("/properties/{property_id}", may=Permission.offer_listings, raises=(PropertyNotFound,))
async def change_property(call: Call, path: PropertyPath, body: PropertyChange) -> Json[Property]:
    """Change one's own property: only what is sent, null clears."""
    async with call.transaction() as tx:
        return await service.change_property(tx, path.property_id, call.user.id, body, call.now)


@routes.delete("/properties/{property_id}", may=Permission.offer_listings, raises=(PropertyNotFound,))
async def delete_property(call: Call, path: PropertyPath) -> Notice:
    """Take one's own property off the market for good."""
    async with call.transaction() as tx:
        await service.delete_property(tx, path.property_id, call.user.id, call.now)
    return Notice(message="Property deleted successfully")


@routes.channel("listing:{listing_id}", may=Permission.read_market, kept=timedelta(days=1), presence=Presence.count)
async def follow_listing(db: Reader, asked: Sequence[Asked[ListingPath]]) -> list[bool]:
    """What happens to a listing while it is public, for whoever looks at it."""
    return await store.are_public(db, [one.path.listing_id for one in asked])


@routes.channel("map:{zoom}/{x}/{y}", may=Permission.read_market, kept=timedelta(minutes=10), at_once=16)
async def follow_map(db: Reader, asked: Sequence[Asked[MapPath]]) -> list[bool]:
    """What happens on one tile of the map (web mercator, zoom 12 only)."""
    return [True for _ in asked]
