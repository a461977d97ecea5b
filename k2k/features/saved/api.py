"""What people keep for later."""

from __future__ import annotations

from k2k.core.settings import MediaSettings
from k2k.features.listings.errors import NOT_FOUND
from k2k.features.listings.kinds import AnyListing
from k2k.features.listings.models import Collection, CollectionPath
from k2k.features.saved import service, store
from k2k.features.saved.models import Saved
from k2k.ops.call import Call
from k2k.ops.paging import PAGED, Page
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Reply, Routes
from k2k.web.routes import PREFIX

routes = Routes("saved")


@routes.post(
    "/{collection}/{listing_id}/save",
    may=Permission.own_account,
    rpc="listing.save",
    raises=NOT_FOUND,
    repeats=Repeats.freely,
    over=Collection,
)
async def save_listing(call: Call, path: CollectionPath) -> Saved:
    """Keep it for later. Once more changes nothing."""
    async with call.transaction() as tx:
        return await service.save(tx, call.user.id, path.collection, path.listing_id, call.now)


@routes.delete(
    "/{collection}/{listing_id}/save",
    may=Permission.own_account,
    rpc="listing.unsave",
    raises=NOT_FOUND,
    repeats=Repeats.freely,
    over=Collection,
)
async def unsave_listing(call: Call, path: CollectionPath) -> Saved:
    """Keep it no longer. Once more changes nothing."""
    async with call.transaction() as tx:
        return await service.unsave(tx, call.user.id, path.collection, path.listing_id, call.now)


@routes.get("/users/me/saved", may=Permission.own_account, headers=PAGED)
async def list_saved(call: Call, query: Page) -> Reply[Json[list[AnyListing]]]:
    """What one keeps, the newest first, as long as it is or was on the market."""
    found = await store.list_saved(call.db, call.user.id, query, call.use(MediaSettings).host)
    return Reply(Json(found.body), query.headers(f"{PREFIX}/users/me/saved", found.total))
