"""The directory of the media over HTTP: pictures for everybody, and signed addresses for all else.

Only names below `images/` are served without a signature; nothing but pictures of our own making lies there. Where the
media lie in a bucket, it is the bucket that serves them, and none of these addresses exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from k2k.infra.storage.directory import ADDRESS, Directory
from k2k.infra.storage.port import PUBLIC, NotAsAnnounced, NotStored

PIECE = 64 * 1024
ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PICTURE = rf"{ID}-(?:small|medium|large)\.webp"
KEPT = (200, 206, 304)
"""Answers that tell of a picture, and so hold for ever. All others may be wrong in a moment."""
PUBLIC_HEADERS = {
    "Content-Type": "image/webp",
    "Cache-Control": "public, max-age=31536000, immutable",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
# A document is a stranger's file: a browser may save it, and whatever opens it all the same gets nowhere from there.
PRIVATE_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
}


def bind(app: web.Application, directory: Directory, transfer_seconds: float) -> None:
    """Add the routes. A body has `transfer_seconds` to arrive."""
    door = _Door(directory, transfer_seconds)
    app.router.add_get(ADDRESS + PUBLIC + f"{{name:{PICTURE}}}", door.picture)
    app.router.add_get(ADDRESS + f"documents/{{name:{ID}}}", door.document)
    app.router.add_put(ADDRESS + f"incoming/{{name:{ID}}}", door.receive)


class _Picture(web.FileResponse):
    """A picture that caches keep for ever, and none of them an answer that there is none.

    What becomes of a file is decided when it is sent: it may be gone by then, or end before the range asked for.
    """

    def set_status(self, status: int, reason: str | None = None) -> None:
        super().set_status(status, reason)
        if status not in KEPT:
            for name in PUBLIC_HEADERS:
                self.headers.pop(name, None)
            self.headers["Cache-Control"] = "no-store"


class _Door:
    def __init__(self, directory: Directory, transfer_seconds: float) -> None:
        self._directory = directory
        self._transfer_seconds = transfer_seconds

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """One size of a picture, for ever the same. Raises HTTPNotFound, and Unavailable where the disk fails."""
        return _Picture(await self._there(_name(request)), headers=PUBLIC_HEADERS)

    async def document(self, request: web.Request) -> web.StreamResponse:
        """A document to be saved, for whoever was given the address. Raises LinkRefused, and as `picture`."""
        name = _name(request)
        told = self._directory.signer.fields("GET", name, request.query, self._directory.clock.now())
        headers = {**PRIVATE_HEADERS, "Content-Type": told["type"], "Content-Disposition": told["disposition"]}
        return web.FileResponse(await self._there(name), headers=headers)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Take the file that was announced, and no other. Raises LinkRefused or NotAsAnnounced."""
        name = _name(request)
        told = self._directory.signer.fields("PUT", name, request.query, self._directory.clock.now())
        size = int(told["bytes"])
        if request.content_length != size:
            raise NotAsAnnounced(f"It was announced with {size} bytes: send that many, and Content-Length with them")
        if request.headers.get("Content-Type", "").strip().lower() != told["type"]:
            raise NotAsAnnounced(f"It was announced as {told['type']}: send that as its Content-Type")
        await self._directory.receive(name, self._body(request), size, bytes.fromhex(told["sha256"]))
        return web.Response(status=204)

    async def _there(self, name: str) -> Path:
        """The file of that name, which can be read. Where there is none it is a problem document that says so."""
        try:
            return await self._directory.require(name)
        except NotStored:
            raise web.HTTPNotFound from None

    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        end = asyncio.get_running_loop().time() + self._transfer_seconds
        while True:
            try:
                async with asyncio.timeout_at(end):
                    piece = await request.content.read(PIECE)
            except TimeoutError:
                raise web.HTTPRequestTimeout from None
            if not piece:
                return
            yield piece


def _name(request: web.Request) -> str:
    """The name in the storage that the address is of."""
    return request.path.removeprefix(ADDRESS)
