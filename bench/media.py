"""How late the event loop wakes up while photographs are developed.

    make bench ONLY=media         or, for a look: python -m bench.media --quick

A serving process takes fifty photographs of 12 megapixels from three people and develops them, while somebody reads a
list at a steady pace. Both are measured: the loop's lateness in the process itself, and the reads from outside.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import aiohttp
from PIL import Image

from bench.delivery import Person
from bench.harness import report
from bench.harness.command import Bench, run
from bench.harness.compare import MOST_FOREIGN
from bench.harness.figures import number, percentile, spread
from bench.harness.machine import Cores, Watch, versions
from bench.harness.servers import HOME, backing, key2key, secret

PHOTOS = 50
REQUESTS = ((0, 20), (20, 40), (40, 50))
SIZE = (4000, 3000)
READS_PER_SECOND = 50
QUIET_SECONDS = 5.0
GOAL = 0.020
PATH = "/api/v1/properties?limit=20"


@dataclass
class Phase:
    """What was seen in one stretch of time, in seconds."""

    lags: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    begun: float = 0.0
    ended: float = 0.0


def photographs(numbered: int) -> list[bytes]:
    """As many as one round takes, none of which has been sent before: no more is different than a comment."""
    rng = random.Random(numbered)  # noqa: S311 -- the same photographs each time
    found = []
    for kind in range(5):
        coarse = Image.frombytes("RGB", (80, 60), rng.randbytes(80 * 60 * 3)).resize(SIZE, Image.Resampling.BICUBIC)
        grain = Image.effect_noise(SIZE, 20).convert("RGB")
        file = BytesIO()
        Image.blend(coarse, grain, 0.15).save(file, "JPEG", quality=88)
        for copy in range(PHOTOS // 5):
            said = f"{numbered} {kind} {copy}".encode()
            comment = b"\xff\xfe" + (len(said) + 2).to_bytes(2) + said
            found.append(file.getvalue()[:2] + comment + file.getvalue()[2:])
    return found


async def read(http: aiohttp.ClientSession, base: str, phase: Phase) -> None:
    """Ask for the list at the steady pace until cancelled; time begins when a request is due."""
    begun, count = time.perf_counter(), 0
    while True:
        due = begun + count / READS_PER_SECOND
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
            due = time.perf_counter()
        async with http.get(base + PATH) as answer:
            assert answer.status == 200
            await answer.read()
        phase.reads.append(time.perf_counter() - due)
        count += 1


async def send(http: aiohttp.ClientSession, person: Person, photos: Sequence[bytes]) -> None:
    form = aiohttp.FormData()
    for photo in photos:
        form.add_field("files", BytesIO(photo), filename="photo.jpg", content_type="image/jpeg")
    headers = {"Authorization": f"Bearer {person.token}"}
    async with http.post(f"{person.base}/api/v1/uploads/images", data=form, headers=headers) as answer:
        assert answer.status == 201, await answer.text()


async def watched(http: aiohttp.ClientSession, base: str, photos: Sequence[bytes], people: Sequence[Person]) -> Phase:
    """A phase in which these photographs are sent, or nothing for a while."""
    phase = Phase(begun=time.time())
    reading = asyncio.create_task(read(http, base, phase))
    if photos:
        parts = (photos[begin:end] for begin, end in REQUESTS)
        await asyncio.gather(*(send(http, person, part) for person, part in zip(people, parts, strict=True)))
    else:
        await asyncio.sleep(QUIET_SECONDS)
    phase.ended = time.time()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return phase


async def rounds(base: str, count: int) -> list[tuple[Phase, Phase]]:
    """Each round's quiet phase and the one with photographs."""
    found = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(900)) as http:
        people = [await Person.sign_in(http, base, name) for name in ("selam", "dawit", "rahel")]
        await watched(http, base, (), people)  # warm
        for one in range(count):
            photos = await asyncio.to_thread(photographs, one)
            found.append((await watched(http, base, (), people), await watched(http, base, photos, people)))
            print(f"  round {one + 1} of {count}: {found[-1][1].ended - found[-1][1].begun:.1f} s", flush=True)
        await asyncio.sleep(1)  # the last lines are on their way
    return found


def note_lags(file: Path, phases: Sequence[Phase]) -> None:
    """Give each phase what the process noted in its time."""
    lines = [tuple(map(float, line.split())) for line in file.read_text().splitlines() if line.count(" ") == 1]
    for phase in phases:
        phase.lags = [late for at, late in lines if phase.begun <= at <= phase.ended]


@contextmanager
def process() -> Iterator[tuple[str, Path]]:
    """The address of a serving process, and the file of its lateness. Nothing is pinned."""
    free, lag = Cores(), HOME / "servers" / "media.lag"
    with (
        backing("media", free) as behind,
        key2key("media", behind, secret(), free, seeded=True, lag=lag) as running,
    ):
        yield f"http://127.0.0.1:{running.port}", lag


def measure(quick: bool) -> str:
    with process() as (base, lag):
        watch = Watch()
        found = asyncio.run(rounds(base, 1 if quick else 3))
        foreign = watch.foreign()
        note_lags(lag, [phase for pair in found for phase in pair])
    rows = []
    for name, which in (("nothing else", 0), (f"{PHOTOS} photographs", 1)):
        phases = [pair[which] for pair in found]
        lags = [str(spread(percentile(phase.lags, share) * 1e3 for phase in phases)) for share in (0.5, 0.99, 1.0)]
        reads = [str(spread(percentile(phase.reads, share) * 1e3 for phase in phases)) for share in (0.5, 0.99)]
        rows.append([name, *lags, *reads])
    table = report.table(["", "lag p50 ms", "lag p99 ms", "lag max ms", "GET p50 ms", "GET p99 ms"], rows)
    worst = max(percentile(pair[1].lags, 0.99) for pair in found)
    rate = spread(PHOTOS / (pair[1].ended - pair[1].begun) for pair in found)
    said = f"{rate} photographs a second. Lag p99 under {GOAL * 1e3:.0f} ms: {'met' if worst < GOAL else '**missed**'}"
    doubt = "" if foreign <= MOST_FOREIGN else f"\n- **Doubtful**: other programs used {foreign:.0%} of the machine.\n"
    ours = versions("aiohttp", "Pillow", "uvloop")
    text = [report.conditions(BENCH.name, Cores(), ours), "", table, "", f"{said} ({number(worst * 1e3)} ms at worst)."]
    return "\n".join([*text, doubt])


BENCH = Bench("media", measure, minutes=3)

if __name__ == "__main__":
    sys.exit(run([BENCH], __doc__ or ""))
