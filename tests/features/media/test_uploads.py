"""Uploads put into the storage itself, documents for their owner alone, taking away: in a directory and over S3."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from k2k.core.settings import Settings
from tests.pictures import HTML, PDF, SVG, form, photo
from tests.support import Api, Node, People, Person, Response, eventually, moment


def wish(content: bytes, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    told = {"purpose": "image", "name": "house.jpg", "media_type": "image/jpeg", "bytes": len(content)}
    return {**told, "sha256": digest, **changes}


async def asked(site: Node, method: str, url: str, **more: Any) -> tuple[int, Any, bytes]:
    """What is answered at a URL that an answer named."""
    whole = url if url.startswith("http") else site.api.base + url
    async with aiohttp.ClientSession() as session, session.request(method, whole, **more) as answer:
        return answer.status, answer.headers, await answer.read()


async def announced(site: Node, person: Person, content: bytes, **changes: Any) -> Any:
    answer = await site.api.post("/uploads", json=wish(content, **changes), token=person.token)
    assert answer.status == 201, answer.json
    return answer.json


async def put(site: Node, leave: Any, content: bytes, **headers: str) -> int:
    return (await asked(site, "PUT", leave["url"], data=content, headers={**leave["headers"], **headers}))[0]


async def completed(site: Node, person: Person, leave: Any) -> Response:
    return await site.api.post(f"/uploads/{leave['media_id']}/complete", token=person.token)


async def test_a_picture_put_into_the_storage_is_completed(site: Node) -> None:
    person, content = await People(site).buyer(), photo(1000, 500)
    leave = await announced(site, person, content)
    waiting = await site.api.get(f"/uploads/{leave['media_id']}", token=person.token)
    assert (waiting.json["state"], waiting.json["url"]) == ("waiting", None)
    early = await completed(site, person, leave)
    assert (early.status, early.json["code"]) == (409, "nothing-uploaded")
    assert await put(site, leave, content) in (200, 204)
    made = await completed(site, person, leave)
    assert (made.status, made.json["state"], made.json["width"]) == (200, "ready", 1000)
    assert (await completed(site, person, leave)).json == made.json
    assert (await site.api.get(f"/uploads/{leave['media_id']}", token=person.token)).json == made.json


async def test_leave_is_for_a_while(site: Node) -> None:
    person = await People(site).buyer()
    leave = await announced(site, person, photo())
    minutes = (moment(leave["expires_at"]) - site.process.db.clock.now()).total_seconds() / 60
    assert 14 < minutes <= 15


@pytest.mark.parametrize(
    "sent", [photo() + b"!", photo()[1:], photo(seed=1), b""], ids=["longer", "shorter", "another", "nothing"]
)
async def test_what_was_not_announced_does_not_get_in(site: Node, sent: bytes) -> None:
    """A bucket may take another file of the same length, for it need not look at hashes: completing it does."""
    person, content = await People(site).buyer(), photo()
    leave = await announced(site, person, content)
    status = await put(site, leave, sent)
    assert status in (403, 422) or (status == 200 and len(sent) == len(content))
    answer = await completed(site, person, leave)
    assert (answer.status, answer.json["code"]) in ((409, "nothing-uploaded"), (422, "not-as-announced"))


async def test_another_file_of_the_same_length_is_known_by_its_hash(site: Node) -> None:
    person, content = await People(site).buyer(), photo()
    leave = await announced(site, person, content)
    status = await put(site, leave, bytes(len(content)))
    assert status in (200, 422)
    answer = await completed(site, person, leave)
    wanted = (422, "not-as-announced") if status == 200 else (409, "nothing-uploaded")
    assert (answer.status, answer.json["code"]) == wanted
    assert (await completed(site, person, leave)).json["code"] == "nothing-uploaded"


async def test_a_type_that_was_not_announced_is_refused(site: Node) -> None:
    person, content = await People(site).buyer(), photo()
    leave = await announced(site, person, content)
    assert await put(site, leave, content, **{"Content-Type": "text/html"}) in (403, 422)
    assert (await completed(site, person, leave)).json["code"] == "nothing-uploaded"


@pytest.mark.parametrize("content", [HTML, SVG, photo()[:3000]], ids=["page", "drawing", "broken"])
async def test_what_is_no_picture_is_refused_when_it_is_completed(site: Node, content: bytes) -> None:
    person = await People(site).buyer()
    leave = await announced(site, person, content)
    assert await put(site, leave, content) in (200, 204)
    answer = await completed(site, person, leave)
    assert (answer.status, answer.json["code"]) == (422, "file-refused")
    assert (await completed(site, person, leave)).json["code"] == "nothing-uploaded"


async def test_another_kind_of_picture_than_announced_is_refused(site: Node) -> None:
    person, content = await People(site).buyer(), photo(kind="PNG")
    leave = await announced(site, person, content)
    assert await put(site, leave, content) in (200, 204)
    answer = await completed(site, person, leave)
    assert (answer.status, answer.json["code"]) == (422, "not-as-announced")


async def test_nobody_else_completes_reads_links_or_deletes_it(site: Node) -> None:
    people = People(site)
    owner, stranger = await people.buyer(), await people.buyer()
    leave = await announced(site, owner, PDF, purpose="document", media_type="application/pdf")
    assert await put(site, leave, PDF) in (200, 204)
    assert (await completed(site, owner, leave)).status == 200
    at = f"/uploads/{leave['media_id']}"
    for method, path in (("POST", f"{at}/complete"), ("GET", at), ("POST", f"{at}/link"), ("DELETE", at)):
        answer = await site.api.request(method, path, token=stranger.token)
        assert (answer.status, answer.json["code"]) == (404, "upload-not-found")
    assert (await site.api.get(at, token=owner.token)).status == 200


BAD_WISHES: dict[str, dict[str, Any]] = {
    "a type of another purpose": {"media_type": "application/pdf"},
    "an unknown type": {"media_type": "image/svg+xml"},
    "no bytes": {"bytes": 0},
    "too many bytes": {"bytes": 20 * 2**20 + 1},
    "half a hash": {"sha256": "0a" * 16},
    "no hash": {"sha256": "z" * 64},
    "a path for a name": {"name": "../../etc/passwd"},
    "a path of Windows": {"name": "C:\\me.jpg"},
    "control characters": {"name": "me\x01.jpg"},
    "a long name": {"name": "a" * 300},
    "no name": {"name": " "},
    "an owner": {"owner_id": str(uuid4())},
    "a state": {"state": "ready"},
    "a key": {"key": "images/x"},
}


@pytest.mark.parametrize("fault", BAD_WISHES)
async def test_what_cannot_be_announced_is_refused(api: Api, people: People, fault: str) -> None:
    person = await people.buyer()
    answer = await api.post("/uploads", json=wish(photo(), **BAD_WISHES[fault]), token=person.token)
    assert (answer.status, answer.json["code"]) == (422, "invalid")


# Documents


async def document(site: Node, person: Person, content: bytes = PDF, **more: Any) -> Response:
    sent = form(content, **{"name": "deed.pdf", "media_type": "application/pdf", **more})
    return await site.api.post("/uploads/documents", data=sent, token=person.token)


async def test_a_document_is_saved_by_a_link_and_never_shown(site: Node) -> None:
    person = await People(site).buyer()
    made = (await document(site, person)).json[0]
    assert (made["purpose"], made["media_type"], made["url"]) == ("document", "application/pdf", None)
    link = await site.api.post(f"/uploads/{made['id']}/link", token=person.token)
    assert (moment(link.json["expires_at"]) - site.process.db.clock.now()).total_seconds() <= 60
    status, headers, body = await asked(site, "GET", link.json["url"])
    assert (status, body, headers["Content-Type"]) == (200, PDF, "application/pdf")
    if not link.json["url"].startswith("http"):  # a bucket has an address of its own, where nothing of ours is
        assert headers["Content-Disposition"] == "attachment; filename=\"deed.pdf\"; filename*=UTF-8''deed.pdf"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("sandbox;")
        assert headers["Cache-Control"] == "private, no-store"
    bare = link.json["url"].partition("?")[0]
    assert (await asked(site, "GET", bare))[0] == 403


@pytest.mark.parametrize(
    ("content", "media_type", "reason"),
    [
        (HTML, "application/pdf", "no-document"),
        (b" " + PDF, "application/pdf", "no-document"),
        (b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "media-type"),
        (b"PK\x03\x04", None, "no-document"),
        (photo(kind="GIF"), None, "no-document"),
        (SVG, "image/svg+xml", "media-type"),
        (b"", "application/pdf", "no-document"),
    ],
)
async def test_what_is_no_document_is_refused(
    api: Api, node: Node, people: People, content: bytes, media_type: str | None, reason: str
) -> None:
    answer = await document(node, await people.buyer(), content, media_type=media_type)
    assert (answer.status, answer.json["code"]) == (422, "file-refused")
    assert [fault["code"] for fault in answer.json["errors"]] == [reason]


async def test_an_image_has_no_link_and_a_document_no_address(site: Node) -> None:
    person = await People(site).buyer()
    sent = await site.api.post("/uploads/images", data=form(photo()), token=person.token)
    answer = await site.api.post(f"/uploads/{sent.json[0]['id']}/link", token=person.token)
    assert (answer.status, answer.json["code"]) == (404, "upload-not-found")


# Taking away


async def test_an_upload_is_deleted_with_its_files(node: Node, api: Api, people: People) -> None:
    person = await people.buyer()
    made = (await api.post("/uploads/images", data=form(photo()), token=person.token)).json[0]
    gone = await api.delete(f"/uploads/{made['id']}", token=person.token)
    assert (gone.status, gone.json) == (200, {"message": "Upload deleted successfully"})
    assert (await api.get(f"/uploads/{made['id']}", token=person.token)).status == 404

    async def no_file() -> bool:
        return (await asked(node, "GET", made["url"]))[0] == 404

    await eventually(no_file)


async def test_an_upload_that_a_listing_shows_stays(api: Api, people: People) -> None:
    seller = await people.agent()
    listing = await people.listing(seller)
    made = (await api.post("/uploads/images", data=form(photo()), token=seller.token)).json[0]
    order = {"images": [made["id"]]}
    assert (await api.put(f"/properties/{listing}/images", json=order, token=seller.token)).status == 200
    answer = await api.delete(f"/uploads/{made['id']}", token=seller.token)
    assert (answer.status, answer.json["code"]) == (409, "upload-in-use")


async def test_while_the_storage_is_away_nothing_is_half_done(settings: Settings, tmp_path: Any) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    media = settings.media.model_copy(update={"directory": str(blocked)})
    node = await Node.start(settings.model_copy(update={"media": media}))
    try:
        person = await People(node).buyer()
        answer = await node.api.post("/uploads/images", data=form(photo()), token=person.token)
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        rows = await node.process.db.records("select state from media where owner_id = $1", [person.id])
        assert [row["state"] for row in rows] == ["waiting"]
    finally:
        await node.stop()
