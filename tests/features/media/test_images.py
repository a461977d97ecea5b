"""Images: known by what they hold, written anew in three sizes, without a word of where they were taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from PIL import Image

from k2k.app import open_studio
from k2k.core.errors import Unavailable
from k2k.core.ids import UserId
from k2k.core.settings import Settings
from k2k.features.media import darkroom as module
from k2k.features.media import store
from k2k.features.media.darkroom import Darkroom, Developed
from k2k.features.media.errors import FileRefused, MediaBusy
from k2k.features.media.incoming import receive
from k2k.features.media.models import IMAGES, Purpose
from k2k.features.media.studio import LAID_AT_ONCE
from k2k.infra.transaction import Reader
from k2k.ops.files import Files
from tests.pictures import BRAND, HTML, SVG, encoded, form, huge_png, named, photo, telling_photo
from tests.support import Api, Node, People, Person, Response, eventually


async def upload(api: Api, person: Person, *files: bytes, **more: Any) -> Response:
    return await api.post("/uploads/images", data=form(*files, **more), token=person.token)


async def served(api: Api, url: str) -> tuple[int, Any, bytes]:
    async with aiohttp.ClientSession() as session, session.get(api.base + url) as answer:
        return answer.status, answer.headers, await answer.read()


def picture_of(body: bytes) -> Image.Image:
    return Image.open(BytesIO(body)).convert("RGB")


def lying(node: Node) -> set[Path]:
    """Every file of the storage and of the tables where files are laid."""
    home = node.settings.home
    return {path for where in ("media", "workroom") for path in (home / where).rglob("*") if path.is_file()}


async def rows(node: Node) -> int:
    return int((await node.process.db.records("select count(*) from media", ()))[0][0])


async def test_an_image_is_served_in_three_sizes_and_never_enlarged(api: Api, people: People) -> None:
    person = await people.buyer()
    answer = await upload(api, person, photo(2400, 1200), photo(500, 1000, seed=1))
    assert answer.status == 201
    sizes = []
    for made in answer.json:
        assert (made["purpose"], made["state"], made["media_type"]) == ("image", "ready", "image/jpeg")
        for field in ("url", "medium_url", "small_url"):
            status, headers, body = await served(api, made[field])
            assert (status, headers["Content-Type"]) == (200, "image/webp")
            assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert body[8:12] == b"WEBP"
            sizes.append(picture_of(body).size)
    assert sizes == [(1920, 960), (960, 480), (320, 160), (500, 1000), (480, 960), (160, 320)]
    assert [(made["width"], made["height"]) for made in answer.json] == [(1920, 960), (500, 1000)]


async def test_nothing_that_a_camera_notes_is_served(api: Api, people: People) -> None:
    sent = telling_photo()
    assert BRAND.encode() in sent
    made = (await upload(api, await people.buyer(), sent)).json[0]
    for field in ("url", "medium_url", "small_url"):
        body = (await served(api, made[field]))[2]
        assert BRAND.encode() not in body
        assert not any(word in body for word in (b"EXIF", b"Exif", b"XMP ", b"ICCP"))
        assert len(Image.open(BytesIO(body)).getexif()) == 0


@pytest.mark.parametrize(
    ("orientation", "size", "red"),
    [(1, (400, 200), (10, 100)), (3, (400, 200), (390, 100)), (6, (200, 400), (100, 10))],
)
async def test_a_picture_stands_upright_whichever_way_the_telephone_was_held(
    api: Api, people: People, orientation: int, size: tuple[int, int], red: tuple[int, int]
) -> None:
    made = (await upload(api, await people.buyer(), telling_photo(orientation))).json[0]
    picture = picture_of((await served(api, made["url"]))[2])
    assert picture.size == size
    r, g, b = picture.getpixel(red)  # type: ignore[misc]
    assert r > 180 > 80 > max(g, b)


async def test_what_to_show_until_a_picture_is_there_is_known(api: Api, people: People, node: Node) -> None:
    person = await people.buyer()
    plain = encoded(Image.new("RGB", (300, 200), "#2040a0"), "PNG")
    made = (await upload(api, person, plain)).json[0]
    assert all(
        abs(int(made["color"][at : at + 2], 16) - wanted) < 12 for at, wanted in ((1, 0x20), (3, 0x40), (5, 0xA0))
    )
    assert made["blurhash"][0] == "L"  # four by three components
    assert len(made["blurhash"]) == 28


async def test_pictures_that_look_alike_have_hashes_that_differ_little(api: Api, people: People, node: Node) -> None:
    person = await people.buyer()
    seen = photo(800, 600, quality=95), photo(400, 300, quality=40), photo(800, 600, seed=7)
    made = (await upload(api, person, *seen)).json
    found = await node.process.db.records("select id, phash from media where owner_id = $1", [person.id])
    hashes = {str(row["id"]): row["phash"] % 2**64 for row in found}
    one, smaller, other = (hashes[each["id"]] for each in made)
    assert (one ^ smaller).bit_count() <= 3
    assert (one ^ other).bit_count() > 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
async def test_the_kinds_that_are_taken(api: Api, people: People, kind: str) -> None:
    """Whatever was said of them: telephones are often wrong about it."""
    answer = await upload(api, await people.buyer(), photo(kind=kind), name="IMG_0001", media_type=None)
    assert (answer.status, answer.json[0]["media_type"]) == (201, f"image/{kind.lower()}")


UNUSUAL = {
    "see-through": encoded(Image.new("RGBA", (50, 50), (255, 0, 0, 0)), "PNG"),
    "grey": encoded(Image.new("L", (50, 50), 255), "JPEG"),
    "sixteen bits": encoded(Image.new("I;16", (50, 50), 65535), "PNG"),
    "for print": encoded(Image.new("CMYK", (50, 50), (0, 0, 0, 0)), "JPEG"),
    "two colours": encoded(Image.new("1", (50, 50), 1), "PNG"),
    "a palette": encoded(Image.new("RGB", (50, 50), "white").quantize(4), "GIF"),
    "a pixel": encoded(Image.new("RGB", (1, 1), "white"), "PNG"),
    "a line": encoded(Image.new("RGB", (5000, 1), "white"), "PNG"),
    "a broken profile": encoded(Image.new("RGB", (50, 50), "white"), "JPEG", icc_profile=b"nonsense" * 20),
}


@pytest.mark.parametrize("name", UNUSUAL)
async def test_unusual_pictures_become_white_ones(api: Api, people: People, name: str) -> None:
    answer = await upload(api, await people.buyer(), UNUSUAL[name])
    assert answer.status == 201, answer.json
    picture = picture_of((await served(api, answer.json[0]["url"]))[2])
    assert all(channel > 240 for channel in picture.getpixel((0, 0)))  # type: ignore[union-attr]


POLYGLOTS = {
    "an image and a page": photo() + HTML,
    "a page in a comment": encoded(Image.new("RGB", (60, 60), "white"), "JPEG", comment=HTML),
    "a GIF that is a script": encoded(Image.new("P", (60, 60)), "GIF") + b"/*" + HTML + b"*/=1;alert(1)",
    "an image and an archive": photo(kind="PNG") + b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", POLYGLOTS)
async def test_a_second_meaning_is_lost_on_the_way(api: Api, people: People, name: str) -> None:
    answer = await upload(api, await people.buyer(), POLYGLOTS[name])
    assert answer.status == 201, answer.json
    _, headers, body = await served(api, answer.json[0]["url"])
    assert headers["Content-Type"] == "image/webp"
    assert b"script" not in body
    assert b"PK\x03\x04" not in body


REFUSED = {
    "an SVG with a script": (SVG, "drawing.svg", "image/svg+xml", "media-type"),
    "an SVG that says it is a JPEG": (SVG, "photo.jpg", "image/jpeg", "no-image"),
    "a page named .jpg": (HTML, "photo.jpg", "image/jpeg", "no-image"),
    "a page": (HTML, "photo.jpg", "text/html", "media-type"),
    "a PDF": (b"%PDF-1.4\n", "photo.jpg", "image/jpeg", "no-image"),
    "nothing": (b"", "photo.jpg", "image/jpeg", "no-image"),
    "noise": (bytes(range(256)) * 40, "photo.jpg", "image/jpeg", "no-image"),
    "a JPEG that ends too early": (photo(1200, 900)[:2000], "photo.jpg", "image/jpeg", "unreadable"),
    "the first bytes of a JPEG": (b"\xff\xd8\xff\xe0" + bytes(50), "photo.jpg", "image/jpeg", "no-image"),
    "a PNG of 144 megapixels": (huge_png(), "photo.png", "image/png", "too-many-pixels"),
    "a TIFF": (encoded(Image.new("RGB", (9, 9)), "TIFF"), "photo.tif", "image/jpeg", "no-image"),
    "a BMP": (encoded(Image.new("RGB", (9, 9)), "BMP"), "photo.bmp", "", "no-image"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_image_of_ours_is_refused_and_leaves_nothing(
    api: Api, people: People, node: Node, name: str
) -> None:
    content, file_name, media_type, reason = REFUSED[name]
    before, files = await rows(node), lying(node)
    person = await people.buyer()
    # The good one beside it is not kept either.
    sent = form(photo(seed=3))
    sent.add_field("files", BytesIO(content), filename=file_name, content_type=media_type or "application/octet-stream")
    answer = await api.post("/uploads/images", data=sent, token=person.token)
    assert (answer.status, answer.json["code"]) == (422, "file-refused")
    assert [(fault["pointer"], fault["code"]) for fault in answer.json["errors"]] == [("/files/1", reason)]
    assert await rows(node) == before
    assert lying(node) == files


async def test_a_file_over_the_limit_is_refused(api: Api, people: People, node: Node) -> None:
    before = lying(node)
    answer = await upload(api, await people.buyer(), photo() + bytes(20 * 2**20))
    assert (answer.status, answer.json["code"]) == (413, "file-too-large")
    assert lying(node) == before


async def test_more_files_than_a_request_may_bring_are_refused(api: Api, people: People) -> None:
    answer = await upload(api, await people.buyer(), *[HTML] * 21, media_type=None)
    assert (answer.status, answer.json["code"]) == (413, "file-too-large")


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (b"{}", {"Content-Type": "application/json"}),
        (photo(), {"Content-Type": "image/jpeg"}),
        (b"", {"Content-Type": "multipart/form-data"}),
        (b"no parts", {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"--x\r\nContent-Disposition: form-data; name=other\r\n\r\na\r\n--x--\r\n",
         {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"--x\r\nContent-Disposition: form-data; name=files\r\n\r\nno file\r\n--x--\r\n",
         {"Content-Type": "multipart/form-data; boundary=x"}),
    ],
)  # fmt: skip
async def test_what_is_no_form_with_files_is_refused(
    api: Api, people: People, sent: bytes, headers: dict[str, str]
) -> None:
    person = await people.buyer()
    answer = await api.post("/uploads/images", data=sent, headers=headers, token=person.token)
    assert answer.status in (400, 415), answer.json


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\me.jpg", "C:photosme.jpg"),
        ("ቤት.jpg", "ቤት.jpg"),
        ("a" * 300 + ".jpg", "a" * 255),
        ("..", ".."),
    ],
)
async def test_a_name_is_shown_without_what_could_harm(api: Api, people: People, name: str, shown: str) -> None:
    person = await people.buyer()
    answer = await api.post("/uploads/images", token=person.token, **named(name, photo()))
    assert (answer.status, answer.json[0]["name"]) == (201, shown)


async def test_a_name_with_control_characters_is_no_header(api: Api, people: People) -> None:
    person = await people.buyer()
    answer = await api.post("/uploads/images", token=person.token, **named("bad\x01\x02name\x7f.jpg", photo()))
    assert (answer.status, answer.json["code"]) == (400, "bad-request")


async def test_the_same_file_again_is_the_same_upload(api: Api, people: People, node: Node) -> None:
    person, other = await people.buyer(), await people.buyer()
    first = (await upload(api, person, photo(), photo())).json
    assert first[0]["id"] == first[1]["id"]
    files = lying(node)
    again = (await upload(api, person, photo())).json
    assert again[0]["id"] == first[0]["id"]
    assert lying(node) == files
    assert (await upload(api, other, photo())).json[0]["id"] != first[0]["id"]


async def test_nobody_uploads_without_signing_in(api: Api) -> None:
    assert (await api.post("/uploads/images", data=form(photo()))).status == 401


@pytest.fixture(scope="module")
async def sparing(settings: Settings) -> AsyncIterator[Node]:
    """A node where a person uploads three files a day."""
    media = settings.media.model_copy(update={"uploads_per_day": 3})
    node = await Node.start(settings.model_copy(update={"media": media}))
    yield node
    await node.stop()


async def test_one_person_uploads_no_more_than_a_day_allows(sparing: Node) -> None:
    person = await People(sparing).buyer()
    assert (await upload(sparing.api, person, *map(numbered, range(3)))).status == 201
    answer = await upload(sparing.api, person, numbered(3))
    assert (answer.status, answer.json["code"]) == (429, "uploads-used-up")


def numbered(seed: int) -> bytes:
    return photo(60, 40, seed=seed)


async def test_a_request_that_would_go_beyond_it_is_refused_whole(sparing: Node) -> None:
    """What is known already is nothing more."""
    person = await People(sparing).buyer()
    assert (await upload(sparing.api, person, numbered(0), numbered(1))).status == 201
    before = lying(sparing)
    answer = await upload(sparing.api, person, numbered(2), numbered(3))
    assert (answer.status, answer.json["code"]) == (429, "uploads-used-up")
    assert lying(sparing) == before
    assert (await upload(sparing.api, person, numbered(0), numbered(1), numbered(2))).status == 201


async def test_requests_at_once_go_no_further_than_a_day_allows_either(
    sparing: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly(db: Reader, owner: UserId, moment: datetime) -> int:
        found = await uploads_since(db, owner, moment)
        await asyncio.sleep(0.05)
        return found

    uploads_since = store.uploads_since
    monkeypatch.setattr(store, "uploads_since", slowly)
    people = People(sparing)
    person = await people.buyer()
    sent = [upload(sparing.api, person, numbered(2 * each), numbered(2 * each + 1)) for each in range(3)]
    wish = {"purpose": "image", "name": "a.jpg", "media_type": "image/jpeg", "bytes": 5, "sha256": "0a" * 32}
    told = [sparing.api.post("/uploads", json=wish, token=person.token) for _ in range(6)]
    answers = await asyncio.gather(*sent, *told)
    assert {answer.status for answer in answers} == {201, 429}
    count = await sparing.process.db.records("select count(*) from media where owner_id = $1", [person.id])
    assert count[0][0] <= 3


# The darkroom by itself

ONE, OTHER = UserId(uuid4()), UserId(uuid4())


def darkroom(settings: Settings, **changes: Any) -> Darkroom:
    return Darkroom(settings.media.model_copy(update=changes))


async def test_a_picture_that_takes_too_long_is_given_up(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(photo(4000, 3000))
    room = darkroom(settings, develop_seconds=0.01)
    with pytest.raises(MediaBusy):  # it is not the picture's fault
        await room.develop(file, tmp_path, ONE)
    assert not room._running
    room.close()


async def test_a_picture_that_takes_too_much_work_is_given_up(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spinning = tmp_path / "spinning.py"
    spinning.write_text(f"import runpy\nrunpy.run_path({str(module.PROGRAM)!r})['confine'](640, 1)\nwhile True: pass")
    monkeypatch.setattr(module, "PROGRAM", spinning)
    room = darkroom(settings)
    with pytest.raises(FileRefused) as refused:
        await room.develop(tmp_path / "file", tmp_path, ONE)
    assert refused.value.problems[0].code == "too-heavy"
    room.close()


async def test_a_picture_that_takes_too_much_memory_is_given_up(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(huge_png(24_000))
    room = darkroom(settings, megapixels=1000, develop_mib=256)
    with pytest.raises(FileRefused) as refused:
        await room.develop(file, tmp_path, ONE)
    assert refused.value.problems[0].code in ("too-heavy", "unreadable")
    room.close()


async def test_whoever_comes_when_too_many_wait_is_told_so(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(photo())
    room = darkroom(settings, develop_at_once=1, develop_waiting=1)
    waiting = [asyncio.create_task(room.develop(file, tmp_path, ONE)) for _ in range(2)]
    await asyncio.sleep(0)
    assert room.waiting == 2
    with pytest.raises(MediaBusy) as busy:
        await room.develop(file, tmp_path, ONE)
    assert busy.value.retry_after == 5
    await asyncio.gather(*waiting)
    assert room.waiting == 0
    room.close()


@pytest.fixture
async def slow(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Darkroom]:
    """A darkroom where one picture at a time is developed, which does not end, and a hundred may wait."""
    sleeping = tmp_path / "sleeping.py"
    sleeping.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(module, "PROGRAM", sleeping)
    room = darkroom(settings, develop_at_once=1, develop_waiting=98)
    yield room
    room.close()


async def begun(room: Darkroom, file: Path, owner: UserId) -> asyncio.Task[Developed]:
    task = asyncio.create_task(room.develop(file, file.parent, owner))
    await asyncio.sleep(0)
    return task


async def test_nobody_fills_the_queue_alone(slow: Darkroom, tmp_path: Path) -> None:
    file = tmp_path / "file"
    waiting = [await begun(slow, file, ONE) for _ in range(33)]
    with pytest.raises(MediaBusy):
        slow.require_room(ONE)
    with pytest.raises(MediaBusy):
        await slow.develop(file, tmp_path, ONE)
    slow.require_room(OTHER)
    waiting.append(await begun(slow, file, OTHER))
    assert slow.waiting == 34
    slow.close()
    await asyncio.wait(waiting)
    await asyncio.sleep(0)
    assert slow.waiting == 0
    slow.require_room(ONE)


async def test_a_picture_that_nobody_waits_for_any_more_leaves_the_queue(slow: Darkroom, tmp_path: Path) -> None:
    first, second = [await begun(slow, tmp_path / "file", ONE) for _ in range(2)]
    second.cancel()

    async def gone() -> bool:
        return slow.waiting == 1

    await eventually(gone)
    assert not first.done()
    slow.close()
    await asyncio.wait([first, second])


async def test_a_file_that_is_refused_ends_the_wait_of_the_others(
    api: Api, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be developed for nothing: none is kept."""
    begun: list[Path] = []

    def counted(room: Darkroom, file: Path, directory: Path) -> Developed | str:
        begun.append(file)
        return develop(room, file, directory)

    develop = Darkroom._develop
    monkeypatch.setattr(Darkroom, "_develop", counted)
    person = await people.buyer()
    answer = await upload(api, person, HTML, *[photo(3000, 2000, seed=seed) for seed in range(12)], media_type=None)
    assert (answer.status, answer.json["code"]) == (422, "file-refused")
    assert [problem["pointer"] for problem in answer.json["errors"]] == ["/files/0"]
    assert len(begun) < 8


async def test_one_owner_has_a_few_requests_on_disk_at_once(node: Node) -> None:
    """Whoever comes with more is told so before anything of it was read; others have their own."""
    studio = await open_studio(node.settings, node.process.db.clock)
    async with AsyncExitStack() as tables:
        for _ in range(3):
            await tables.enter_async_context(studio.table(ONE, Purpose.image, IMAGES.most))
        for purpose, wanted in ((Purpose.image, MediaBusy), (Purpose.document, Unavailable)):
            with pytest.raises(wanted):
                await tables.enter_async_context(studio.table(ONE, purpose, 1))
        with pytest.raises(MediaBusy):
            await receive(
                node.process.db.transaction, studio, ONE, Purpose.image, unread(), node.process.db.clock.now()
            )
        await tables.enter_async_context(studio.table(OTHER, Purpose.image, IMAGES.most))
    async with studio.table(ONE, Purpose.image, LAID_AT_ONCE):
        pass
    await studio.close()


async def unread() -> Files:
    raise AssertionError("nothing is read")
    yield


async def test_the_program_that_develops_inherits_no_secret(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = tmp_path / "spy.py"
    spy.write_text("import json, os, sys; json.dump({'refused': json.dumps(sorted(os.environ))}, sys.stdout)")
    monkeypatch.setattr(module, "PROGRAM", spy)
    monkeypatch.setenv("SOME_SECRET", "hidden")
    room = darkroom(settings)
    with pytest.raises(FileRefused) as refused:
        await room.develop(tmp_path / "file", tmp_path, ONE)
    assert set(json.loads(refused.value.problems[0].code)) <= {"LC_CTYPE"}
    room.close()
