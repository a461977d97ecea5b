"""Pictures made here, good and bad, and ways to send them."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO
from typing import Any

import aiohttp
from PIL import ExifTags, Image

BRAND = "Spybrand"
ADDIS = ((9.0, 1.0, 12.0), (38.0, 45.0, 36.0))


def photo(width: int = 640, height: int = 480, kind: str = "JPEG", *, seed: int = 0, **saved: Any) -> bytes:
    """A picture that looks like no other seed's: coarse blocks of colour."""
    blocks = random.Random(seed).randbytes(8 * 6 * 3)  # noqa: S311
    picture = Image.frombytes("RGB", (8, 6), blocks).resize((width, height), Image.Resampling.BICUBIC)
    return encoded(picture, kind, **saved)


def encoded(picture: Image.Image, kind: str = "JPEG", **saved: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **saved)
    return file.getvalue()


def telling_photo(orientation: int = 1) -> bytes:
    """As a telephone makes it: where, with what, and which way it was held. Its left half is red, the other blue."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = BRAND
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: ADDIS[0],
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: ADDIS[1],
        }
    )
    picture = Image.new("RGB", (400, 200), "blue")
    picture.paste("red", (0, 0, 200, 200))
    return encoded(picture, "JPEG", exif=exif, quality=95)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(side: int = 12_000) -> bytes:
    """A square of some kilobytes that takes `side` times `side` bytes of memory, and more, to look at."""
    packed, line = zlib.compressobj(9), b"\0" + bytes(side // 8)
    body = b"".join(packed.compress(line) for _ in range(side)) + packed.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


HTML = b"<!doctype html><script>alert(document.domain)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(document.domain)</script></svg>'
PDF = b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\ntrailer<<>>\n%%EOF\n"


def named(name: str, content: bytes) -> dict[str, Any]:
    """A form with one file whose name is sent as it stands; `form` would write it in a way that harms nobody."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = head.encode() + content + b"\r\n--x--\r\n"
    return {"data": body, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


def form(*files: bytes, name: str = "photo.jpg", media_type: str | None = "image/jpeg") -> aiohttp.FormData:
    """The files as browsers send them; without a media type as programs do that say none."""
    sent = aiohttp.FormData()
    for file in files:
        sent.add_field("files", BytesIO(file), filename=name, content_type=media_type or "application/octet-stream")
    return sent
