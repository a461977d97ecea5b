"""The pictures of a market: a stock of some for each scene, drawn and developed once, and shown by many listings.

A million listings with files of their own would be millions of files. Real markets repeat pictures too, if less often.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from k2k.core.ids import MediaId
from k2k.features.listings.bulk import PropertyRow, VehicleRow
from k2k.features.listings.kinds import Body, PropertyType
from k2k.features.media.bulk import MediaRow
from k2k.features.media.develop import developed
from k2k.features.media.models import Purpose, Size, UploadState, image_key
from k2k.infra.storage.port import Storage
from k2k.seed.chance import Dice, chance, id_of
from k2k.seed.drawing import Scene, draw
from k2k.seed.market import Market
from k2k.seed.people import agent

_EACH = 12
"""Pictures of a scene."""
_SCENES = tuple(Scene)
_TAKEN_BEFORE = timedelta(days=1)
_OUTSIDE: Mapping[str, Scene] = {
    PropertyType.apartment: Scene.tower,
    PropertyType.condo: Scene.tower,
    PropertyType.office: Scene.tower,
    PropertyType.commercial: Scene.shop,
    PropertyType.land: Scene.land,
    Body.truck: Scene.truck,
    Body.bus: Scene.truck,
    Body.minibus: Scene.truck,
}


def outside(kind: str) -> Scene:
    """What is seen first of a property of this type, or of a vehicle with this body."""
    return _OUTSIDE.get(kind, Scene.house if kind in tuple(PropertyType) else Scene.car)


def some(dice: Dice, detail: PropertyRow | VehicleRow) -> tuple[int, ...]:
    """The numbers of pictures for an offer, the first one from outside; one in ten has none."""
    if dice.below(10) == 0:
        return ()
    home = isinstance(detail, PropertyRow)
    first = outside(detail.property_type if isinstance(detail, PropertyRow) else detail.body)
    others = Scene.room if home and first is not Scene.land else first
    more = (_SCENES.index(others) * _EACH + dice.below(_EACH) for _ in range(dice.below(4)))
    return tuple(dict.fromkeys((_SCENES.index(first) * _EACH + dice.below(_EACH), *more)))


def picture_id(market: Market, number: int) -> MediaId:
    return MediaId(id_of(market.seed, "picture", number, market.begins - _TAKEN_BEFORE))


async def stock(market: Market, pool: Executor, storage: Storage) -> list[MediaRow]:
    """All pictures, stored; their rows. Raises Unavailable."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as directory:
        numbers = range(len(_SCENES) * _EACH)
        shot = (loop.run_in_executor(pool, _shoot, market, number, Path(directory)) for number in numbers)
        rows = await asyncio.gather(*shot)
        for row in rows:
            for size in Size:
                await storage.put(
                    image_key(row.id, size), _sizes(Path(directory), row.id) / f"{size}.webp", "image/webp"
                )
    return rows


def _shoot(market: Market, number: int, directory: Path) -> MediaRow:
    """In a child process: draw and develop a picture, into a directory below this one."""
    scene, media, born = _SCENES[number // _EACH], picture_id(market, number), market.begins - _TAKEN_BEFORE
    file, sizes = directory / f"{media}.png", _sizes(directory, media)
    sizes.mkdir()
    draw(scene, chance(market.seed, "picture", number)).save(file)
    sent = file.read_bytes()
    seen = developed(file, sizes, megapixels=1)
    return MediaRow(
        id=media,
        owner_id=agent(market, number % market.agents).user,
        purpose=Purpose.image,
        state=UploadState.ready,
        name=f"{scene}-{number}.png",
        bytes=len(sent),
        sha256=sha256(sent).digest(),
        created_at=born,
        ready_at=born,
        **seen,
    )


def _sizes(directory: Path, media: MediaId) -> Path:
    return directory / str(media)
