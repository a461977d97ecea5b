"""Brands: makes of vehicles and their models, as listings have them."""

from __future__ import annotations

from k2k.features.brands import store
from k2k.features.brands.errors import BrandNotFound
from k2k.features.brands.models import Brand, BrandPath, Model
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Routes

routes = Routes("brands")


@routes.get("/vehicles/brands", may=Permission.read_market, rpc="brand.list")
async def list_brands(call: Call) -> Json[list[Brand]]:
    """All known makes of vehicles, by name."""
    return await store.list_brands(call.db)


@routes.get("/vehicles/brands/{brand}/models", may=Permission.read_market, rpc="brand.models", raises=(BrandNotFound,))
async def list_models(call: Call, path: BrandPath) -> Json[list[Model]]:
    """The known models of a make, by name, each with its body."""
    found = await store.find_models(call.db, path.brand)
    if found is None:
        raise BrandNotFound
    return found
