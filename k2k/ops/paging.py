"""Lists by skip and limit: how a part is asked for, and what its headers say of the whole."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlencode

from pydantic import Field

from k2k.ops.validation import Input

PAGED = ("X-Total-Count", "X-Total-Count-Relation", "Link")
"""The headers of a list by skip and limit; the last two only where there is something to say."""


class Page(Input):
    """A part of a list, by place. Deep places are dear to find, so there is an end to them."""

    FURTHEST: ClassVar[int] = 10_000

    skip: int = Field(default=0, ge=0, le=FURTHEST, description="Deeper than 10,000 only a cursor search goes")
    limit: int = Field(default=100, ge=1, le=100)

    @property
    def count_to(self) -> int:
        """How far counting needs to go to tell an exact total from a larger one."""
        return self.FURTHEST + 1

    def headers(self, address: str, total: int) -> dict[str, str]:
        """X-Total-Count, exact to 10,000, and Link (RFC 8288) to the neighbouring parts of the list at `address`.

        The links ask for the same as this part did, whatever else its model has.
        """
        same = urlencode(self.model_dump(mode="json", exclude_unset=True, exclude={"skip", "limit"}), doseq=True)
        headers = {"X-Total-Count": str(min(total, self.FURTHEST))}
        if total > self.FURTHEST:
            headers["X-Total-Count-Relation"] = "gte"
        neighbours = {"next": self.skip + self.limit, "prev": max(0, self.skip - self.limit)}
        if neighbours["next"] >= total or neighbours["next"] > self.FURTHEST:
            del neighbours["next"]
        if self.skip == 0:
            del neighbours["prev"]
        if neighbours:
            headers["Link"] = ", ".join(
                f'<{address}?{same}{"&" if same else ""}skip={skip}&limit={self.limit}>; rel="{name}"'
                for name, skip in neighbours.items()
            )
        return headers
