"""Imports while processes are killed: what was half done is done once, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from k2k.features.imports.chunks import ImportChunk, importing
from k2k.features.listings.inspection import InspectListing
from k2k.features.moderation.service import inspecting
from tests.features.imports.sheets import a_seller, brought, rows, settled, sheet, titles
from tests.support import ROOT, Workplace, eventually

WORKER = """
import asyncio, os, signal, sys
from pydantic import SecretStr
from k2k.core.clock import Clock
from k2k.core.settings import load
from k2k.features.imports import store
from k2k.features.imports.chunks import ImportChunk, importing
from k2k.features.listings.inspection import InspectListing
from k2k.features.moderation.service import inspecting
from k2k.infra.db import Db
from k2k.infra.jobs.worker import Worker

url, when, chunks = sys.argv[1], sys.argv[2], int(sys.argv[3])
done = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    base = load({})
    database = base.database.model_copy(update={"url": SecretStr(url)})
    db = await Db.open(database, Clock())
    worker = Worker(database, base.jobs.model_copy(update={"heartbeat_seconds": 0.5, "poll_seconds": 0.1}))
    handle, advance = importing(db, base.listings), store.advance_import

    async def advancing(*arguments):
        stand = await advance(*arguments)
        if when == "middle" and done == chunks:
            die()
        return stand

    async def counting(job, attempt):
        global done
        await handle(job, attempt)
        done += 1
        if when == "after" and done == chunks:
            die()

    store.advance_import = advancing
    worker.bind(ImportChunk, counting)
    worker.bind(InspectListing, inspecting(db))
    await worker.start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def worker(workplace: Workplace, when: str, chunks: int) -> asyncio.subprocess.Process:
    url = workplace.settings.database.url.get_secret_value()
    return await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, url, when, str(chunks), cwd=ROOT)


@pytest.mark.parametrize("when", ["middle", "after"])
async def test_a_worker_killed_at_a_chunk_has_done_it_wholly_or_not_at_all(workplace: Workplace, when: str) -> None:
    """In the middle: all is written and nothing committed. After: committed, and the job is still in the queue."""
    db, count = workplace.db, 1500
    owner = await a_seller(db)
    said = [{**row, "reference": f"R-{n}"} for n, row in enumerate(rows(count))]
    said[700]["price"] = "much"
    import_id = await brought(db, owner, sheet(said))
    process = await worker(workplace, when, 2)
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    assert 0 < len(await titles(db, owner)) < count
    heir = workplace.worker(heartbeat_seconds=0.5)
    heir.bind(ImportChunk, importing(db, workplace.settings.listings))
    heir.bind(InspectListing, inspecting(db))
    await heir.start()
    row = await settled(db, import_id)
    assert (row["state"], row["created"], row["changed"], row["failed"]) == ("finished", count - 1, 0, 1)
    assert sorted(await titles(db, owner)) == sorted(f"Flat {n}" for n in range(count) if n != 700)
    named = await db.records("select count(*) from import_references where owner_id = $1", [owner])
    assert named[0][0] == count - 1
    await eventually(workplace.empty, seconds=240)  # each listing is looked at by itself


async def test_two_processes_share_the_imports_and_one_of_them_dies(workplace: Workplace) -> None:
    db = workplace.db
    owners = [await a_seller(db) for _ in range(3)]
    imports = [await brought(db, owner, sheet(rows(600))) for owner in owners]
    processes = [await worker(workplace, "after", 3), await worker(workplace, "never", 0)]
    try:
        for import_id in imports:
            assert (await settled(db, import_id))["created"] == 600
        for owner in owners:
            assert sorted(await titles(db, owner)) == sorted(f"Flat {n}" for n in range(600))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
