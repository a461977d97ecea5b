"""What strangers write into our log stays a value in it: no line of their own, no colour, no secret by its name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import ROOT

INJECTED = 'name\n{"level":"error","event":"forged"}\r\n\x1b[31mred\u2028next\x00'
SAYING = """
import json, logging, structlog, sys
from k2k.core.settings import LogSettings
from k2k.infra import log

form, injected = json.load(sys.stdin)
log.set_up(LogSettings(format=form, level="debug"))
ours = structlog.get_logger()
ours.warning("a value", value=injected, inner=dict(name=injected), password="hunter22", new_token="token-9931")
ours.info(injected)
ours.info("a key", **{injected: 1})
logging.getLogger("some.package").warning("said %s", injected)
try:
    raise ValueError(injected)
except ValueError:
    ours.exception("unforeseen")
log.name_request(injected)
ours.debug("bound")
"""


def said(form: str) -> str:
    """What a process writes that was told such things. In one of its own: set-up is for good."""
    ended = subprocess.run(
        [sys.executable, "-c", SAYING],
        input=json.dumps([form, INJECTED]).encode(),
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout == b""
    return ended.stderr.decode()


def test_what_is_injected_stays_inside_one_escaped_record() -> None:
    lines = said("json").removesuffix("\n").split("\n")
    records = [json.loads(line) for line in lines]
    assert [record["level"] for record in records] == ["warning", "info", "info", "warning", "error", "debug"]
    assert (records[0]["value"], records[0]["inner"]["name"]) == (INJECTED, INJECTED)
    assert records[1]["event"] == INJECTED
    assert records[3]["event"] == f"said {INJECTED}"
    assert INJECTED in records[4]["exception"]
    assert records[5]["request_id"] == INJECTED
    assert not any("\x1b" in line or "\r" in line for line in lines)


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_is_named_like_a_secret_is_not_written(form: str) -> None:
    written = said(form)
    assert "hunter22" not in written
    assert "token-9931" not in written
