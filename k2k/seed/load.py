"""A whole market into an empty database: people and pictures first, then blocks of listings, several processes at once.

A block is one transaction, so whatever stops the work leaves whole listings and nothing half.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.connection import wait

from k2k.features.listings.bulk import load_listings
from k2k.features.media.bulk import load_media
from k2k.features.saved.bulk import load_saved
from k2k.infra.bulk import Bulk
from k2k.infra.storage.port import Storage
from k2k.seed.block import Block, make
from k2k.seed.market import Market
from k2k.seed.people import load_people
from k2k.seed.pictures import stock


async def load(url: str, market: Market, storage: Storage, *, processes: int, told: Callable[[int], None]) -> None:
    """Store all of the market; `told` hears how many listings there are, again and again.

    Raises OSError, Unavailable or asyncpg's errors; then there are the listings that `told` has heard of, and maybe
    some more.
    """
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _end_with_parent)
    try:
        async with Bulk.open(url) as bulk:
            async with bulk.transaction():
                pictures, _ = await asyncio.gather(stock(market, pool, storage), load_people(bulk, market))
                await load_media(bulk, pictures)
            await _load_blocks(url, market, pool, told)
            await bulk.analyze()
    finally:
        pool.shutdown(cancel_futures=True)


async def _load_blocks(url: str, market: Market, pool: Executor, told: Callable[[int], None]) -> None:
    """Each process makes a block while the database stores that of another."""
    loop = asyncio.get_running_loop()
    blocks = [loop.run_in_executor(pool, _load_block, url, market, number) for number in range(market.blocks)]
    stored = 0
    for block in asyncio.as_completed(blocks):
        stored += await block
        told(stored)


def _load_block(url: str, market: Market, number: int) -> int:
    """In a child process: make and store a block; how many listings it has."""
    block = make(market, number)
    asyncio.run(_store(url, block))
    return len(block.listings)


async def _store(url: str, block: Block) -> None:
    async with Bulk.open(url) as bulk, bulk.transaction():
        await load_listings(bulk, block.listings, block.properties, block.vehicles, block.images, block.stats)
        await load_saved(bulk, block.saved)


def _end_with_parent() -> None:
    """Ctrl-C is the parent's to hear; when it is gone, however it went, there is nobody to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)
