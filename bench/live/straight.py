"""Our chat without sockets: `straight SECONDS FIRST COUNT` sends in the conversations FIRST … as fast as they go.

Each conversation has one message on the way. Says `ready`, begins at a line on its standard input, and prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from uuid import uuid4

import uvloop

from bench.live.people import row_id
from k2k.core.clock import Clock
from k2k.core.ids import ConversationId, UserId
from k2k.core.settings import load
from k2k.features.chat import service
from k2k.features.chat.models import Send
from k2k.infra.db import Db

TEXT = "x" * 100


async def write(db: Db, number: int, stop_at: float) -> list[float]:
    """Seconds of each message of one conversation."""
    conversation, sender = ConversationId(row_id("conversation", number)), UserId(row_id("user", number))
    late = []
    while (begun := time.perf_counter()) < stop_at:
        await db.together(service.send_many, Send(conversation, sender, uuid4().hex, TEXT))
        late.append(time.perf_counter() - begun)
    return late


async def main(seconds: float, first: int, count: int) -> None:
    db = await Db.open(load({"DATABASE_URL": os.environ["DATABASE_URL"]}).database, Clock())
    await asyncio.gather(*(write(db, first + n, 0.5 + time.perf_counter()) for n in range(count)))
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    found = await asyncio.gather(*(write(db, first + n, begun + seconds) for n in range(count)))
    late = [one for each in found for one in each]
    print(json.dumps({"seconds": time.perf_counter() - begun, "late": late}), flush=True)
    await db.close()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
