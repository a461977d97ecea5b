"""What is offered: the market for everyone, and offering something on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import JsonValue, TypeAdapter
from pydantic_core import to_json

from k2k.core.ids import ListingId
from k2k.core.settings import ListingSettings, MediaSettings
from k2k.features.accounts.models import Notice, UserPath
from k2k.features.listings import service, store
from k2k.features.listings.errors import (
    NOT_FOUND,
    ListingNotFound,
    NoRenewalLeft,
    PostedJustNow,
    PropertyNotFound,
    StatusNotPossible,
    UnitOnOffer,
    VehicleNotFound,
)
from k2k.features.listings.jsonld import json_ld, within_page
from k2k.features.listings.kinds import (
    AnyChange,
    AnyDraft,
    AnyListing,
    ListingPage,
    OfferDraft,
    OwnListings,
    OwnPage,
    Property,
    PropertyChange,
    PropertyDraft,
    PropertyPage,
    Vehicle,
    VehicleChange,
    VehicleDraft,
    VehiclePage,
)
from k2k.features.listings.models import (
    AskedPrice,
    Collection,
    CollectionPath,
    CollectionsPath,
    Few,
    HistoryEntry,
    ListingChange,
    ListingPath,
    Look,
    MapPath,
    Reading,
    Viewed,
)
from k2k.features.listings.store import TextRow
from k2k.infra.limits import Limits, Rate
from k2k.infra.transaction import Reader
from k2k.ops.call import Call
from k2k.ops.channels import Asked, Presence
from k2k.ops.limits import network_of
from k2k.ops.paging import PAGED, Birth, Cursors, Page
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Reply, Routes
from k2k.ops.versions import IfMatch, VersionMismatch, tag
from k2k.web.routes import PREFIX

routes = Routes("listings")
LISTING: TypeAdapter[AnyListing] = TypeAdapter(AnyListing)
ONCE_AN_HOUR = Rate(1, 3600)
CHANGING = (VersionMismatch, StatusNotPossible, UnitOnOffer)


@routes.get("/properties", may=Permission.read_market, headers=PAGED)
async def list_properties(call: Call, query: PropertyPage) -> Reply[Json[list[Property]]]:
    """All active properties, newest first. X-Total-Count says how many there are, Link where the next part is."""
    return await _listed(call, Collection.properties, query)


@routes.get("/vehicles", may=Permission.read_market, headers=PAGED)
async def list_vehicles(call: Call, query: VehiclePage) -> Reply[Json[list[Vehicle]]]:
    """All active vehicles, newest first. X-Total-Count says how many there are, Link where the next part is."""
    return await _listed(call, Collection.vehicles, query)


@routes.get("/listings", may=Permission.read_market, headers=PAGED)
async def list_listings(call: Call, query: ListingPage) -> Reply[Json[list[AnyListing]]]:
    """Everything active, newest first. X-Total-Count says how many there are, Link where the next part is."""
    return await _listed(call, Collection.listings, query)


@routes.get("/users/{user_id}/properties", may=Permission.read_market, headers=PAGED)
async def list_properties_of_user(call: Call, path: UserPath, query: Page) -> Reply[Json[list[Property]]]:
    """The active properties of one person, newest first."""
    page = PropertyPage(skip=query.skip, limit=query.limit)
    found = await store.list_listings(call.db, Collection.properties, page, _reading(call), path.user_id)
    return Reply(Json(found.body), query.headers(f"{PREFIX}/users/{path.user_id}/properties", found.total))


@routes.get("/users/me/listings", may=Permission.own_account, rpc="listing.mine")
async def list_my_listings(call: Call, query: OwnPage) -> Json[OwnListings]:
    """All that I offer, whatever its status, the newest first; what was rejected comes with the reason."""
    cursors, list_ = call.use(Cursors), f"my_listings {call.user.id} {query.status}"
    after = cursors.open(list_, query.cursor, Birth)
    host = call.use(MediaSettings).host
    found = await store.my_listings(call.db, call.user.id, query.status, query.limit, after, host)
    return Json(b'{"items":%s,"next":%s}' % (found.items, to_json(cursors.seal(list_, found.last))))


@routes.get("/{collection}/featured", may=Permission.read_market, over=Collection)
async def list_featured(call: Call, path: CollectionsPath, query: Few) -> Json[list[AnyListing]]:
    """What is put forward, newest first."""
    return Json(await store.featured_listings(call.db, path.collection, query.limit, _reading(call)))


@routes.get("/{collection}/trending", may=Permission.read_market, over=Collection)
async def list_trending(call: Call, path: CollectionsPath, query: Few) -> Json[list[AnyListing]]:
    """What people look at, save and ask about most, of late."""
    return Json(await store.trending_listings(call.db, path.collection, query.limit, _reading(call)))


@routes.get("/{collection}/{listing_id}/similar", may=Permission.read_market, over=Collection, raises=NOT_FOUND)
async def list_similar(call: Call, path: CollectionPath, query: Few) -> Json[list[AnyListing]]:
    """What somebody who looks at this one may also want to see, the most alike first."""
    return Json(await service.similar_listings(call.db, path.collection, path.listing_id, query.limit, _reading(call)))


@routes.get("/properties/{listing_id}", may=Permission.read_market, rpc="property.get", raises=(PropertyNotFound,))
async def get_property(call: Call, path: ListingPath) -> Reply[Json[Property]]:
    """One property: active ones for everyone, others for their owner and the agents of their agency."""
    return await _got(call, Collection.properties, path.listing_id)


@routes.get("/vehicles/{listing_id}", may=Permission.read_market, rpc="vehicle.get", raises=(VehicleNotFound,))
async def get_vehicle(call: Call, path: ListingPath) -> Reply[Json[Vehicle]]:
    """One vehicle: active ones for everyone, others for their owner and the agents of their agency."""
    return await _got(call, Collection.vehicles, path.listing_id)


@routes.get("/listings/{listing_id}", may=Permission.read_market, rpc="listing.get", raises=(ListingNotFound,))
async def get_listing(call: Call, path: ListingPath) -> Reply[Json[AnyListing]]:
    """One listing of whatever kind: active ones for everyone, others for their owner and the agents of their agency."""
    return await _got(call, Collection.listings, path.listing_id)


@routes.post(
    "/properties",
    may=Permission.offer_listings,
    status=201,
    rpc="property.publish",
    raises=(PostedJustNow, UnitOnOffer),
    headers=("Location",),
)
async def publish_property(call: Call, body: PropertyDraft) -> Reply[Json[Property]]:
    """Offer a property. It is public at once, unless it is a draft or offers are reviewed."""
    return await _published(call, Collection.properties, body)


@routes.post(
    "/vehicles",
    may=Permission.offer_listings,
    status=201,
    rpc="vehicle.publish",
    raises=(PostedJustNow, UnitOnOffer),
    headers=("Location",),
)
async def publish_vehicle(call: Call, body: VehicleDraft) -> Reply[Json[Vehicle]]:
    """Offer a vehicle. It is public at once, unless it is a draft or offers are reviewed."""
    return await _published(call, Collection.vehicles, body)


@routes.post(
    "/listings",
    may=Permission.offer_listings,
    status=201,
    rpc="listing.publish",
    raises=(PostedJustNow, UnitOnOffer),
    headers=("Location",),
)
async def publish_listing(call: Call, body: OfferDraft) -> Reply[Json[AnyListing]]:
    """Offer something of the kind that is named. It is public at once, unless it is a draft or offers are reviewed."""
    return await _published(call, Collection.listings, body.draft())


@routes.put(
    "/properties/{listing_id}", may=Permission.offer_listings, raises=(PropertyNotFound, *CHANGING), headers=("ETag",)
)
async def change_property(call: Call, path: ListingPath, head: IfMatch, body: PropertyChange) -> Reply[Json[Property]]:
    """Change one's own property: only what is sent, null clears."""
    return await _changed(call, Collection.properties, path.listing_id, head, body)


@routes.put(
    "/vehicles/{listing_id}", may=Permission.offer_listings, raises=(VehicleNotFound, *CHANGING), headers=("ETag",)
)
async def change_vehicle(call: Call, path: ListingPath, head: IfMatch, body: VehicleChange) -> Reply[Json[Vehicle]]:
    """Change one's own vehicle: only what is sent, null clears."""
    return await _changed(call, Collection.vehicles, path.listing_id, head, body)


@routes.put(
    "/listings/{listing_id}", may=Permission.offer_listings, raises=(ListingNotFound, *CHANGING), headers=("ETag",)
)
async def change_listing(call: Call, path: ListingPath, head: IfMatch, body: ListingChange) -> Reply[Json[AnyListing]]:
    """Change what all listings have of one's own listing: only what is sent, null clears."""
    return await _changed(call, Collection.listings, path.listing_id, head, body)


@routes.delete("/properties/{listing_id}", may=Permission.offer_listings, raises=(PropertyNotFound, VersionMismatch))
async def delete_property(call: Call, path: ListingPath, head: IfMatch) -> Notice:
    """Take one's own property off the market for good."""
    return await _deleted(call, Collection.properties, path.listing_id, head, "Property")


@routes.delete("/vehicles/{listing_id}", may=Permission.offer_listings, raises=(VehicleNotFound, VersionMismatch))
async def delete_vehicle(call: Call, path: ListingPath, head: IfMatch) -> Notice:
    """Take one's own vehicle off the market for good."""
    return await _deleted(call, Collection.vehicles, path.listing_id, head, "Vehicle")


@routes.delete("/listings/{listing_id}", may=Permission.offer_listings, raises=(ListingNotFound, VersionMismatch))
async def delete_listing(call: Call, path: ListingPath, head: IfMatch) -> Notice:
    """Take one's own listing of whatever kind off the market for good."""
    return await _deleted(call, Collection.listings, path.listing_id, head, "Listing")


@routes.post(
    "/{collection}/{listing_id}/view",
    may=Permission.read_market,
    rpc="listing.view",
    raises=NOT_FOUND,
    repeats=Repeats.freely,
    over=Collection,
)
async def view_listing(call: Call, path: CollectionPath) -> Viewed:
    """Tell that somebody looks at it. Each viewer counts once an hour, however often they come."""
    viewer = call.principal.id if call.principal else network_of(call.address)
    if (await call.use(Limits).take(f"view:{path.listing_id}:{viewer}", ONCE_AN_HOUR)).granted:
        look = Look(path.listing_id, path.collection, call.now)
        return Viewed(view_count=await call.together(service.count_views, look))
    return Viewed(view_count=await service.view_count(call.db, path.collection, path.listing_id))


@routes.post(
    "/{collection}/{listing_id}/renew",
    may=Permission.offer_listings,
    rpc="listing.renew",
    raises=(*NOT_FOUND, StatusNotPossible, NoRenewalLeft, UnitOnOffer),
    over=Collection,
    headers=("ETag",),
)
async def renew_listing(call: Call, path: CollectionPath) -> Reply[Json[AnyListing]]:
    """Have one's own listing public for its whole time again, from now. That can be done a few times."""
    async with call.transaction() as tx:
        settings = call.use(ListingSettings)
        await service.renew(tx, path.collection, path.listing_id, call.user.id, settings, call.now)
        found = await store.own_listing(tx, path.listing_id, call.use(MediaSettings).host)
    return _shown(found)


@routes.get(
    "/listings/{listing_id}/history", may=Permission.offer_listings, rpc="listing.history", raises=(ListingNotFound,)
)
async def list_history(call: Call, path: ListingPath, query: Page) -> Json[list[HistoryEntry]]:
    """Every field that ever changed, newest first, for the owner and the agents of the agency."""
    await service.get_own(call.db, path.listing_id, call.user.id)
    return Json(await store.list_history(call.db, path.listing_id, call.user.id, query))


@routes.get(
    "/listings/{listing_id}/prices", may=Permission.read_market, rpc="listing.prices", raises=(ListingNotFound,)
)
async def list_prices(call: Call, path: ListingPath) -> Json[list[AskedPrice]]:
    """What was asked for it, from the first price to today's."""
    await service.get_listing(call.db, Collection.listings, path.listing_id, _reading(call))
    return Json(await store.price_history(call.db, path.listing_id))


@routes.get("/{collection}/{listing_id}/jsonld", may=Permission.read_market, raises=NOT_FOUND, over=Collection)
async def describe_listing(call: Call, path: CollectionPath) -> Json[dict[str, JsonValue]]:
    """One listing in the words of schema.org, as JSON-LD to put into a page for search engines, just as it is."""
    found = await service.get_listing(call.db, path.collection, path.listing_id, _reading(call))
    return Json(within_page(json_ld(LISTING.validate_json(found.body))))


def _reading(call: Call) -> Reading:
    return Reading(call.principal.id if call.principal else None, call.use(MediaSettings).host)


def _shown(found: TextRow) -> Reply[Json[Any]]:
    return Reply(Json(found.body), {"ETag": tag(found.version, found.body)})


async def _listed(call: Call, collection: Collection, page: ListingPage) -> Reply[Json[Any]]:
    found = await store.list_listings(call.db, collection, page, _reading(call))
    return Reply(Json(found.body), page.headers(f"{PREFIX}/{collection}", found.total))


async def _got(call: Call, collection: Collection, listing: ListingId) -> Reply[Json[Any]]:
    return _shown(await service.get_listing(call.db, collection, listing, _reading(call)))


async def _published(call: Call, collection: Collection, draft: AnyDraft) -> Reply[Json[Any]]:
    async with call.transaction() as tx:
        listing = await service.publish(tx, call.user.id, draft, call.use(ListingSettings), call.now)
        found = await store.own_listing(tx, listing, call.use(MediaSettings).host)
    return Reply(Json(found.body), {"Location": f"{PREFIX}/{collection}/{listing}"})


async def _changed(
    call: Call, collection: Collection, listing: ListingId, head: IfMatch, change: AnyChange
) -> Reply[Json[Any]]:
    settings = call.use(ListingSettings)
    async with call.transaction() as tx:
        await service.change(tx, collection, listing, call.user.id, change, head.if_match, settings, call.now)
        found = await store.own_listing(tx, listing, call.use(MediaSettings).host)
    return _shown(found)


async def _deleted(call: Call, collection: Collection, listing: ListingId, head: IfMatch, word: str) -> Notice:
    async with call.transaction() as tx:
        await service.delete(tx, collection, listing, call.user.id, head.if_match, call.now)
    return Notice(message=f"{word} deleted successfully")


@routes.channel("listing:{listing_id}", may=Permission.read_market, kept=timedelta(days=1), presence=Presence.count)
async def follow_listing(db: Reader, asked: Sequence[Asked[ListingPath]]) -> list[bool]:
    """What happens to a listing while it is public, for whoever looks at it."""
    return await store.are_public(db, [one.path.listing_id for one in asked])


@routes.channel("map:{zoom}/{x}/{y}", may=Permission.read_market, kept=timedelta(minutes=10), at_once=16)
async def follow_map(db: Reader, asked: Sequence[Asked[MapPath]]) -> list[bool]:
    """What happens on one tile of the map (web mercator, zoom 12 only)."""
    return [True for _ in asked]
