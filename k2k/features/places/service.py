"""What other features ask of the gazetteer."""

from __future__ import annotations

from k2k.features.places import store
from k2k.features.places.models import Gazetted
from k2k.infra.transaction import Reader


async def gazetteer(db: Reader, country: str) -> list[Gazetted]:
    """All places of a country (ISO 3166-1 alpha-2) with all their names, by id."""
    return await store.list_gazetteer(db, country)
