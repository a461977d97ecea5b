"""One call of an operation: what a handler is given whichever door it came through. It knows no HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, cast

from k2k.core.errors import Unauthenticated
from k2k.infra.db import Db, GatheredRead, SetFunction
from k2k.infra.transaction import Reader, Tx, one
from k2k.ops.authenticator import Principal

Part = TypeVar("Part")
Item = TypeVar("Item")
Result = TypeVar("Result")


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

    address: str = ""
    """Where it comes from, as far as proxies are believed."""

    tx: Tx | None = None
    """The transaction this call runs in, where its answer is kept with what it writes."""

    @property
    def db(self) -> Reader:
        """What reads go through; it sees what this call has written."""
        return self.services.db if self.tx is None else self.tx

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """What writes go through: committed when the block ends, or with the call's answer where that is kept."""
        if self.tx is not None:
            yield self.tx
        else:
            async with self.services.db.transaction() as tx:
                yield tx

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        """What several reads go through that are to tell of one and the same moment."""
        if self.tx is not None:
            raise RuntimeError("a call whose answer is kept reads what it has written: it has no snapshot")
        async with self.services.db.snapshot() as reader:
            yield reader

    async def gather(self, function: GatheredRead[Item, Result], item: Item) -> Result:
        """Have the function read `item` along with what other calls ask it for."""
        if self.tx is not None:
            return one(await function(self.tx, [item]))
        return await self.services.db.gather(function, item)

    async def together(self, function: SetFunction[Item, Result], item: Item) -> Result:
        """Have the set function write `item` along with what other calls write; raises its outcome if an error."""
        if self.tx is not None:
            return one(await function(self.tx, [item]))
        return await self.services.db.together(function, item)

    @property
    def user(self) -> Principal:
        """The person asking; raises Unauthenticated if nobody is signed in."""
        if self.principal is None:
            raise Unauthenticated
        return self.principal

    def use(self, kind: type[Part]) -> Part:
        """The part of this type that app.py bound, such as the mailbox. KeyError if it bound none."""
        return cast(Part, self.services.parts[kind])
