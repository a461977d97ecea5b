"""Rows of places."""

from __future__ import annotations

from k2k.features.places.models import Gazetted, Place, PlacesQuery
from k2k.infra.sql import Queries
from k2k.infra.transaction import Reader
from k2k.ops.registry import Json

_queries = Queries("places")
LIST_PLACES = _queries.json("list_places")
LIST_GAZETTEER = _queries.rows("list_gazetteer", Gazetted)


async def list_places(db: Reader, query: PlacesQuery) -> Json[list[Place]]:
    (body,) = await db.rows(LIST_PLACES, query.search, query.kind, query.country, query.limit)
    return Json(body)


async def list_gazetteer(db: Reader, country: str) -> list[Gazetted]:
    """All places of a country, by id."""
    return await db.rows(LIST_GAZETTEER, country)
