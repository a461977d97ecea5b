"""The directory of the media over HTTP: pictures for everybody, all else by a signature for one thing and a while."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import aiohttp
import pytest
from structlog.testing import capture_logs

from k2k.core.clock import Clock
from k2k.infra.storage.directory import Directory
from k2k.infra.storage.opening import open_storage
from tests.support import Node

ID = "00000000-0000-7000-8000-000000000001"
CONTENT = b"What somebody uploads"
DIGEST = hashlib.sha256(CONTENT).digest()
INCOMING, DOCUMENT = f"incoming/{ID}", f"documents/{ID}"


@pytest.fixture
async def storage(node: Node, tmp_path: Path) -> AsyncIterator[Directory]:
    """The directory that the node serves, with a document and a picture in it."""
    found = await open_storage(node.settings, Clock())
    assert isinstance(found, Directory)
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    for name in (DOCUMENT, f"images/{ID}-small.webp"):
        await found.put(name, file, "")
    yield found
    await found.delete([INCOMING, DOCUMENT, f"images/{ID}-small.webp"])


async def asked(node: Node, method: str, path: str, **more: Any) -> tuple[int, Mapping[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.request(method, node.api.base + path, **more) as answer:
        return answer.status, answer.headers, await answer.read()


async def put_at(node: Node, url: str, content: Any = CONTENT, kind: str = "image/jpeg") -> int:
    return (await asked(node, "PUT", url, data=content, headers={"Content-Type": kind}))[0]


async def leave(storage: Directory, seconds: int = 60) -> str:
    return (await storage.signed_put(INCOMING, "image/jpeg", len(CONTENT), DIGEST, seconds)).url


async def test_the_announced_file_gets_in(node: Node, storage: Directory) -> None:
    assert await put_at(node, await leave(storage)) == 204
    assert storage.path(INCOMING).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT + b"!", CONTENT[1:], b"", CONTENT.upper()])
async def test_no_other_file_gets_in(node: Node, storage: Directory, content: bytes) -> None:
    status, _, body = await asked(
        node, "PUT", await leave(storage), data=content, headers={"Content-Type": "image/jpeg"}
    )
    assert status == 422
    assert b"not-as-announced" in body
    assert await storage.find(INCOMING) is None


@pytest.mark.parametrize("kind", ["text/html", "image/png", "image/jpeg; charset=utf-8", ""])
async def test_no_other_type_gets_in(node: Node, storage: Directory, kind: str) -> None:
    assert await put_at(node, await leave(storage), kind=kind) == 422
    assert await storage.find(INCOMING) is None


async def test_a_file_that_does_not_say_how_long_it_is_does_not_get_in(node: Node, storage: Directory) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENT

    assert await put_at(node, await leave(storage), chunks()) == 422


async def test_a_link_whose_time_is_over_is_refused(node: Node, storage: Directory) -> None:
    assert await put_at(node, await leave(storage, -1)) == 403
    late = await storage.signed_get(DOCUMENT, "application/pdf", "attachment", -1)
    status, _, body = await asked(node, "GET", late)
    assert (status, b"link-refused" in body) == (403, True)


async def test_a_link_is_for_one_thing(node: Node, storage: Directory) -> None:
    read = await storage.signed_get(DOCUMENT, "application/pdf", "attachment", 60)
    write = await leave(storage)
    assert (await asked(node, "GET", read))[2] == CONTENT
    assert await put_at(node, read.replace("documents", "incoming")) == 403
    assert (await asked(node, "GET", write.replace("incoming", "documents")))[0] == 403
    assert (await asked(node, "GET", write))[0] == 405
    assert (await asked(node, "GET", read.replace("0001?", "0002?")))[0] == 403


@pytest.mark.parametrize("field", ["type", "bytes", "sha256", "expires", "signature"])
async def test_a_link_that_was_changed_is_refused(node: Node, storage: Directory, field: str) -> None:
    path, _, query = (await leave(storage)).partition("?")
    fields = dict(parse_qsl(query))
    for changed in ({**fields, field: "9" * 20}, {k: v for k, v in fields.items() if k != field}, {**fields, "x": "1"}):
        assert await put_at(node, f"{path}?{urlencode(changed)}") == 403
    assert await storage.find(INCOMING) is None


async def test_a_picture_is_everybody_s_and_may_be_kept_for_ever(node: Node, storage: Directory) -> None:
    status, headers, body = await asked(node, "GET", f"/media/images/{ID}-small.webp")
    assert (status, body, headers["Content-Type"]) == (200, CONTENT, "image/webp")
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    again = await asked(node, "GET", f"/media/images/{ID}-small.webp", headers={"If-None-Match": headers["ETag"]})
    assert again[0] == 304


async def test_nobody_keeps_the_answer_that_there_is_no_picture(node: Node, storage: Directory) -> None:
    """It may come in a moment: while it is uploaded, or while a directory that is shared is away."""
    path = storage.path(f"images/{ID}-medium.webp")
    missing = await asked(node, "GET", f"/media/images/{path.name}")
    path.mkdir()
    unreadable = await asked(node, "GET", f"/media/images/{path.name}")
    path.rmdir()
    for wanted, (status, headers, body) in ((404, missing), (503, unreadable)):
        assert (status, headers["Cache-Control"]) == (wanted, "no-store")
        assert headers["Content-Type"] == "application/problem+json"
        assert json.loads(body)["status"] == wanted


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"Range": "bytes=1000-"}, 416),
        ({"Range": "bytes=9-1"}, 416),
        ({"If-Match": '"another"'}, 412),
        ({"Range": "bytes=0-3"}, 206),
    ],
)
async def test_only_what_tells_of_the_picture_is_kept(
    node: Node, storage: Directory, headers: dict[str, str], wanted: int
) -> None:
    status, answered, _ = await asked(node, "GET", f"/media/images/{ID}-small.webp", headers=headers)
    assert status == wanted
    kept = "public, max-age=31536000, immutable" if wanted == 206 else "no-store"
    assert answered["Cache-Control"] == kept


async def test_a_picture_that_goes_on_the_way_is_not_kept_as_gone(
    node: Node, storage: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = storage.path(f"images/{ID}-large.webp")

    async def require(_self: Directory, _name: str) -> Path:
        return gone

    monkeypatch.setattr(Directory, "require", require)
    status, headers, _ = await asked(node, "GET", f"/media/images/{gone.name}")
    assert (status, headers["Cache-Control"]) == (404, "no-store")


@pytest.mark.parametrize(
    "path",
    [
        "/media/",
        f"/media/images/-{ID[1:]}-small.webp",
        f"/media/images/{'-' * 36}-small.webp",
        f"/media/images/{'0' * 36}-small.webp",
        f"/media/documents/-{ID[1:]}",
        "/media/images/",
        f"/media/images/{ID}-large.webp",
        f"/media/images/{ID}.webp",
        f"/media/images/{ID}-small.webp/",
        f"/media/images/../documents/{ID}",
        f"/media/images/..%2fdocuments%2f{ID}",
        f"/media/images/%2e%2e/documents/{ID}",
        f"/media/incoming/../documents/{ID}",
        f"/media/unfinished/{ID}",
        "/media/../../etc/passwd",
    ],
)
async def test_nothing_else_is_public(node: Node, storage: Directory, path: str) -> None:
    """Sent as it stands: a client library would tidy it up."""
    host, port = node.runner.addresses[0][:2]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    assert int(answer.split()[1]) in (403, 404)
    assert CONTENT not in answer


async def test_no_link_and_no_signature_reaches_the_log(node: Node, storage: Directory) -> None:
    url = await leave(storage)
    with capture_logs() as logged:
        await put_at(node, url)
        await put_at(node, url + "0")
    assert not any("signature" in str(line) for line in logged)
    assert any(line.get("path") == f"/media/{INCOMING}" for line in logged)
