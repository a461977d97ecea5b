"""Places: where people look, by whatever name they have for it."""

from __future__ import annotations

from k2k.features.places import store
from k2k.features.places.models import Place, PlacesQuery
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Routes

routes = Routes("places")


@routes.get("/places", may=Permission.read_market, rpc="place.list")
async def list_places(call: Call, query: PlacesQuery) -> Json[list[Place]]:
    """Cities, sub-cities and neighbourhoods, the likeliest first. What is found by one of its names is found by all."""
    return await store.list_places(call.db, query)
