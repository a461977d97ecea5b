"""Files over HTTP: multipart bodies as they arrive, and answers that are sent as they are made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from typing import TypeVar
from urllib.parse import quote

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from k2k.ops.files import File, FileRules, FileTooLarge, NotMultipart
from k2k.ops.registry import Streamed

T = TypeVar("T")
FIELD = "files"
PIECE = 64 * 1024
LONGEST_NAME = 255


async def incoming(request: web.Request, rules: FileRules) -> AsyncIterator[File]:
    """The files of the request. Raises what `Files` says, and HTTPRequestTimeout if they do not arrive in time."""
    if request.content_type != "multipart/form-data":
        raise NotMultipart
    end = asyncio.get_running_loop().time() + rules.seconds
    count = 0
    try:
        reader = await request.multipart()
    except ValueError:  # no boundary
        raise NotMultipart from None
    while (part := await _within(end, reader.next())) is not None:
        if not isinstance(part, BodyPartReader) or part.name != FIELD or part.filename is None:
            raise NotMultipart
        count += 1
        if count > rules.most:
            raise FileTooLarge(f"One request brings at most {rules.most} files")
        kind = part.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        yield File(_shown(part.filename), kind[:100], _chunks(part, rules, end))
    if count == 0:
        raise NotMultipart


async def _chunks(part: BodyPartReader, rules: FileRules, end: float) -> AsyncIterator[bytes]:
    size = 0
    while chunk := await _within(end, part.read_chunk(PIECE)):
        size += len(chunk)
        if size > rules.bytes_each:
            raise FileTooLarge(f"A file may have at most {rules.bytes_each} bytes")
        yield chunk


async def _within(end: float, step: Awaitable[T]) -> T:
    """The next step of reading the body, by `end`."""
    try:
        async with asyncio.timeout_at(end):
            return await step
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ValueError, BadHttpMessage):  # not as RFC 7578 has it
        raise web.HTTPBadRequest from None


def _shown(name: str) -> str:
    """A file name that may be shown: without its path, control characters or what cannot be stored, and not long."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean = "".join(letter for letter in last if letter.isprintable())
    return clean.encode("utf-8", "ignore").decode()[:LONGEST_NAME].strip() or "file"


async def streamed(request: web.Request, answer: Streamed, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send the answer as it is made. Where it breaks off the connection is cut, so that nobody takes a part for all."""
    chunks = aiter(answer.chunks)
    try:
        first = await anext(chunks, b"")
        response = web.StreamResponse(headers={**headers, "Content-Disposition": attachment(answer.name)})
        response.content_type = answer.media_type
        await response.prepare(request)
        if request.method != "HEAD":
            await _send(request, response, first, chunks)
    finally:
        # Whoever makes them learns that nobody takes them any more.
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    return response


async def _send(request: web.Request, response: web.StreamResponse, first: bytes, rest: AsyncIterator[bytes]) -> None:
    try:
        await response.write(first)
        async for chunk in rest:
            await response.write(chunk)
        await response.write_eof()
    except Exception:
        if request.transport is not None:
            request.transport.abort()
        raise


def attachment(name: str) -> str:
    """The Content-Disposition of a file to be saved under this name (RFC 6266)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\;%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
