"""The directory of the media over HTTP: pictures for everybody, and signed addresses for all else.

Only names below `images/` are served without a signature; nothing but pictures of our own making lies there. Where the
media lie in a bucket, it is the bucket that serves them, and none of these addresses exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from k2k.infra.storage.directory import ADDRESS, Directory
from k2k.infra.storage.port import PUBLIC, NotAsAnnounced

PIECE = 64 * 1024
PICTURE = r"[0-9a-f-]{36}-(?:small|medium|large)\.webp"
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
    app.router.add_get(ADDRESS + "documents/{name:[0-9a-f-]{36}}", door.document)
    app.router.add_put(ADDRESS + "incoming/{name:[0-9a-f-]{36}}", door.receive)


class _Door:
    def __init__(self, directory: Directory, transfer_seconds: float) -> None:
        self._directory = directory
        self._transfer_seconds = transfer_seconds

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """One size of a picture, for ever the same."""
        return web.FileResponse(self._directory.path(_name(request)), headers=PUBLIC_HEADERS)

    async def document(self, request: web.Request) -> web.StreamResponse:
        """A document to be saved, for whoever was given the address. Raises LinkRefused."""
        name = _name(request)
        told = self._directory.signer.fields("GET", name, request.query, self._directory.clock.now())
        headers = {**PRIVATE_HEADERS, "Content-Type": told["type"], "Content-Disposition": told["disposition"]}
        return web.FileResponse(self._directory.path(name), headers=headers)

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
