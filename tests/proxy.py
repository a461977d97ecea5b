"""A real nginx with the repository's config/nginx.conf, in front of whatever listens on the ports given."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import nginx
from tests.support import ROOT, eventually, free_port

CONF = ROOT / "config" / "nginx.conf"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Proxy:
    """A running nginx: where it listens and what it wrote."""

    process: asyncio.subprocess.Process
    port: int
    directory: Path

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> list[dict[str, Any]]:
        """The access log so far. nginx writes a request's line when it has ended."""
        return [json.loads(line) for line in (self.directory / "access.log").read_text().splitlines()]

    def written(self) -> str:
        """Everything in its logs, as it stands there."""
        return "".join((self.directory / name).read_text() for name in ("access.log", "error.log"))

    async def listens(self) -> bool:
        assert self.process.returncode is None, "nginx ended instead of listening"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def proxy(
    directory: Path, upstreams: Sequence[int], changes: Mapping[str, str] | None = None
) -> AsyncIterator[Proxy]:
    """nginx before the two ports, with all its files in `directory`, until the block ends."""
    port = free_port()
    conf = directory / "nginx.conf"
    conf.write_text(configuration(directory, port, upstreams, changes or {}))
    process = await asyncio.create_subprocess_exec(*command(directory, conf), "-g", main_directives(directory))
    try:
        started = Proxy(process, port, directory)
        await eventually(started.listens)
        yield started
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 10)


def configuration(directory: Path, port: int, upstreams: Sequence[int], changes: Mapping[str, str]) -> str:
    """The repository's file with this machine's addresses and directories; every text to change must be there."""
    first, second = upstreams
    temporary = "".join(f"\n    {name}_temp_path {directory}/{name};" for name in TEMPORARY)
    text = CONF.read_text()
    for old, new in {
        "\nhttp {": f"\nhttp {{{temporary}",
        "/var/log/nginx/": f"{directory}/",
        "server app1:8080": f"server 127.0.0.1:{first}",
        "server app2:8080": f"server 127.0.0.1:{second}",
        "listen 8080": f"listen 127.0.0.1:{port}",
        **changes,
    }.items():
        assert old in text, f"config/nginx.conf has no {old!r}"
        text = text.replace(old, new)
    return text


def command(directory: Path, conf: Path) -> list[str]:
    """How nginx is called: it may look for nothing outside of `directory`."""
    path = nginx()
    assert path is not None
    return [path, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(conf)]


def main_directives(directory: Path) -> str:
    # As root its workers would be nobody, who may not enter a directory of root's.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"daemon off; pid {directory}/nginx.pid; {user}"
