"""Files for browsers: ours, and an allow-list from the installed npm packages.

Each has a route of its own under a name that changes with its content (a package's version, our file's hash), so that a
browser may keep it for ever, and nothing else in those directories can be asked for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aiohttp import web
from aiohttp.typedefs import Handler

PREFIX = "/assets"
OURS = Path(__file__).parent / "page"

HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}

Package = Literal["swagger-ui-dist", "centrifuge"]
PACKAGES: dict[Package, dict[str, str]] = {
    "swagger-ui-dist": {
        "swagger-ui-bundle.js": "swagger-ui-bundle.js",
        "swagger-ui.css": "swagger-ui.css",
        "favicon-32x32.png": "favicon-32x32.png",
    },
    "centrifuge": {"centrifuge.js": "dist/centrifuge.js"},
}
"""What may be asked for of each package: the public name, and the file inside the package."""

OUR_FILES = ("docs.js", "docs.css")


@dataclass(frozen=True)
class Assets:
    """What is there to be served: a file for each URL path."""

    files: dict[str, Path]

    def path(self, package: str, name: str) -> str | None:
        """The URL path of a file of a package (ours is "key2key"), or None where it is not installed."""
        start, end = f"{PREFIX}/{package}-", f"/{name}"
        return next((path for path in self.files if path.startswith(start) and path.endswith(end)), None)

    def bind(self, app: web.Application) -> None:
        """Add a route for each file."""
        for path, file in self.files.items():
            app.router.add_get(path, _answer(file))


def find(directory: Path) -> Assets:
    """Ours, and those packages under `directory` (a node_modules) that are wholly there.

    An absent directory is no error: a server serves its API without any of them.
    """
    found = {_our_path(OURS / name): OURS / name for name in OUR_FILES}
    for package, names in PACKAGES.items():
        home = directory / package
        files = {name: home / file for name, file in names.items()}
        version = _version(home / "package.json")
        if version is not None and all(file.is_file() for file in files.values()):
            found |= {f"{PREFIX}/{package}-{version}/{name}": file for name, file in files.items()}
    return Assets(found)


def _our_path(file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return f"{PREFIX}/key2key-{digest}/{file.name}"


def _version(manifest: Path) -> str | None:
    """The version a package says it has; None where there is no such package."""
    try:
        version = json.loads(manifest.read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):  # absent, or broken off while it was being installed
        return None
    return version if isinstance(version, str) else None


def _answer(file: Path) -> Handler:
    headers = HEADERS | {"Content-Type": TYPES[file.suffix]}

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(file, headers=headers)

    return answer
