"""Files for browsers: what is served of the npm packages, what cannot be asked for, and what happens without them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from k2k.core.settings import Settings, load
from k2k.web.assets import PACKAGES
from tests.support import ROOT, Node


def installed(directory: Path, version: str = "9.8.7") -> Path:
    """A node_modules with the packages, every file of which says what it is."""
    for package, names in PACKAGES.items():
        for file in (*names.values(), "index.html"):
            path = directory / package / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{package}/{file}")
        (directory / package / "package.json").write_text(json.dumps({"version": version}))
    (directory / "secret.js").write_text("not for anybody")
    return directory


def with_assets(settings: Settings, directory: Path, **more: bool) -> Settings:
    return settings.model_copy(update={"server": settings.server.model_copy(update={"assets": directory, **more})})


@pytest.fixture(scope="module")
async def site(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node with its own, made-up packages."""
    node = await Node.start(with_assets(settings, installed(tmp_path_factory.mktemp("site") / "node_modules")))
    yield node
    await node.stop()


async def status_of(node: Node, path: str) -> int:
    """The status for a path sent as it stands, which a client library would tidy up first."""
    host, port = node.runner.addresses[0][:2]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("path", "content_type", "file"),
    [
        ("swagger-ui-dist-9.8.7/swagger-ui-bundle.js", "text/javascript; charset=utf-8", "swagger-ui-bundle.js"),
        ("swagger-ui-dist-9.8.7/swagger-ui.css", "text/css; charset=utf-8", "swagger-ui.css"),
        ("swagger-ui-dist-9.8.7/favicon-32x32.png", "image/png", "favicon-32x32.png"),
        ("centrifuge-9.8.7/centrifuge.js", "text/javascript; charset=utf-8", "dist/centrifuge.js"),
    ],
)
async def test_a_file_is_served_for_ever_under_its_packages_version(
    site: Node, path: str, content_type: str, file: str
) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{site.api.base}/assets/{path}") as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert (await answer.text()).endswith(file)


@pytest.mark.parametrize(
    "path",
    [
        "/assets",
        "/assets/",
        "/assets/centrifuge-9.8.7",
        "/assets/centrifuge-9.8.7/",
        "/assets/centrifuge-9.8.7/package.json",
        "/assets/centrifuge-9.8.7/dist/centrifuge.js",
        "/assets/centrifuge-1.0.0/centrifuge.js",
        "/assets/swagger-ui-dist-9.8.7/index.html",
        "/assets/secret.js",
        "/assets/../secret.js",
        "/assets/centrifuge-9.8.7/../../secret.js",
        "/assets/centrifuge-9.8.7/%2e%2e/secret.js",
        "/assets/centrifuge-9.8.7/%2e%2e/%2e%2e/secret.js",
        "/assets/centrifuge-9.8.7%2f..%2f..%2fsecret.js",
        "/assets/centrifuge-9.8.7/..%5c..%5csecret.js",
        "/assets/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/assets/centrifuge-9.8.7/centrifuge.js%00.png",
        "/node_modules/secret.js",
        "/docs/../run.py",
        "/docs/%2e%2e/config/default.toml",
        "/metrics",
        "/debug",
        "/.git/config",
        "/.env",
    ],
)
async def test_nothing_else_can_be_asked_for(site: Node, path: str) -> None:
    assert await status_of(site, "/assets/centrifuge-9.8.7/centrifuge.js") == 200
    assert await status_of(site, path) == 404


async def test_without_the_packages_the_api_serves_and_the_page_says_what_brings_them(
    settings: Settings, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        node = await Node.start(with_assets(settings, tmp_path / "nowhere"))
    assert [entry["remedy"] for entry in logs if entry["log_level"] == "warning"] == ["make assets, then a restart"]
    try:
        answer = await node.api.get("/docs", prefix="")
        assert (answer.status, answer.json["code"]) == (503, "assets-missing")
        assert "make assets" in answer.json["detail"]
        assert (await node.api.get("/properties")).status == 200
    finally:
        await node.stop()


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"version": 7}'])
async def test_a_package_broken_off_while_being_installed_counts_as_missing(
    settings: Settings, tmp_path: Path, manifest: str
) -> None:
    directory = installed(tmp_path / "node_modules")
    (directory / "swagger-ui-dist" / "package.json").write_text(manifest)
    (directory / "centrifuge" / "dist" / "centrifuge.js").unlink()
    node = await Node.start(with_assets(settings, directory))
    try:
        assert (await node.api.get("/docs", prefix="")).status == 503
        assert await status_of(node, "/assets/centrifuge-9.8.7/centrifuge.js") == 404
    finally:
        await node.stop()


@pytest.mark.parametrize(
    ("environment", "wanted", "status"),
    [("development", False, 200), ("production", False, 404), ("production", True, 200)],
)
async def test_production_serves_the_page_only_if_told_to(
    settings: Settings, tmp_path: Path, environment: str, wanted: bool, status: int
) -> None:
    chosen = with_assets(settings, installed(tmp_path / "node_modules"), docs=wanted)
    node = await Node.start(chosen.model_copy(update={"environment": environment}))
    try:
        assert [await status_of(node, path) for path in ("/docs", "/docs/")] == [status, status]
    finally:
        await node.stop()


async def test_the_page_runs_no_script_of_its_own_and_none_of_others(site: Node) -> None:
    async with aiohttp.ClientSession() as session, session.get(site.api.base + "/docs") as answer:
        policy, page = answer.headers["Content-Security-Policy"], await answer.text()
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]* src=)|<style| on\w+=|https?://|\$", page)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) == 7
    assert [await status_of(site, address) for address in addresses] == [200] * 7


def test_the_lock_file_tells_hashes_and_no_addresses() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert all("resolved" not in package for package in packages.values())
    assert all("integrity" in package for name, package in packages.items() if name)


def test_the_directory_is_the_checkouts_or_an_absolute_one(tmp_path: Path) -> None:
    assert load({}, directory=tmp_path).server.assets == tmp_path / "node_modules"
    elsewhere = load({"K2K_SERVER__ASSETS": "/srv/npm"}, directory=tmp_path)
    assert elsewhere.server.assets == Path("/srv/npm")
