"""What goes in and out of brands."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from k2k.ops.validation import Answer, Input

BrandName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class BrandPath(Input):
    brand: BrandName = Field(description="By any of its names, in whatever case")


class Brand(Answer):
    name: str = Field(description="As it is usually written, and as listings have it")
    models: int = Field(description="How many models of it are known")


class Model(Answer):
    name: str
    body: str | None = Field(description="As `body` of a vehicle")
