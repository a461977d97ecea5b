"""Rows of brands and models."""

from __future__ import annotations

from k2k.features.brands.models import Brand, Model
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader
from k2k.ops.registry import Json

_queries = Queries("brands")
LIST_BRANDS = _queries.json("list_brands")
LIST_MODELS = _queries.json("list_models")


async def list_brands(db: Reader) -> Json[list[Brand]]:
    (body,) = await db.rows(LIST_BRANDS)
    return Json(body)


async def find_models(db: Reader, brand: str) -> Json[list[Model]] | None:
    """The models of a make by any of its names; None if nobody knows it."""
    body = await db.find(LIST_MODELS, brand)
    return Json(body) if body is not None else None
