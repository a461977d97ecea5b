"""The project speaks of itself alone: no machine it was written on, no registry, no secret, no way around its doors."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.house.files import files, place, text_of
from tests.support import ROOT

# Written in parts, so that this file does not say what no file may.
HOMES = re.compile("|".join(["/" + "home/", "/" + "root/", "/" + "Users/", "/" + "work/", r"[A-Z]:\\" + "Users"]))
REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry", "npmjs", "org"),
            ("registry", "yarnpkg", "com"),
            ("crates", "io"),
            ("proxy", "golang", "org"),
            ("rubygems", "org"),
            ("docker", "io"),
            ("ghcr", "io"),
            ("quay", "io"),
        )
    )
)
SECRETS = re.compile(
    "|".join(
        [
            "-----BEGIN [A-Z ]*PRIVATE" + " KEY-----",
            r"\bey[J][A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.",  # a signed token
            r"\bAK[I]A[0-9A-Z]{16}\b",
            r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
            r"\bxox[baprs]-[0-9A-Za-z-]{10,}",
        ]
    )
)
RANDOM = re.compile(r"(?<![\w/+-])[A-Za-z0-9_+-]{32,}(?![\w/+-])")
# What these hold is meant to look so.
HASHES = re.compile(r"(^|/)(requirements[\w-]*\.txt|checksums\.txt|package-lock\.json|workflows/\w+\.yml):")

FILES = [(path, text) for path in files() if (text := text_of(path)) is not None]


def places(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for path, text in FILES:
        for found in pattern.finditer(text):
            yield place(path, found.start(), text), found[0]


def test_the_files_are_looked_at() -> None:
    """Or nothing below would find anything."""
    assert {ROOT / "README.md", Path(__file__), ROOT / "Makefile", ROOT / ".gitignore"} <= {path for path, _ in FILES}


def test_no_path_leads_to_the_machine_of_whoever_wrote_it() -> None:
    found = list(places(HOMES))
    assert not found, f"say it relative to the checkout: {found}"


def test_no_package_registry_is_named() -> None:
    """Where packages come from is for the machine that installs them to say."""
    found = list(places(REGISTRIES))
    assert not found, f"leave the host out: {found}"


def looks_random(word: str) -> bool:
    """Capitals, small letters and digits mixed as no name mixes them, or nothing but hexadecimal digits."""
    changes = sum(kind(one) != kind(next_) for one, next_ in pairwise(word))
    mixed = len({kind(letter) for letter in word} & {"A", "a", "0"}) == 3 and changes > len(word) / 4
    return mixed or (re.fullmatch("[0-9a-f]+", word) is not None and len(set(word)) > 8)


def kind(letter: str) -> str:
    return "0" if letter.isdigit() else "A" if letter.isupper() else "a" if letter.islower() else "-"


@pytest.mark.parametrize(
    ("word", "random"),
    [
        (hashlib.sha256(b"any").hexdigest(), True),
        (base64.urlsafe_b64encode(hashlib.sha512(b"any").digest()).decode()[:48], True),
        ("test_a_token_of_another_deployment_or_person_is_refused", False),
        ("aiohttp_websocket_response_with_a_long_name_2", False),
        ("UnsupportedMediaTypeOfTheBodyOfARequest", False),
        ("a" * 64, False),
    ],
)
def test_what_looks_random_is_recognised(word: str, random: bool) -> None:
    assert looks_random(word) == random


def test_no_secret_stands_in_the_tree() -> None:
    found = [where for where, _ in places(SECRETS)]
    found += [where for where, word in places(RANDOM) if looks_random(word) and not HASHES.search(where)]
    assert not found, f"a secret? Take it out, and make a new one: {found}"


# Ways out and around


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Everything a module imports, and what it takes from aiohttp by attribute, spelled in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=imported):
                yield from ((node.lineno, alias.name) for alias in imported)
            case ast.ImportFrom(module=str(module), names=imported):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in imported)
            case ast.Attribute(value=ast.Name(id="aiohttp"), attr=attribute):
                yield node.lineno, f"aiohttp.{attribute}"


CLIENTS = re.compile(
    r"aiohttp\.(ClientSession|request|TCPConnector|UnixConnector|BaseConnector|connector|client)(\.|$)"
    r"|(urllib\.request|http\.client|requests|httpx|urllib3|pycurl|ftplib|telnetlib)(\.|$)"
)


def test_only_one_room_calls_foreign_addresses() -> None:
    modules = [path for path in (ROOT / "k2k").rglob("*.py") if path != ROOT / "k2k" / "infra" / "http.py"]
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in modules
        for line, name in names(path)
        if CLIENTS.match(name)
    ]
    assert not found, f"call foreign addresses through k2k/infra/http.py, which says which may be: {found}"
    assert any(CLIENTS.match(name) for _, name in names(ROOT / "k2k" / "infra" / "http.py"))


def test_a_features_store_is_its_own() -> None:
    """Others use its service; a statement that joins its tables is written in one's own file."""
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in (ROOT / "k2k").rglob("*.py")
        for line, name in names(path)
        if (owner := re.match(r"k2k\.features\.(\w+)(?:\.store)(?:\.|$)", name))
        and not path.is_relative_to(ROOT / "k2k" / "features" / owner[1])
    ]
    assert not found, f"use the feature's service instead of its store: {found}"
