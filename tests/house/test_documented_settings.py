"""What is said about settings is true: config/default.toml has each with a word about it, and none is invented."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from k2k.core.settings import Settings
from tests.house.files import files, place
from tests.support import ROOT

DEFAULTS = ROOT / "config" / "default.toml"
KEY = re.compile(r"^(\w+) *=")


def fields(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every setting as section.key."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{before}{name}.")
        else:
            yield before + name


def keys() -> Iterator[str]:
    for name, value in tomllib.loads(DEFAULTS.read_text()).items():
        yield from (f"{name}.{key}" for key in value) if isinstance(value, dict) else (name,)


SETTINGS = set(fields(Settings))
VARIABLES = {"K2K_" + setting.upper().replace(".", "__") for setting in SETTINGS}


def test_the_file_of_defaults_has_every_setting_and_no_other() -> None:
    missing, unknown = SETTINGS - set(keys()), set(keys()) - SETTINGS
    assert not missing, f"give these a default and a comment in config/default.toml: {sorted(missing)}"
    assert not unknown, f"config/default.toml knows what k2k/core/settings.py does not: {sorted(unknown)}"


def test_a_comment_stands_above_every_setting() -> None:
    """One may serve several lines that follow each other."""
    lines = DEFAULTS.read_text().splitlines()
    for number, line in enumerate(lines):
        if KEY.match(line):
            above = number - 1
            while KEY.match(lines[above]):
                above -= 1
            assert lines[above].startswith("# "), f"config/default.toml:{number + 1}: say what {line} means, above it"


# Not the K2K_ of K2K_<SECTION>__<KEY>, which explains the form.
VARIABLE = re.compile(r"\bK2K_[A-Z0-9_]*[A-Z0-9]\b")
SPEAKING = list(
    files(".md", ".example", ".yml", ".yaml", ".toml", ".service", ".conf", ".sh", "Dockerfile", "Makefile")
)


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_variable_that_is_spoken_of_exists(path: Path) -> None:
    text = path.read_text()
    unknown = [
        f"{place(path, found.start(), text)} {found[0]}"
        for found in VARIABLE.finditer(text)
        if found[0] not in VARIABLES
    ]
    assert not unknown, f"no such setting (k2k/core/settings.py has them): {unknown}"
