"""One call of an operation: what a handler is given whichever door it came through. It knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, cast

from k2k.core.errors import Unauthenticated
from k2k.infra.db import Db
from k2k.ops.authenticator import Principal

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Services:
    """What app.py built for handlers: the database, and the features' parts by their type."""

    db: Db
    parts: Mapping[type[Any], Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, when, and what with. `now` is database time, the same throughout the call."""

    services: Services
    principal: Principal | None
    request_id: str
    now: datetime
    device: str = ""
    """How the client describes itself (User-Agent, or name and version on a socket)."""

    @property
    def db(self) -> Db:
        return self.services.db

    @property
    def user(self) -> Principal:
        """The person asking; raises Unauthenticated if nobody is signed in."""
        if self.principal is None:
            raise Unauthenticated
        return self.principal

    def use(self, kind: type[Part]) -> Part:
        """The part of this type that app.py bound, such as the mailbox. KeyError if it bound none."""
        return cast(Part, self.services.parts[kind])
