"""Develops one picture: a program of its own, for what it decodes comes from strangers.

It gets a file and an empty directory, first of all takes away from itself what it does not need (memory, time, files),
writes the picture anew in three sizes, and says as JSON what it saw. It imports nothing of the house and inherits
nothing, so that a decoder which is taken over finds neither secrets nor connections.

    develop.py FILE DIRECTORY MEBIBYTES SECONDS MEGAPIXELS
"""

from __future__ import annotations

import json
import os
import resource
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import blurhash
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

SIZES = (("large", 1920), ("medium", 960), ("small", 320))
"""The longer side in pixels, the largest first. Nothing is enlarged."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
LONGEST_SIDE = 30_000
QUALITY = 80
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts a picture upright, by its orientation (EXIF 2.32, tag 0x0112)."""
SRGB = ImageCms.createProfile("sRGB")


class Refused(Exception):
    """The file is no picture that we take; the message is a word for programs."""


def confine(mebibytes: int, seconds: int) -> None:
    """Give up what this program does not need, for good."""
    os.nice(19)  # requests first
    for what, most in (
        (resource.RLIMIT_AS, mebibytes * 2**20),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 64 * 2**20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def opened(file: Path, megapixels: int) -> Image.Image:
    """The picture, of which nothing but the header has been read. Raises Refused."""
    # Pillow only warns up to twice its own limit; ours stands below, and is kept before anything is decoded.
    Image.MAX_IMAGE_PIXELS = None
    try:
        picture = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise Refused("no-image") from None
    width, height = picture.size
    if width * height > megapixels * 1_000_000 or max(width, height) > LONGEST_SIDE:
        raise Refused("too-many-pixels")
    return picture


def decoded(picture: Image.Image) -> Image.Image:
    """Upright, no larger than the largest size, in sRGB, on white, and nothing but pixels."""
    orientation, profile = picture.getexif().get(ExifTags.Base.Orientation), picture.info.get("icc_profile")
    longest = SIZES[0][1]
    share = longest / max(picture.size)
    if share < 1:  # a JPEG can be decoded at a half or a quarter of its size, which costs as much less
        picture.draft(None, (round(picture.width * share), round(picture.height * share)))
    picture.load()
    picture = _plain(picture)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    picture = _in_srgb(_on_white(picture), profile)
    if (turn := TURNED.get(orientation or 1)) is not None:
        picture = picture.transpose(turn)
    picture.info.clear()
    return picture


def _plain(picture: Image.Image) -> Image.Image:
    """Of eight bits a channel, as RGB or, where it is see-through, RGBA."""
    if picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    clear = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    wanted = "RGBA" if clear else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)  # a copy may be 200 MB


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture.getchannel("A"))
    return white


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """With the colours that are meant. A profile that is broken, or not for RGB, is as good as none."""
    if not profile:
        return picture
    try:
        meant = ImageCms.ImageCmsProfile(BytesIO(profile))
        return ImageCms.profileToProfile(picture, meant, SRGB, outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture


def written(large: Image.Image, directory: Path) -> None:
    """The three sizes, each made from the one before."""
    picture = large
    for name, longest in SIZES:
        picture = picture.copy()
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        picture.save(directory / f"{name}.webp", "WEBP", quality=QUALITY, method=4)


def color(picture: Image.Image) -> str:
    """The most frequent of the eight colours that the picture comes down to."""
    few = picture.resize((64, 64), Image.Resampling.BOX).quantize(8)
    counts, palette = few.histogram(), few.getpalette() or [0, 0, 0]
    most = 3 * counts.index(max(counts))
    return "#" + bytes(palette[most : most + 3]).hex()


def placeholder(picture: Image.Image) -> str:
    """Its blurhash, of four by three components."""
    small = picture.copy()
    small.thumbnail((32, 32), Image.Resampling.BOX)
    raw, line = small.tobytes(), small.width * 3
    rows = [[raw[at : at + 3] for at in range(begin, begin + line, 3)] for begin in range(0, line * small.height, line)]
    return str(blurhash.encode(rows, 4, 3))


def difference_hash(picture: Image.Image) -> int:
    """64 bits: whether a field of a 9 by 8 grid is brighter than the one after it. Signed, as databases keep it."""
    grey = picture.convert("L").resize((9, 8), Image.Resampling.LANCZOS).tobytes()
    bits = "".join("1" if grey[row * 9 + at] > grey[row * 9 + at + 1] else "0" for row in range(8) for at in range(8))
    return int.from_bytes(int(bits, 2).to_bytes(8), signed=True)


def developed(file: Path, directory: Path, megapixels: int) -> dict[str, Any]:
    """Write the sizes; what is known of the picture. Raises Refused, and whatever a decoder stumbles over."""
    source = opened(file, megapixels)
    kind = f"image/{(source.format or '').lower().replace('mpo', 'jpeg')}"
    large = decoded(source)
    written(large, directory)
    return {
        "media_type": kind,
        "width": large.width,
        "height": large.height,
        "color": color(large),
        "blurhash": placeholder(large),
        "phash": difference_hash(large),
    }


def main(arguments: list[str]) -> None:
    file, directory, mebibytes, seconds, megapixels = arguments
    confine(int(mebibytes), int(seconds))
    try:
        told = developed(Path(file), Path(directory), int(megapixels))
    except Refused as refusal:
        told = {"refused": str(refusal)}
    except MemoryError:
        told = {"refused": "too-heavy"}
    except Exception as error:  # whatever a decoder stumbles over: the file is broken, and that is all there is to say
        told = {"refused": "unreadable", "error": type(error).__name__}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
