"""Made-up markets: the same for the same number, whole, and like the market that they stand for."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from math import log
from pathlib import Path
from statistics import linear_regression, mean
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from PIL import Image
from pydantic import SecretStr

from k2k.core.clock import Clock
from k2k.core.settings import Settings
from k2k.features.places.service import gazetteer
from k2k.infra import migrations
from k2k.infra.db import Db
from k2k.infra.storage.directory import Directory
from k2k.infra.storage.signing import Signer
from k2k.seed.block import make
from k2k.seed.cars import CARS
from k2k.seed.chance import uuid7
from k2k.seed.load import load
from k2k.seed.market import Market
from k2k.seed.worth import MESKEL_SQUARE, kilometres
from tests.conftest import TEMPLATE
from tests.support import ROOT, Node

LISTINGS, BLOCK = 3_000, 2_000
UNTIL = datetime(2026, 11, 22, tzinfo=UTC)


class Made:
    """A database with a market in it."""

    def __init__(self, url: str, connection: asyncpg.Connection[asyncpg.Record], files: Path, told: list[int]) -> None:
        self.url = url
        self.files = files
        self.told = told
        self._connection = connection

    async def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self._connection.fetch(sql, *arguments)]

    async def one(self, sql: str, *arguments: Any) -> Any:
        return await self._connection.fetchval(sql, *arguments)


async def market_in(settings: Settings, url: str, seed: int) -> Market:
    db = await Db.open(settings.database.model_copy(update={"url": SecretStr(url)}), Clock())
    places = tuple(await gazetteer(db, "ET"))
    await db.close()
    return Market(LISTINGS, seed, UNTIL, places, "no password", BLOCK)


def storage_in(files: Path) -> Directory:
    return Directory(files, Signer([secrets.token_urlsafe(32)]), Clock())


async def filled(servers: tuple[str, str], settings: Settings, name: str, files: Path, processes: int) -> Made:
    url = await migrations.ensure_database(servers[0], name, template=TEMPLATE)
    told: list[int] = []
    market = await market_in(settings, url, 7)
    await load(url, market, storage_in(files), processes=processes, told=told.append)
    return Made(url, await asyncpg.connect(url), files, told)


@pytest.fixture(scope="module")
async def made(
    servers: tuple[str, str], settings: Settings, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Made]:
    made = await filled(servers, settings, f"k2k_made_{worker}", tmp_path_factory.mktemp("made"), processes=2)
    yield made
    await made._connection.close()


TABLES = {
    "users": "id", "agencies": "id", "agent_profiles": "id", "listings": "id", "properties": "id", "vehicles": "id",
    "media": "id", "images": "id", "listing_stats": "id", "listing_texts": "id",
    "saved_listings": "user_id, listing_id",
}  # fmt: skip


async def contents(made: Made) -> dict[str, str]:
    """A hash of all rows of each table."""
    return {
        table: await made.one(f"select md5(string_agg({table}::text, '/' order by {key})) from {table}")  # noqa: S608
        for table, key in TABLES.items()
    }


async def test_the_same_number_makes_the_same_rows(
    made: Made, servers: tuple[str, str], settings: Settings, worker: str, tmp_path: Path
) -> None:
    """However many processes make them."""
    again = await filled(servers, settings, f"k2k_again_{worker}", tmp_path, processes=1)
    assert await contents(again) == await contents(made)
    await again._connection.close()
    assert made.told[-1] == again.told[-1] == LISTINGS
    assert len(made.told) == 2


async def test_what_is_stopped_leaves_whole_listings(
    servers: tuple[str, str], settings: Settings, worker: str, tmp_path: Path
) -> None:
    url = await migrations.ensure_database(servers[0], f"k2k_stopped_{worker}", template=TEMPLATE)

    def stop(_stored: int) -> None:
        raise InterruptedError

    market = replace(await market_in(settings, url, 7), listings=300, block=100)
    with pytest.raises(InterruptedError):
        await load(url, market, storage_in(tmp_path), processes=1, told=stop)
    stopped = Made(url, await asyncpg.connect(url), tmp_path, [])
    counts = await stopped.rows(
        "select count(*), count(texts.id), count(properties.id) + count(vehicles.id) from listings "
        "left join listing_texts as texts using (id) left join properties using (id) left join vehicles using (id)"
    )
    await stopped._connection.close()
    assert len({*counts[0]}) == 1, "each listing has its details and its texts"
    assert counts[0][0] > 0


async def test_another_number_makes_another_market(made: Made, settings: Settings) -> None:
    one, other = [make(await market_in(settings, made.url, seed), 1) for seed in (7, 8)]
    assert len(one.listings) == len(other.listings) == 1_000
    assert {row.id for row in one.listings}.isdisjoint(row.id for row in other.listings)


async def test_the_texts_are_what_would_be_built(made: Made) -> None:
    differing = await made.one(
        """
        select count(*) from listing_texts as stored
        full join built_texts(array(select id from listings)) as built using (id)
        where (stored.card, stored.document) is distinct from (built.card, built.document)
        """
    )
    assert differing == 0
    assert await made.one("select count(*) from listing_texts") == LISTINGS


async def test_every_reference_leads_somewhere(made: Made) -> None:
    references = await made.rows(
        """
        select conrelid::regclass::text, key.attname, confrelid::regclass::text, target.attname
        from pg_constraint
        join pg_attribute as key on key.attrelid = conrelid and key.attnum = conkey[1]
        join pg_attribute as target on target.attrelid = confrelid and target.attnum = confkey[1]
        where contype = 'f' and array_length(conkey, 1) = 1
        """
    )
    assert ("properties", "id", "listings", "id") in references
    for table, column, other, key in references:
        lost = await made.one(
            f"select count(*) from {table} where {column} is not null "  # noqa: S608
            f"and not exists (select from {other} as other where other.{key} = {table}.{column})"
        )
        assert lost == 0, (table, column)


async def test_all_that_is_counted_is_there(made: Made) -> None:
    assert await made.one("select count(*) from listings") == LISTINGS
    assert (
        await made.one("select count(*) from properties") + await made.one("select count(*) from vehicles") == LISTINGS
    )
    wrong = await made.one(
        "select count(*) from listing_stats where save_count <> "
        "(select count(*) from saved_listings where listing_id = listing_stats.id)"
    )
    assert wrong == 0
    assert await made.one("select min(heat) > 0 and max(view_count) > 10 and max(save_count) > 0 from listing_stats")
    assert await made.one("select count(*) from agent_profiles") == LISTINGS // 100
    assert await made.one("select count(*) from listing_history") == 0


async def test_most_show_pictures_that_are_there(made: Made) -> None:
    shown = await made.one("select count(distinct listing_id) from images")
    assert 0.85 < shown / LISTINGS < 0.95
    primaries = await made.one("select count(*) from images where is_primary and display_order = 0")
    assert primaries == shown
    media = await made.rows("select id, color, blurhash from media where width = 960 and height = 640")
    assert len(media) == await made.one("select count(*) from media")
    assert len({blurhash for _, _, blurhash in media}) > 0.9 * len(media), "they differ"
    for media_id, *_ in media:
        for size, widest in (("large", 960), ("medium", 960), ("small", 320)):
            with Image.open(made.files / "images" / f"{media_id}-{size}.webp") as picture:
                assert (picture.format, max(picture.size)) == ("WEBP", widest)


async def test_prices_fall_with_the_distance_to_meskel_square(made: Made) -> None:
    rows = await made.rows(
        """
        select listings.latitude, listings.longitude, price / square_meters
        from listings join properties using (id) join places on places.id = place_id
        where property_type = 'apartment' and listing_type = 'sale' and places.kind = 'neighborhood'
        """
    )
    assert len(rows) > 150
    distances = [kilometres((latitude, longitude), MESKEL_SQUARE) for latitude, longitude, _ in rows]
    slope, centre = linear_regression(distances, [log(price) for *_, price in rows])
    assert -0.10 < slope < -0.07
    assert log(120_000) < centre < log(170_000)


async def test_vehicles_lose_with_the_years(made: Made) -> None:
    rows = await made.rows(
        "select year, price from listings join vehicles using (id) "
        "where model in ('Corolla', 'Vitz', 'Yaris') and listing_type = 'sale'"
    )
    slope, _ = linear_regression([year for year, _ in rows], [log(price) for _, price in rows])
    assert 0.04 < slope < 0.12
    assert await made.one("select min(year) from vehicles where fuel = 'electric'") >= 2015
    electric = "select count(*) from vehicles where (fuel = 'electric') <> (range_km is not null)"
    assert await made.one(electric) == 0


async def test_every_vehicle_is_a_model_that_is_known(made: Made) -> None:
    known = await made.rows("select brands.name, models.name, body from models join brands on brands.id = brand_id")
    assert {(car.brand, car.model, car.body.value) for car in CARS} <= set(known)


async def test_every_listing_stands_where_its_words_say(made: Made) -> None:
    assert (
        await made.one(
            "select count(*) from listings where place_id is distinct from place_of(country, city, neighborhood)"
        )
        == 0
    )
    usual = await made.one(
        "select count(*) from listings join places on places.id = place_id where coalesce(neighborhood, city) = name"
    )
    assert 0.87 < usual / LISTINGS < 0.95, "one of ten is spelled otherwise"


async def test_a_twentieth_is_offered_twice(made: Made) -> None:
    """By others, nearly in the same place."""
    rows = await made.rows(
        """
        select one.owner_id, other.owner_id, one.agency_id, other.agency_id, one.unit_hash = other.unit_hash,
               abs(one.latitude - other.latitude) + abs(one.longitude - other.longitude)
        from listings as one join listings as other
          on one.id < other.id and one.description = other.description and one.place_id = other.place_id
         and one.kind = other.kind and position(one.title in other.title) > 0 and one.title <> other.title
        """
    )
    assert 0.03 < len(rows) / LISTINGS < 0.07
    assert all(one != other for one, other, *_ in rows)
    assert all(one is None or one != other for _, _, one, other, *_ in rows)
    assert mean(apart for *_, apart in rows) < 0.001
    assert sum(bool(same_unit) for *_, same_unit, _ in rows) > len(rows) / 5


async def test_it_was_published_over_sixty_days_and_mostly_in_the_evening(made: Made) -> None:
    moments = [row[0] for row in await made.rows("select published_at from listings order by id")]
    assert moments == sorted(moments), "ids follow time"
    assert {moment.date() for moment in moments} >= {datetime(2026, 10, day, tzinfo=UTC).date() for day in range(1, 32)}
    hours = Counter((moment.hour + 3) % 24 for moment in moments)
    assert hours[20] > 2 * hours[11] > 4 * hours[3]
    assert max(moments) < UNTIL


async def test_it_is_like_the_market(made: Made) -> None:
    shares = dict(await made.rows("select status, count(*) * 100.0 / 3000 from listings group by status"))
    assert 82 < shares["active"] < 90
    assert {"sold", "rented", "paused", "expired"} <= shares.keys()
    amharic = await made.one("select count(*) from listings where language = 'am' and title ~ '[ሀ-፼]'")
    assert 0.3 < amharic / LISTINGS < 0.4
    sub_cities = dict(
        await made.rows(
            "select sub_city.name, count(*) from listings join places on places.id = place_id "
            "join places as sub_city on sub_city.id = places.parent_id where places.kind = 'neighborhood' group by 1"
        )
    )
    assert len(sub_cities) == 11
    assert sub_cities["Kolfe Keranio"] > 1.5 * sub_cities["Akaki Kality"], "by how many live there"
    closed = "select count(*) from listings where (status in ('sold', 'rented')) <> (closed_price is not null)"
    assert await made.one(closed) == 0


async def test_clients_read_it_like_any_other(made: Made, settings: Settings) -> None:
    database = settings.database.model_copy(update={"url": SecretStr(made.url)})
    node = await Node.start(settings.model_copy(update={"database": database}))
    try:
        for path in ("properties", "vehicles", "listings", "agents"):
            answer = await node.api.get(f"/{path}?limit=100")
            assert len(answer.json) == min(100, LISTINGS // 100 if path == "agents" else 100)
        assert len((await node.api.get("/listings/trending?limit=50")).json) == 50
        assert (await node.api.get("/properties", params={"city": "ቦሌ", "limit": 5})).json
    finally:
        await node.stop()


def told(command: tuple[str, ...], **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "run.py", *command],
        cwd=ROOT,
        env={**inherited, "K2K_AUTH__SECRET": secrets.token_urlsafe(48), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_a_big_market_goes_into_an_empty_database_only(made: Made, servers: tuple[str, str]) -> None:
    refused = told(("seed", "--size", "100k"), DATABASE_URL=made.url, REDIS_URL=servers[1])
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "There are listings already" in refused.stderr
    assert await made.one("select count(*) from listings") == LISTINGS


@pytest.mark.parametrize("size", ["small", "1m"])
def test_production_is_seeded_by_nobody(size: str, made: Made, servers: tuple[str, str]) -> None:
    refused = told(("seed", "--size", size), DATABASE_URL=made.url, REDIS_URL=servers[1], K2K_ENVIRONMENT="production")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "for development" in refused.stderr


def test_ids_are_uuids_of_version_seven_and_sorted_by_birth() -> None:
    made = uuid7(UNTIL, 2**80 - 1)
    assert (made.version, made.variant) == (7, UUID(int=0xA << 60).variant)
    assert made.int >> 80 == int(UNTIL.timestamp() * 1000)
    assert uuid7(UNTIL, 0) < made < uuid7(datetime(2026, 11, 22, 0, 0, 1, tzinfo=UTC), 0)
