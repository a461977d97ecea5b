"""What Key2Key is measured against. A peer is a directory below bench/peers with its code and its requirements.

Each peer has an environment of its own below .k2k/bench, so that its packages are never among the project's.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aiohttp.test_utils import unused_port
from uv import find_uv_bin

from bench.harness.machine import Cores
from bench.harness.servers import HOME, Running, process

PEERS = Path(__file__).parents[1] / "peers"
BUILD_SECONDS = 300


def environment(peer: str) -> Path:
    """The peer's Python, built when it is missing or its requirements have changed."""
    requirements = PEERS / peer / "requirements.txt"
    home = HOME / peer
    python, stamp = home / "bin" / "python", home / "requirements.sha256"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"Installing the peer {peer} (once) …", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    uv = find_uv_bin()
    installation = [uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps", "--require-hashes"]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home)], check=True, timeout=BUILD_SECONDS)
    subprocess.run([*installation, "-r", str(requirements)], check=True, timeout=BUILD_SECONDS)
    stamp.write_text(digest)
    return python


@contextmanager
def uvicorn(peer: str, variables: Mapping[str, str], cores: Cores, *, ready: str = "/health") -> Iterator[Running]:
    """The peer's `app:app` in one process, on uvloop and httptools, without an access log."""
    port = unused_port()
    command = [str(environment(peer)), "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    with process(peer, command, variables, PEERS / peer, cores.server, port, ready) as pid:
        yield Running(port, pid)


def versions(peer: str, *packages: str) -> str:
    """Packages of the peer's environment with their versions."""
    ask = "import importlib.metadata as m, sys; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    answer = subprocess.run(
        [str(environment(peer)), "-c", ask, *packages], check=True, timeout=30, capture_output=True, text=True
    )
    return answer.stdout.strip()
