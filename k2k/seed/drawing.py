"""Pictures of homes and vehicles, drawn here: made-up markets show nobody's photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from PIL import Image, ImageDraw

from k2k.seed.chance import Dice

WIDTH, HEIGHT = 960, 640
_GROUND = 470
"""Where the sky ends."""

Color = tuple[int, int, int]
_WALLS: tuple[Color, ...] = (
    (222, 205, 178), (198, 178, 152), (235, 228, 214), (176, 186, 190), (214, 168, 138), (160, 128, 108),
    (205, 210, 216),
)  # fmt: skip
_ROOFS: tuple[Color, ...] = ((150, 62, 48), (96, 72, 60), (70, 88, 110), (120, 124, 126), (58, 96, 72))
_PAINTS: tuple[Color, ...] = (
    (240, 240, 240), (186, 190, 194), (34, 36, 40), (104, 108, 112), (40, 74, 140), (164, 32, 36), (36, 92, 62),
    (190, 174, 140),
)  # fmt: skip
_GRASS: tuple[Color, ...] = ((112, 138, 74), (136, 140, 84), (150, 126, 88), (98, 124, 82))
_GLASS, _TYRE, _METAL = (92, 122, 148), (28, 28, 30), (190, 192, 196)


class Scene(StrEnum):
    """What can be seen in a picture."""

    tower = "tower"
    house = "house"
    land = "land"
    shop = "shop"
    room = "room"
    car = "car"
    truck = "truck"


def draw(scene: Scene, dice: Dice) -> Image.Image:
    """A picture of the scene, 960 by 640 pixels; the same dice draw the same."""
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    _DRAWN[scene](ImageDraw.Draw(picture), dice)
    return picture


def _outside(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    """Sky, hills and ground."""
    top, bottom = (dice.randint(70, 150), dice.randint(130, 190), dice.randint(200, 245)), (236, 226, 208)
    for y in range(_GROUND):
        pen.line((0, y, WIDTH, y), fill=_between(top, bottom, y / _GROUND))
    for _ in range(dice.randint(1, 5)):
        x, y, size = dice.below(WIDTH), dice.randint(20, 200), dice.randint(40, 120)
        pen.ellipse((x - 2 * size, y - size // 2, x + 2 * size, y + size // 2), fill=(244, 244, 246))
    hills = [(0, _GROUND), *((x, _GROUND - dice.randint(10, 150)) for x in range(0, WIDTH + 1, 160)), (WIDTH, _GROUND)]
    pen.polygon(hills, fill=(108, 126, dice.randint(104, 138)))
    pen.rectangle((0, _GROUND, WIDTH, HEIGHT), fill=dice.pick(_GRASS))
    for _ in range(dice.randint(0, 4)):
        _tree(pen, dice, dice.below(WIDTH))


def _tree(pen: ImageDraw.ImageDraw, dice: Dice, x: int) -> None:
    height = dice.randint(60, 150)
    pen.rectangle((x - 5, _GROUND - height, x + 5, _GROUND + 12), fill=(88, 66, 50))
    pen.ellipse((x - 45, _GROUND - height - 60, x + 45, _GROUND - height + 30), fill=(60, dice.randint(96, 128), 62))


def _tower(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    _outside(pen, dice)
    floors, columns = dice.randint(4, 9), dice.randint(3, 8)
    left, width = dice.randint(80, 380), dice.randint(300, 480)
    top = _GROUND - floors * 44
    pen.rectangle((left, top, left + width, _GROUND + 30), fill=dice.pick(_WALLS))
    step = width / columns
    for floor in range(floors):
        for column in range(columns):
            x, y = left + column * step + step * 0.2, top + floor * 44 + 10
            pen.rectangle((x, y, x + step * 0.6, y + 24), fill=_GLASS if dice.below(4) else (226, 208, 150))
            if dice.below(3) == 0:
                pen.rectangle((x - 4, y + 22, x + step * 0.6 + 4, y + 28), fill=_METAL)


def _house(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    _outside(pen, dice)
    left, width, floors = dice.randint(120, 360), dice.randint(320, 500), dice.randint(1, 2)
    top, wall = _GROUND - 110 * floors, dice.pick(_WALLS)
    pen.rectangle((left, top, left + width, _GROUND + 40), fill=wall)
    middle = left + width * dice.uniform(0.3, 0.7)
    pen.polygon(
        ((left - 30, top), (middle, top - dice.randint(60, 130)), (left + width + 30, top)), fill=dice.pick(_ROOFS)
    )
    for floor in range(floors):
        for column in range(dice.randint(2, 4)):
            x, y = left + 30 + column * 110, top + 30 + floor * 110
            if x + 70 < left + width:
                pen.rectangle((x, y, x + 64, y + 52), fill=_GLASS, outline=(250, 250, 250), width=4)
    door = left + dice.randint(30, width - 80)
    pen.rectangle((door, _GROUND - 60, door + 52, _GROUND + 40), fill=dice.pick(_ROOFS))
    if dice.below(2):
        pen.rectangle((0, _GROUND + 30, WIDTH, _GROUND + 74), fill=_between(wall, (90, 90, 90), 0.4))


def _land(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    _outside(pen, dice)
    near, far = dice.randint(40, 300), dice.randint(260, 420)
    plot = (
        (far, _GROUND + 20),
        (far + dice.randint(200, 420), _GROUND + 14),
        (WIDTH - near, HEIGHT - 20),
        (near, HEIGHT - 30),
    )
    pen.polygon(plot, fill=(164, dice.randint(132, 152), 104), outline=(230, 224, 210), width=5)
    for x, y in plot:
        pen.rectangle((x - 5, y - 40, x + 5, y), fill=(120, 116, 110))


def _shop(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    _outside(pen, dice)
    left, width, height = dice.randint(40, 160), dice.randint(560, 760), dice.randint(220, 340)
    pen.rectangle((left, _GROUND - height, left + width, _GROUND + 40), fill=dice.pick(_WALLS))
    doors, awning = dice.randint(2, 5), dice.pick(_PAINTS)
    step = width / doors
    for door in range(doors):
        x = left + door * step
        pen.rectangle(
            (x + 16, _GROUND - 120, x + step - 16, _GROUND + 40), fill=dice.pick((_GLASS, _METAL, (74, 60, 52)))
        )
        pen.polygon(
            ((x + 6, _GROUND - 120), (x + step - 6, _GROUND - 120), (x + step, _GROUND - 86), (x, _GROUND - 86)),
            fill=awning,
        )
    pen.rectangle((left + 40, _GROUND - height + 24, left + width - 40, _GROUND - height + 70), fill=dice.pick(_ROOFS))


def _room(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    corner, ceiling, floor = dice.randint(160, 700), dice.randint(60, 120), dice.randint(400, 470)
    wall = dice.pick(_WALLS)
    pen.rectangle((0, 0, corner, HEIGHT), fill=wall)
    pen.rectangle((corner, 0, WIDTH, HEIGHT), fill=_between(wall, (90, 80, 76), 0.25))
    pen.polygon(((0, 0), (WIDTH, 0), (WIDTH, ceiling // 2), (corner, ceiling), (0, ceiling // 2)), fill=(246, 244, 240))
    wood = dice.pick(((150, 110, 76), (196, 170, 136), (120, 122, 126), (104, 74, 54)))
    pen.polygon(((0, floor + 90), (corner, floor), (WIDTH, floor + 90), (WIDTH, HEIGHT), (0, HEIGHT)), fill=wood)
    x, wide = dice.below(600), dice.randint(140, 280)
    pen.rectangle((x, 150, x + wide, 330), fill=(206, 226, 240), outline=(250, 250, 250), width=8)
    cloth, x = dice.pick(_PAINTS), dice.randint(60, 500)
    pen.rounded_rectangle((x, floor - 40, x + 360, floor + 90), 20, fill=cloth)
    pen.rounded_rectangle((x - 20, floor + 20, x + 380, floor + 120), 20, fill=_between(cloth, (0, 0, 0), 0.2))
    x = dice.randint(100, 700)
    pen.ellipse((x, floor + 110, x + 240, floor + 160), fill=_between(wood, (255, 255, 255), 0.3))


def _car(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    _outside(pen, dice)
    pen.rectangle((0, _GROUND + 40, WIDTH, HEIGHT), fill=(98, 98, 100))
    left, length, height = dice.randint(120, 260), dice.randint(460, 580), dice.randint(80, 120)
    base, paint = _GROUND + 90, dice.pick(_PAINTS)
    front, back, roof = dice.uniform(0.18, 0.36), dice.uniform(0.7, 1.0), dice.randint(70, 110)
    shoulder = base - height
    cabin = (
        (left + length * (front - 0.1), shoulder), (left + length * (front + 0.06), shoulder - roof),
        (left + length * (back - 0.12), shoulder - roof), (left + length * back, shoulder),
    )  # fmt: skip
    pen.polygon(cabin, fill=_between(paint, (0, 0, 0), 0.12))
    glass = [(x + (14 if x < left + length / 2 else -14), y + (10 if y < shoulder else 0)) for x, y in cabin]
    pen.polygon(glass, fill=_GLASS)
    pen.rounded_rectangle((left, shoulder, left + length, base), 26, fill=paint)
    _wheels(pen, (left + length * 0.2, left + length * 0.8), base, dice.randint(42, 54))


def _truck(pen: ImageDraw.ImageDraw, dice: Dice) -> None:
    _outside(pen, dice)
    pen.rectangle((0, _GROUND + 40, WIDTH, HEIGHT), fill=(104, 102, 98))
    left, length, base, paint = dice.randint(60, 160), dice.randint(620, 760), _GROUND + 90, dice.pick(_PAINTS)
    box, cabin = dice.randint(150, 290), dice.uniform(0.2, 0.28)
    pen.rectangle(
        (left + length * cabin + 10, base - box, left + length, base - 20), fill=dice.pick((*_WALLS, *_PAINTS))
    )
    pen.rounded_rectangle((left, base - dice.randint(180, 220), left + length * cabin, base), 18, fill=paint)
    pen.rectangle((left + 16, base - 160, left + length * cabin - 16, base - 90), fill=_GLASS)
    _wheels(pen, (left + 80, left + length * 0.62, left + length * 0.85), base, 50)


def _wheels(pen: ImageDraw.ImageDraw, middles: tuple[float, ...], base: int, radius: int) -> None:
    for x in middles:
        for share, color in ((1.0, _TYRE), (0.5, _METAL)):
            size = radius * share
            pen.ellipse((x - size, base - size, x + size, base + size), fill=color)


def _between(one: Color, other: Color, share: float) -> Color:
    """A colour so far on the way from one to the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


_DRAWN: Mapping[Scene, Callable[[ImageDraw.ImageDraw, Dice], None]] = {
    Scene.tower: _tower,
    Scene.house: _house,
    Scene.land: _land,
    Scene.shop: _shop,
    Scene.room: _room,
    Scene.car: _car,
    Scene.truck: _truck,
}
