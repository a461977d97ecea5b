"""What nothing refers to is collected after a day, with its files; what is needed stays, and so does what is new."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from k2k.app import open_studio
from k2k.core.ids import MediaId, UserId
from k2k.features.media import collection, store
from k2k.features.media.collection import collect
from k2k.features.media.models import Purpose
from k2k.features.media.studio import Studio
from k2k.infra.sql import Statement
from k2k.infra.transaction import Reader
from tests.pictures import PDF, form, photo
from tests.support import Node, People, Person, eventually

TWO_DAYS = timedelta(days=2)


@pytest.fixture
async def studio(site: Node) -> AsyncIterator[Studio]:
    studio = await open_studio(site.settings, site.process.db.clock)
    yield studio
    await studio.close()


async def sent(site: Node, person: Person, kind: str, content: bytes) -> UUID:
    answer = await site.api.post(f"/uploads/{kind}", data=form(content, media_type=None), token=person.token)
    assert answer.status == 201, answer.json
    return UUID(answer.json[0]["id"])


async def aged(site: Node, media: Sequence[UUID]) -> None:
    """As if two days had passed."""
    await site.process.db.records(
        "update media set created_at = created_at - $2::interval, ready_at = ready_at - $2::interval "
        "where id = any ($1)",
        [media, TWO_DAYS],
    )


async def kept(site: Node, media: Sequence[UUID]) -> set[UUID]:
    found = await site.process.db.records("select id from media where id = any ($1)", [media])
    return {row["id"] for row in found}


async def files(studio: Studio, *media: UUID) -> list[str]:
    """The names in the storage that were made from these ids."""
    found = [one.name for prefix in ("images/", "documents/", "incoming/") async for one in studio.storage.list(prefix)]
    return [name for name in found if any(str(one) in name for one in media)]


async def test_what_nothing_refers_to_goes_after_a_day_and_what_is_shown_stays(site: Node, studio: Studio) -> None:
    people = People(site)
    seller = await people.agent()
    listing = await people.listing(seller)
    shown, unused, paper, fresh = [
        await sent(site, seller, "images", photo(seed=1)),
        await sent(site, seller, "images", photo(seed=2)),
        await sent(site, seller, "documents", PDF),
        await sent(site, seller, "images", photo(seed=3)),
    ]
    order = {"images": [str(shown)]}
    assert (await site.api.put(f"/listings/{listing}/images", json=order, token=seller.token)).status == 200
    await aged(site, [shown, unused, paper])
    done = await collect(site.process.db, studio)
    assert any("uploads" in one for one in done)
    assert await kept(site, [shown, unused, paper, fresh]) == {shown, fresh}

    async def files_gone() -> bool:
        return await files(studio, unused, paper) == []

    await eventually(files_gone)  # by a job
    assert len(await files(studio, shown, fresh)) == 6


async def test_what_was_announced_and_never_came_goes_after_a_day(site: Node, studio: Studio) -> None:
    person = await People(site).buyer()
    media = [await People(site).upload(person) for _ in range(2)]
    await aged(site, media[:1])
    await collect(site.process.db, studio)
    assert await kept(site, media) == {media[1]}


async def test_uploading_it_again_gives_it_another_day(site: Node, studio: Studio) -> None:
    person = await People(site).buyer()
    media = await sent(site, person, "images", photo(seed=4))
    await aged(site, [media])
    assert await sent(site, person, "images", photo(seed=4)) == media
    await collect(site.process.db, studio)
    assert await kept(site, [media]) == {media}


async def test_files_that_no_row_knows_go_and_new_ones_stay(
    site: Node, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await People(site).buyer()
    known, lost = [await sent(site, person, "images", photo(seed=seed)) for seed in (5, 6)]
    await site.process.db.records("delete from media where id = $1", [lost])
    await collect(site.process.db, studio)
    assert len(await files(studio, known, lost)) == 6
    # A day later.
    now = site.process.db.clock.now()
    monkeypatch.setattr(site.process.db.clock, "now", lambda: now + timedelta(hours=25))
    await site.process.db.records("update media set ready_at = ready_at + interval '2 days' where id = $1", [known])
    done = await collect(site.process.db, studio, everything=True)
    assert any("files" in one for one in done)
    assert len(await files(studio, lost)) == 0
    assert len(await files(studio, known)) == 3


async def test_somebody_who_is_about_to_show_it_is_waited_for(site: Node, studio: Studio) -> None:
    """The collector passes over what a transaction holds, and sees what it did afterwards."""
    people = People(site)
    seller = await people.agent()
    listing, media = await people.listing(seller), await sent(site, seller, "images", photo(seed=8))
    await aged(site, [media])
    async with site.process.db.transaction() as tx:
        await tx.records("select 1 from media where id = $1 for key share", [media])
        await tx.records(
            "insert into images (listing_id, media_id, is_primary, display_order) values ($1, $2, true, 0)",
            [listing, media],
        )
        await asyncio.wait_for(collect(site.process.db, studio), 10)
    await collect(site.process.db, studio)
    assert await kept(site, [media]) == {media}


async def test_it_goes_on_page_by_page_until_everything_was_looked_at(
    node: Node, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past what is shown and what somebody holds, and never twice at the same."""
    seller = await people.agent()
    listing = await people.listing(seller)
    media = [await people.upload(seller) for _ in range(7)]
    await node.process.db.records(
        "update media set state = 'ready', purpose = 'document', ready_at = created_at where id = any ($1)", [media[:5]]
    )
    await node.process.db.records(
        "insert into images (listing_id, media_id, display_order) select $1, unnest($2::uuid[]), 0",
        [listing, media[:3]],
    )
    await aged(node, media)
    looks: list[MediaId] = []

    async def next_media(db: Reader, after: MediaId, most: int) -> list[MediaId]:
        looks.append(after)
        return await known(db, after, most)

    known = store.next_media
    monkeypatch.setattr(collection, "HANDFUL", 2)
    monkeypatch.setattr(store, "next_media", next_media)
    studio = await open_studio(node.settings, node.process.db.clock)
    async with node.process.db.transaction() as tx:
        await tx.records("select 1 from media where id = $1 for key share", [media[4]])
        await asyncio.wait_for(collect(node.process.db, studio), 10)
    assert await kept(node, media) == {*media[:3], media[4]}
    assert looks == sorted(set(looks))
    await collect(node.process.db, studio)
    assert await kept(node, media) == set(media[:3])
    await studio.close()


MANY = """
with many as (
    insert into media (owner_id, purpose, state, media_type, bytes, sha256, created_at, ready_at)
    select %s, 'document', 'ready', 'application/pdf', 1, sha256(n::text::bytea), now() - interval '2 days',
           now() - interval '2 days'
    from generate_series(1, 50000) as n
    returning id)
insert into images (listing_id, media_id, display_order) select %s, id, 0 from many"""


@pytest.mark.parametrize(
    "statement", [store.NEXT_MEDIA, store.HOLD_ORPHANS, store.HOLD_WAITING], ids=lambda it: it.name
)
async def test_a_look_is_short_however_many_pictures_are_shown(
    node: Node, people: People, statement: Statement[Any]
) -> None:
    """No plan goes through all pictures, or through all that show one, to find those of one page."""
    seller = await people.agent()
    listing = await people.listing(seller)
    with psycopg.connect(node.settings.database.url.get_secret_value()) as connection:
        connection.execute("set local session_replication_role = replica")  # no texts of fifty thousand pictures
        connection.execute(MANY, [seller.id, listing])
        connection.execute("analyze media, images")
        plan = connection.execute(f"explain (generic_plan) {statement.text}".encode()).fetchall()
        connection.rollback()
        connection.execute("analyze media, images")
    assert not re.search("Seq Scan|Hash|Merge", said := "\n".join(row[0] for row in plan)), said


async def test_tables_that_a_killed_process_left_are_cleared(node: Node) -> None:
    studio = await open_studio(node.settings, node.process.db.clock)
    owner = UserId(uuid4())
    async with studio.table(owner, Purpose.image, 1) as table, studio.table(owner, Purpose.image, 1) as fresh:
        os.utime(table, (0, 0))
        await collect(node.process.db, studio)
        left: list[Any] = [table.exists(), fresh.exists()]
    assert left == [False, True]
    await studio.close()
