"""What the tests drive and pip does not bring: a browser, a proxy, Node.js.

`python -m tests.programs` fetches what is missing where it may, which is as root on Debian. Where something stays
missing the tests that need it are not run, and the run says so in its last line (tests/needs.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.live.swarm import compiler
from tools import node

ROOT = Path(__file__).parents[1]
FONT = Path("/usr/share/fonts/truetype/abyssinica")
POLICY = Path("/usr/sbin/policy-rc.d")
INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Program:
    """Something a test may need: how it is found, Debian's package of it, and what brings it."""

    find: Callable[[], str | None]
    package: str | None
    remedy: str


def chromium() -> str | None:
    """The path of a Chromium that Playwright can drive."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def nginx() -> str | None:
    """The path of nginx, which is on root's PATH only."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def ethiopic_font() -> str | None:
    """The directory of the font that Amharic is drawn with."""
    return str(FONT) if FONT.is_dir() else None


def c_compiler() -> str | None:
    """The path of what compiles the bench's clients."""
    return compiler()


def npm_packages() -> str | None:
    """The directory of the installed npm packages, if there is also a Node.js for them."""
    directory = ROOT / "node_modules"
    return str(directory) if (directory / "centrifuge").is_dir() and node.node() else None


def _debian(find: Callable[[], str | None], package: str) -> Program:
    return Program(find, package, f"apt-get install {package}")


PROGRAMS = {
    "chromium": _debian(chromium, "chromium"),
    "nginx": _debian(nginx, "nginx-light"),
    "Ethiopic font": _debian(ethiopic_font, "fonts-sil-abyssinica"),
    "npm packages": Program(npm_packages, None, "make assets"),
    "C compiler": _debian(c_compiler, "gcc"),
}


def missing() -> dict[str, Program]:
    """What this machine does not have, by name."""
    return {name: program for name, program in PROGRAMS.items() if program.find() is None}


def main() -> int:
    """Fetch what is missing; always 0, because the run itself says what it could not do."""
    packages = [program.package for program in missing().values() if program.package]
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing what the tests drive: {', '.join(packages)} (once, about a minute) …", flush=True)
        _install(packages)
    for name, program in missing().items():
        print(f"Missing: {name} ({program.remedy}). The tests that need it will not run.", file=sys.stderr)
    return 0


def _install(packages: list[str]) -> None:
    """Have apt install them, and tell its last words where it fails."""
    apt = ["apt-get", "--quiet=2", "--yes", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=1"]
    with _no_service_starts():
        for command in (["update"], ["install", "--no-install-recommends", *packages]):
            done = subprocess.run(
                [*apt, *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
            )
            if done.returncode != 0:
                print("\n".join((done.stderr or done.stdout).splitlines()[-5:]), file=sys.stderr)
                return
    if "nginx-light" in packages:
        # The tests start their own; the machine's is not to come up at the next boot either.
        subprocess.run(["/usr/sbin/update-rc.d", "nginx", "disable"], capture_output=True, timeout=60)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian starts a service as it installs it, nginx on every address at port 80, unless this file forbids it."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
