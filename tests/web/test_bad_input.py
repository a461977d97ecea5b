"""Whatever comes over HTTP is answered in the 400s, by a problem document, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from k2k.app import OPERATIONS
from k2k.ops.registry import Operation
from tests.support import PREFIX, Api, Node, People, Person, a_property

JSON = {"Content-Type": "application/json"}
SOMEBODY = "018f0000-0000-7000-8000-000000000000"
TABLES = ("users", "agencies", "agent_profiles", "listings", "leads", "conversations", "messages", "events")
BODIED = [operation for operation in OPERATIONS if "body" in operation.models]
READS = [operation for operation in OPERATIONS if operation.method == "GET"]


def name_of(operation: Operation) -> str:
    return operation.name


def address_of(operation: Operation) -> str:
    """Its address, with a well-formed id that is nobody's in each placeholder."""
    return re.sub(r"{\w+}", SOMEBODY, operation.path)


async def counted(node: Node) -> dict[str, int]:
    async with node.process.db.transaction() as tx:
        rows = [(await tx.records(f"select count(*) from {table}", ()))[0][0] for table in TABLES]  # noqa: S608
    return dict(zip(TABLES, rows, strict=True))


@pytest.fixture(scope="module")
async def seller(people: People) -> Person:
    """Somebody whom no operation is denied to."""
    return await people.admin()


@pytest.fixture
async def untouched(node: Node, seller: Person) -> AsyncIterator[None]:
    """Nothing is written while the story runs."""
    before = await counted(node)
    yield
    assert await counted(node) == before


async def spoken(api: Api, sent: bytes) -> bytes:
    """What is answered to these very bytes, until the server hangs up."""
    host, port = api.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def request(line: str, *headers: bytes, body: bytes = b"") -> bytes:
    head = [line.encode() + b" HTTP/1.1", b"Host: k2k", b"Connection: close", *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", b""]) + body


# Bodies


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


MALFORMED = {
    "empty": b"",
    "blank": b"  \n",
    "truncated": b'{"title": "Apart',
    "truncated list": b"[1, 2",
    "two texts": b"{}{}",
    "trailing comma": b'{"title": "a",}',
    "single quotes": b"{'title': 'a'}",
    "bare word": b"title",
    "comment": b'{"title": "a" /* b */}',
    "nan": b'{"price": NaN}',
    "infinity": b'{"price": -Infinity}',
    "leading zero": b'{"price": 007}',
    "raw newline in text": b'{"title": "a\nb"}',
    "bad escape": b'{"title": "\\x41"}',
    "not utf-8": b'{"title": "\xff\xfe"}',
    "utf-16": '{"title": "a"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "lone surrogate": b'{"title": "\\ud800"}',
    "lone surrogate as name": b'{"\\udfff": 1}',
    "surrogates the wrong way round": b'{"title": "\\udc00\\ud800"}',
    "lone surrogate in utf-8": b'{"title": "\xed\xa0\x80"}',
    "too many digits": b'{"bedrooms": ' + b"9" * 5000 + b"}",
    "33 deep": nested(33),
    "100 deep": nested(100),
    "100,000 lists deep": b"[" * 100_000 + b"]" * 100_000,
    "40,000 objects deep": nested(40_000),
    "201 names": json.dumps({f"name{number}": 1 for number in range(201)}).encode(),
    "201 names inside": json.dumps({"title": {f"name{number}": 1 for number in range(201)}}).encode(),
    "100,000 lists deep and never closed": b"[" * 100_000,
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.usefixtures("untouched")
async def test_what_is_not_json_is_refused(api: Api, seller: Person, sent: bytes) -> None:
    for path in ("/properties", "/auth/register", "/chat/messages"):
        refused = await api.post(path, data=sent, headers=JSON, token=seller.token)
        assert (refused.status, refused.json["code"]) == (400, "malformed-json")


WRONG = {
    "null": b"null",
    "number": b"1",
    "text": b'"text"',
    "true": b"true",
    "list": b"[]",
    "list of the right thing": b"[{}]",
    "32 lists deep": b"[" * 32 + b"]" * 32,
}


@pytest.mark.parametrize("operation", BODIED, ids=name_of)
@pytest.mark.usefixtures("untouched")
async def test_no_operation_takes_a_body_that_is_not_an_object(api: Api, seller: Person, operation: Operation) -> None:
    for sent in WRONG.values():
        refused = await api.request(
            operation.method, address_of(operation), data=sent, headers=JSON, token=seller.token
        )
        assert (refused.status, refused.json["code"]) == (422, "invalid")
        assert [(fault["pointer"], fault["in"]) for fault in refused.json["errors"]] == [("", "body")]


@pytest.mark.parametrize("operation", BODIED, ids=name_of)
@pytest.mark.usefixtures("untouched")
async def test_no_operation_takes_unknown_fields_or_text_that_cannot_be_kept(
    api: Api, seller: Person, operation: Operation
) -> None:
    for sent, pointer in (
        ({"evil": 1}, "/evil"),
        ({"evil": [{"a": "\x00"}]}, "/evil/0/a"),
        ({"a\x00b": 1}, "/a\x00b"),
        ({"__proto__": {}, "constructor": 1}, "/constructor"),
        ({name: {"$ne": None} for name in operation.models["body"].model_fields}, None),
    ):
        refused = await api.request(operation.method, address_of(operation), json=sent, token=seller.token)
        assert (refused.status, refused.json["code"]) == (422, "invalid")
        assert pointer is None or pointer in {fault["pointer"] for fault in refused.json["errors"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("price", "1e400"),
        ("price", "-1e400"),
        ("price", "1" + "0" * 400),
        ("price", "1e999999999"),
        ("price", '"45000"'),
        ("price", "true"),
        ("price", "0"),
        ("price", "1e-9"),
        ("price", "45000.001"),
        ("bedrooms", "1" + "0" * 400),
        ("bedrooms", "3.0"),
        ("bedrooms", '"3"'),
        ("bedrooms", "true"),
        ("bedrooms", "9223372036854775808"),
        ("latitude", "1e400"),
        ("latitude", '"9"'),
        ("title", '"Flat \\u0000"'),
        ("title", "7"),
        ("title", '["Flat"]'),
        ("title", "null"),
        ("property_type", '"castle"'),
        ("property_type", "1"),
        ("city", '{"name": "Addis Ababa"}'),
        ("description", '"' + "x" * 4001 + '"'),
        ("id", f'"{SOMEBODY}"'),
        ("owner_id", f'"{SOMEBODY}"'),
        ("is_featured", "true"),
        ("view_count", "1000"),
    ],
)
@pytest.mark.usefixtures("untouched")
async def test_a_value_is_of_its_type_and_size(api: Api, seller: Person, name: str, text: str) -> None:
    body = a_property(latitude=9.0, longitude=38.7)
    body.pop(name, None)
    sent = json.dumps(body)[:-1] + f', "{name}": {text}}}'
    refused = await api.post("/properties", data=sent.encode(), headers=JSON, token=seller.token)
    assert (refused.status, refused.json["code"]) == (422, "invalid")
    assert {fault["pointer"] for fault in refused.json["errors"]} == {f"/{name}"}


@pytest.mark.parametrize(
    "sent",
    [
        b'{"full_name": "A", "email": "a@people.example", "email": "b@people.example", "password": "correct horse"}',
        b'{"full_name": "A", "email": "a@people.example", "password": "x", "password": "correct horse"}',
        b'{"full_name": "A", "email": "a@people.example", "password": "correct horse", "p\\u0061ssword": "battery"}',
    ],
)
@pytest.mark.usefixtures("untouched")
async def test_a_name_that_stands_there_twice_is_refused(api: Api, sent: bytes) -> None:
    """Two readers of one text (a proxy that checks, and we) must not see two different wishes."""
    refused = await api.post("/auth/register", data=sent, headers=JSON)
    assert refused.status in {400, 422}


# Content types, sizes and encodings


@pytest.mark.parametrize(
    "type_",
    [
        "text/plain",
        "text/json",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "",
        "json",
        "*/*",
    ],
)
@pytest.mark.usefixtures("untouched")
async def test_only_json_is_taken(api: Api, seller: Person, type_: str) -> None:
    sent = json.dumps(a_property()).encode()
    refused = await api.post("/properties", data=sent, headers={"Content-Type": type_}, token=seller.token)
    assert (refused.status, refused.json["code"]) == (415, "unsupported-media-type")


@pytest.mark.usefixtures("untouched")
async def test_a_body_without_a_type_is_not_taken(api: Api, seller: Person) -> None:
    sent = json.dumps(a_property()).encode()
    refused = await api.post("/properties", data=sent, skip_auto_headers=["Content-Type"], token=seller.token)
    assert refused.status == 415


@pytest.mark.parametrize(
    "type_",
    [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/json;charset=latin-1",
        "application/vnd.k2k+json",
    ],
)
async def test_json_is_utf_8_whatever_is_said_of_it(api: Api, seller: Person, type_: str) -> None:
    sent = json.dumps(a_property(title="ሰፊ ቤት"), ensure_ascii=False).encode()
    taken = await api.post("/properties", data=sent, headers={"Content-Type": type_}, token=seller.token)
    assert (taken.status, taken.json["title"]) == (201, "ሰፊ ቤት")


async def in_pieces(sent: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(sent), 50_000):
        yield sent[start : start + 50_000]


@pytest.mark.usefixtures("untouched")
async def test_a_body_over_the_limit_is_refused(api: Api, seller: Person) -> None:
    sent = json.dumps(a_property(description="x" * 300 * 1024)).encode()
    bomb = gzip.compress(b" " * 20_000_000)
    assert len(bomb) < 100_000
    for refused in (
        await api.post("/properties", data=sent, headers=JSON, token=seller.token),
        await api.post("/properties", data=in_pieces(sent), headers=JSON, token=seller.token),
        await api.post("/properties", data=bomb, headers=JSON | {"Content-Encoding": "gzip"}, token=seller.token),
    ):
        assert (refused.status, refused.json["code"]) == (413, "too-large")


async def test_a_body_just_under_the_limit_is_read(api: Api, seller: Person) -> None:
    room = 256 * 1024 - len(json.dumps(a_property()))
    sent = json.dumps(a_property()).encode() + b" " * room
    assert (await api.post("/properties", data=sent, headers=JSON, token=seller.token)).status == 201
    squeezed = gzip.compress(json.dumps(a_property()).encode())
    taken = await api.post(
        "/properties", data=squeezed, headers=JSON | {"Content-Encoding": "gzip"}, token=seller.token
    )
    assert taken.status == 201


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "nonsense"])
@pytest.mark.usefixtures("untouched")
async def test_an_encoding_that_does_not_fit_the_body_is_the_sender_s_fault(
    api: Api, seller: Person, encoding: str
) -> None:
    headers = [b"Content-Type: application/json", f"Content-Encoding: {encoding}".encode()]
    token = f"Authorization: Bearer {seller.token}".encode()
    said = await spoken(api, request(f"POST {PREFIX}/properties", *headers, token, body=b"\xff not encoded at all"))
    assert said.split(b" ")[1] in {b"400", b"415"}, said


@pytest.mark.usefixtures("untouched")
async def test_a_truncated_gzip_is_the_sender_s_fault(api: Api, seller: Person) -> None:
    sent = gzip.compress(json.dumps(a_property()).encode())[:-12]
    refused = await api.post("/properties", data=sent, headers=JSON | {"Content-Encoding": "gzip"}, token=seller.token)
    assert refused.status == 400


# Addresses and methods


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "",
        "/",
        "//properties",
        "/properties//",
        f"/properties/{SOMEBODY}/secrets",
        "/properties/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/PROPERTIES",
        "/properties;a=b",
        "/.git/config",
        "/auth",
    ],
)
async def test_an_unknown_address_is_not_found(api: Api, path: str) -> None:
    missing = await api.get(path)
    assert (missing.status, missing.json["code"]) == (404, "no-such-route")


@pytest.mark.parametrize("path", ["/metrics", "/debug", "/.git/config", "/api", "/api/v2/properties", "/\x00", "/*"])
async def test_nothing_else_is_served(api: Api, path: str) -> None:
    assert (await api.get(path, prefix="")).status == 404


def methods() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for operation in OPERATIONS:
        found.setdefault(operation.path, set()).update(
            {"GET", "HEAD"} if operation.method == "GET" else {operation.method}
        )
    return found


@pytest.mark.parametrize("path", sorted(methods()))
@pytest.mark.usefixtures("untouched")
async def test_other_methods_are_not_allowed_and_allow_says_which_are(api: Api, seller: Person, path: str) -> None:
    known = methods()[path]
    address = re.sub(r"{\w+}", SOMEBODY, path)
    shadowed = {
        method
        for other, theirs in methods().items()
        if other != path and re.fullmatch(re.sub(r"{\w+}", "[^/]+", other), address)
        for method in theirs
    }
    for method in sorted({"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"} - known - shadowed):
        refused = await api.request(method, address, token=seller.token)
        assert (refused.status, refused.json["code"]) == (405, "method-not-allowed"), method
        assert set(refused.headers["Allow"].split(",")) == known | shadowed
    refused = await api.request("PATCH", address + "/", token=seller.token)
    assert (refused.status, set(refused.headers["Allow"].split(","))) == (405, known | shadowed)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_a_header_does_not_change_the_method(api: Api, people: People, seller: Person, header: str) -> None:
    listing = await people.listing(seller)
    shown = await api.get(f"/properties/{listing}", headers={header: "DELETE"}, token=seller.token)
    assert shown.status == 200
    refused = await api.post(f"/properties/{listing}", headers={header: "DELETE"}, token=seller.token)
    assert refused.status == 405
    assert (await api.get(f"/properties/{listing}")).status == 200


@pytest.mark.parametrize("operation", READS, ids=name_of)
async def test_a_trailing_slash_makes_no_difference_and_redirects_nobody(
    api: Api, people: People, seller: Person, operation: Operation
) -> None:
    path, query = address_of(operation), {}
    if operation.name == "list_messages":
        query = {"conversation_id": SOMEBODY}
    plain = await api.get(path, params=query, token=seller.token, allow_redirects=False)
    slash = await api.get(path + "/", params=query, token=seller.token, allow_redirects=False)
    assert plain.status == slash.status
    assert plain.status in {200, 404}
    assert plain.json == slash.json or plain.json["code"] == slash.json["code"]


# Queries and paths


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
@pytest.mark.usefixtures("untouched")
async def test_no_operation_takes_unknown_query_parameters(api: Api, seller: Person, operation: Operation) -> None:
    for query, pointer in (
        ("evil=1", "/evil"),
        ("evil", "/evil"),
        ("%00=1", "/\x00"),
        ("a%2Fb~=1", "/a~1b~0"),
        ("limit[]=1", "/limit[]"),
        ("evil=1&evil=2", "/evil"),
    ):
        refused = await api.request(operation.method, f"{address_of(operation)}?{query}", json={}, token=seller.token)
        assert (refused.status, refused.json["code"]) == (422, "invalid")
        assert (pointer, "query") in {(fault["pointer"], fault["in"]) for fault in refused.json["errors"]}


@pytest.mark.parametrize(
    "value",
    ["", "x", "1.5", "-1", "1e1", "0x10", "9" * 30, "9" * 5000, "NaN", "null", "true", "%00", "%ff", "1%002", "2;3"],
)
@pytest.mark.usefixtures("untouched")
async def test_numbers_of_a_query_are_numbers_within_their_limits(api: Api, seller: Person, value: str) -> None:
    paths = ("/properties?limit=", "/properties?skip=", "/agents?limit=", "/leads?limit=", "/chat/conversations?limit=")
    for path in paths:
        refused = await api.get(path + value, token=seller.token)
        assert (refused.status, refused.json["code"]) == (422, "invalid")
        assert {fault["in"] for fault in refused.json["errors"]} == {"query"}


async def test_a_parameter_is_given_once(api: Api, seller: Person) -> None:
    for query in ("limit=1&limit=1", "limit=1&limit=2", "skip=0&limit=1&skip=0"):
        refused = await api.get(f"/properties?{query}", token=seller.token)
        assert (refused.status, refused.json["code"]) == (422, "invalid")


NO_IDS = (
    "1",
    "x" * 36,
    SOMEBODY[:-1],
    SOMEBODY + "0",
    SOMEBODY[:-1] + "g",
    "%00",
    SOMEBODY + "%00",
    "%ff",
    "..%2f..%2fetc",
    "' or 1=1 --",
    "x" * 4000,
    "null",
)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if "id}" in one.path], ids=name_of)
@pytest.mark.usefixtures("untouched")
async def test_an_id_in_a_path_is_an_id(api: Api, seller: Person, operation: Operation) -> None:
    sent: dict[str, Any] = {"json": {}} if "body" in operation.models else {}
    for id_ in NO_IDS:
        path = re.sub(r"{\w+}", id_, operation.path)
        refused = await api.request(operation.method, path, token=seller.token, **sent)
        assert (refused.status, refused.json["code"]) == (422, "invalid")
        assert "path" in {fault["in"] for fault in refused.json["errors"]}


@pytest.mark.usefixtures("untouched")
async def test_the_faults_of_path_query_and_body_are_told_together(api: Api, seller: Person) -> None:
    refused = await api.put("/properties/1?evil=1", json={"title": 7, "worse": 1}, token=seller.token)
    assert refused.status == 422
    assert {(fault["in"], fault["pointer"]) for fault in refused.json["errors"]} == {
        ("path", "/listing_id"),
        ("query", "/evil"),
        ("body", "/title"),
        ("body", "/worse"),
    }


async def test_who_may_not_is_told_so_before_what_is_wrong(api: Api, people: People) -> None:
    buyer = await people.buyer()
    for token, status in ((None, 401), (buyer.token, 403)):
        refused = await api.post("/properties", data=b"{", headers=JSON, token=token)
        assert refused.status == status
        assert "errors" not in refused.json


# HTTP itself


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: k2k\r\n\r\n",
        b"GET /api/v1/properties?\xff=1 HTTP/1.1\r\nHost: k2k\r\n\r\n",
        b"GET /api/v1/properties/\xff HTTP/1.1\r\nHost: k2k\r\n\r\n",
        b"GET /api/v1/properties HTTP/1.1\r\nHost: k2k\r\nA: b\x00c\r\n\r\n",
        b"GET /api/v1/properties HTTP/1.1\r\nHost: k2k\r\nA: " + b"x" * 10_000 + b"\r\n\r\n",
        b"POST /api/v1/properties HTTP/1.1\r\nHost: k2k\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/properties HTTP/1.1\r\nHost: k2k\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /api/v1/properties HTTP/1.1\r\nHost: k2k\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /api/v1/properties HTTP/1.1\r\nHost: k2k\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    ],
)
@pytest.mark.usefixtures("untouched")
async def test_broken_http_is_refused_and_the_server_stands(api: Api, sent: bytes) -> None:
    said = await spoken(api, sent)
    assert said.split(b" ")[1] == b"400", said
    assert b"Traceback" not in said
    assert (await api.get("/properties")).status == 200


@pytest.mark.parametrize(
    "header", [b"X-Forwarded-For: \xff", b"User-Agent: \xff\xfe", b"Content-Type: \xff", b"A: \xed\xa0\x80"]
)
async def test_headers_of_any_bytes_are_no_fault_of_ours(api: Api, people: People, header: bytes) -> None:
    token = f"Authorization: Bearer {(await people.buyer()).token}".encode()
    for line in (f"GET {PREFIX}/auth/me", f"POST {PREFIX}/auth/logout"):
        said = await spoken(api, request(line, token, header))
        assert said.split(b" ")[1] == b"200", said


async def test_every_refusal_has_its_own_request_id_and_tells_nothing_inner(
    api: Api, seller: Person, monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("select secret from users")

    monkeypatch.setattr(node.process.db, "records", broken)
    with capture_logs() as logged:
        answers = [await api.get(f"/properties/{uuid4()}") for _ in range(2)]
    of_requests = [entry["event"] for entry in logged if "tail" not in entry["event"]]  # it may have asked just then
    assert of_requests == ["unforeseen", "request"] * 2
    for answer in answers:
        assert (answer.status, answer.json["code"]) == (500, "internal")
        assert "secret" not in str(answer.json)
    assert len({answer.json["request_id"] for answer in answers}) == 2


PROBLEMS: list[tuple[str, str, Mapping[str, Any]]] = [
    ("GET", "/nowhere", {}),
    ("PATCH", "/properties", {}),
    ("GET", "/auth/me", {}),
    ("POST", "/auth/login", {"json": {}}),
    ("POST", "/auth/login", {"data": b"{", "headers": JSON}),
    ("POST", "/auth/login", {"data": b"x" * 300_000, "headers": JSON}),
]


@pytest.mark.parametrize(("method", "path", "sent"), PROBLEMS)
async def test_every_problem_names_its_kind_by_a_slug_and_a_reference(
    api: Api, method: str, path: str, sent: Mapping[str, Any]
) -> None:
    problem = (await api.request(method, path, **sent)).json
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", problem["code"])
    assert problem["type"].endswith(f"#{problem['code']}")
    assert re.fullmatch(r"[0-9a-f]{32}", problem["request_id"])
    for fault in problem.get("errors", []):
        assert fault.keys() == {"pointer", "in", "code", "detail"}
