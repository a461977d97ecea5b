"""Files in a directory and in a bucket: the same port, and what happens while what is behind it is away."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from k2k.core.clock import Clock
from k2k.core.errors import Unavailable
from k2k.core.settings import Settings, SettingsError, load
from k2k.infra.storage.directory import Directory
from k2k.infra.storage.opening import open_storage
from k2k.infra.storage.port import NotStored, Storage
from k2k.infra.storage.s3 import Bucket
from tests.s3 import s3
from tests.support import eventually, free_port

ONE = "00000000-0000-7000-8000-00000000000"
CONTENT = b"Some bytes" * 1000


@pytest.fixture(scope="module")
async def bucket_settings(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    async with s3(settings, tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
async def bucket(bucket_settings: Settings) -> AsyncIterator[Storage]:
    storage = await open_storage(bucket_settings, Clock())
    yield storage
    async for stored in storage.list(""):
        await storage.delete([stored.name])
    await storage.close()


@pytest.fixture
async def directory(settings: Settings, tmp_path: Path) -> Storage:
    media = settings.media.model_copy(update={"directory": str(tmp_path / "media")})
    return await open_storage(settings.model_copy(update={"media": media}), Clock())


@pytest.fixture(params=["directory", "bucket"])
def storage(request: pytest.FixtureRequest) -> Storage:
    found: Storage = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


async def content(storage: Storage, name: str) -> bytes:
    async with aclosing(storage.read(name)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def names(storage: Storage, prefix: str, after: str = "") -> list[str]:
    return [stored.name async for stored in storage.list(prefix, after)]


async def test_what_is_put_is_there_until_it_is_deleted(storage: Storage, file: Path) -> None:
    name = f"documents/{ONE}1"
    assert await storage.find(name) is None
    before = time.time()
    await storage.put(name, file, "application/pdf")
    found = await storage.find(name)
    assert found is not None
    assert (found.name, found.size) == (name, len(CONTENT))
    assert abs(found.changed_at.timestamp() - before) < 5
    assert await content(storage, name) == CONTENT
    await storage.delete([name, f"documents/{ONE}2"])
    assert await storage.find(name) is None


@pytest.fixture
def shorter(tmp_path: Path) -> Path:
    path = tmp_path / "shorter"
    path.write_bytes(b"shorter")
    return path


async def test_what_is_put_again_takes_the_place_of_what_was_there(storage: Storage, file: Path, shorter: Path) -> None:
    name = f"images/{ONE}1-small.webp"
    await storage.put(name, file, "image/webp")
    await storage.put(name, shorter, "image/webp")
    assert await content(storage, name) == b"shorter"


async def test_names_are_listed_in_order_below_a_prefix_and_after_a_name(storage: Storage, file: Path) -> None:
    put = [f"images/{ONE}{number}-small.webp" for number in (3, 1, 2)]
    for name in (*put, f"documents/{ONE}1"):
        await storage.put(name, file, "image/webp")
    assert await names(storage, "images/") == sorted(put)
    assert await names(storage, "images/", f"images/{ONE}2") == sorted(put)[1:]
    assert await names(storage, "incoming/") == []


async def test_nothing_is_read_where_nothing_lies(storage: Storage) -> None:
    with pytest.raises(NotStored):
        await content(storage, f"documents/{ONE}1")


@pytest.mark.parametrize(
    "name", ["", "images", "images/", "../images/a", "images/../a", "images/a/b", "/etc/passwd", "images/\n"]
)
async def test_a_name_that_was_not_made_here_is_none(storage: Storage, file: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        await storage.put(name, file, "image/webp")
    with pytest.raises(ValueError, match="no name"):
        await storage.delete([name])
    with pytest.raises(ValueError, match="no name"):
        await storage.signed_get(name, "image/webp", "attachment", 60)


# Over the S3 protocol, with signatures that are looked at


async def asked(method: str, url: str, **more: Any) -> tuple[int, bytes, Any]:
    async with aiohttp.ClientSession() as session, session.request(method, url, **more) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_leave_to_put_is_for_that_very_length_type_and_hash(bucket: Storage) -> None:
    name, digest = f"incoming/{ONE}1", hashlib.sha256(CONTENT).digest()
    leave = await bucket.signed_put(name, "image/jpeg", len(CONTENT), digest, 60)
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    for headers, body in (
        ({**leave.headers}, CONTENT + b"!"),
        ({**leave.headers}, CONTENT[1:]),
        ({**leave.headers, "Content-Type": "text/html"}, CONTENT),
        ({**leave.headers, "x-amz-checksum-sha256": other}, CONTENT),
        ({"Content-Type": "image/jpeg"}, CONTENT),
    ):
        assert (await asked("PUT", leave.url, headers=headers, data=body))[0] == 403
    assert (await asked("GET", leave.url, headers=dict(leave.headers)))[0] == 403
    assert (await asked("PUT", leave.url.replace(f"{ONE}1", f"{ONE}2"), headers=dict(leave.headers), data=CONTENT))[
        0
    ] == 403
    assert await names(bucket, "incoming/") == []
    assert (await asked("PUT", leave.url, headers=dict(leave.headers), data=CONTENT))[0] == 200
    assert await content(bucket, name) == CONTENT


async def test_leave_of_a_bucket_ends(bucket: Storage, file: Path) -> None:
    name, digest = f"incoming/{ONE}1", hashlib.sha256(CONTENT).digest()
    leave = await bucket.signed_put(name, "image/jpeg", len(CONTENT), digest, 1)

    async def over() -> bool:
        return (await asked("PUT", leave.url, headers=dict(leave.headers), data=CONTENT))[0] == 403

    await eventually(over)


async def test_a_private_file_is_read_by_a_link_and_not_without(bucket: Storage, file: Path) -> None:
    name = f"documents/{ONE}1"
    await bucket.put(name, file, "application/pdf")
    url = await bucket.signed_get(name, "application/pdf", 'attachment; filename="deed.pdf"', 60)
    status, body, headers = await asked("GET", url)
    assert (status, body, headers["Content-Type"]) == (200, CONTENT, "application/pdf")
    assert (await asked("GET", url.partition("?")[0]))[0] == 403


async def test_what_everybody_reads_is_kept_for_ever_and_nothing_else(bucket: Storage, file: Path) -> None:
    for name, kept in ((f"images/{ONE}1-small.webp", "immutable"), (f"documents/{ONE}1", "no-store")):
        await bucket.put(name, file, "image/webp")
        url = await bucket.signed_get(name, "image/webp", "attachment", 60)
        assert kept in (await asked("GET", url))[2]["Cache-Control"]


# When it is away


async def everything_fails(storage: Storage, file: Path) -> None:
    name = f"images/{ONE}1-small.webp"
    for ask in (
        lambda: storage.put(name, file, "image/webp"),
        lambda: storage.find(name),
        lambda: storage.delete([name]),
        lambda: content(storage, name),
        lambda: names(storage, "images/"),
    ):
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await ask()
        assert time.monotonic() - begun < 5


def of_bucket(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"media": settings.media.model_copy(update=changes)})


async def test_a_bucket_that_nobody_serves_is_away(bucket_settings: Settings, file: Path) -> None:
    settings = of_bucket(bucket_settings, endpoint=f"http://127.0.0.1:{free_port()}")
    storage = await open_storage(settings, Clock())
    await everything_fails(storage, file)
    await storage.close()


async def test_a_bucket_that_does_not_answer_is_given_up(bucket_settings: Settings, file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = of_bucket(bucket_settings, endpoint=endpoint, storage_seconds=0.3, transfer_seconds=0.5)
        storage = await open_storage(settings, Clock())
        await everything_fails(storage, file)
        await storage.close()


@pytest.mark.parametrize("wrong", [{"secret_key": SecretStr("another")}, {"bucket": "no-such-bucket"}])
async def test_a_bucket_that_refuses_us_is_away(bucket_settings: Settings, file: Path, wrong: dict[str, Any]) -> None:
    storage = await open_storage(of_bucket(bucket_settings, **wrong), Clock())
    with pytest.raises(Unavailable):
        await storage.put(f"images/{ONE}1-small.webp", file, "image/webp")
    await storage.close()


async def test_a_directory_that_cannot_be_written_is_away(settings: Settings, file: Path) -> None:
    media = settings.media.model_copy(update={"directory": str(file)})  # which is a file
    storage = await open_storage(settings.model_copy(update={"media": media}), Clock())
    with pytest.raises(Unavailable):
        await storage.put(f"images/{ONE}1-small.webp", file, "image/webp")


async def test_a_file_that_breaks_off_leaves_nothing(directory: Directory) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await directory.receive(f"incoming/{ONE}1", chunks(), 8, hashlib.sha256(b"half a file").digest())
    assert [path for path in directory._root.rglob("*") if path.is_file()] == []


async def test_the_loop_does_not_wait_for_a_large_file(storage: Storage, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(20 * 1024 * 1024))
    put = asyncio.create_task(storage.put(f"documents/{ONE}1", large, "application/pdf"))
    worst = 0.0
    while not put.done():
        begun = time.monotonic()
        await asyncio.sleep(0)
        worst = max(worst, time.monotonic() - begun)
    await put
    assert worst < 0.2


# Settings


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"K2K_MEDIA__BUCKET": "media", "K2K_MEDIA__HOST": "https://cdn.example/"}, "needs media.access_key"),
        (
            {"K2K_MEDIA__BUCKET": "media", "K2K_MEDIA__ACCESS_KEY": "a", "K2K_MEDIA__SECRET_KEY": "hidden-words"},
            "media.host must say",
        ),
        ({"K2K_MEDIA__HOST": "ftp://cdn.example/"}, "media.host"),
    ],
)
def test_half_a_bucket_is_refused_at_the_start(given: dict[str, str], wanted: str) -> None:
    with pytest.raises(SettingsError, match=wanted) as refused:
        load(given)
    assert "hidden-words" not in str(refused.value)


async def test_the_maker_follows_the_settings(bucket: Storage, directory: Storage) -> None:
    assert isinstance(bucket, Bucket)
    assert isinstance(directory, Directory)
