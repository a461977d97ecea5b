"""What stories of moderators are told with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

from k2k.core.ids import ItemId, UserId
from k2k.features.moderation import service
from tests.support import Api, Node, Person, Response, a_property, eventually


class Desk:
    """One moderator at work."""

    def __init__(self, api: Api, moderator: Person) -> None:
        self.api = api
        self.moderator = moderator

    async def get(self, path: str, **more: Any) -> Response:
        return await self.api.get(f"/moderation{path}", token=self.moderator.token, **more)

    async def post(self, path: str, **more: Any) -> Response:
        return await self.api.post(f"/moderation{path}", token=self.moderator.token, **more)

    async def about(self, listing: UUID) -> dict[str, Any]:
        """All that a moderator sees of the listing."""
        answer = await self.get(f"/listings/{listing}")
        assert answer.status == 200, answer.json
        found: dict[str, Any] = answer.json
        return found

    async def kinds(self, listing: UUID) -> list[str]:
        """Of the items that wait about the listing."""
        return sorted(item["kind"] for item in (await self.about(listing))["items"])

    async def waits(self, listing: UUID, *kinds: str) -> None:
        """Until these kinds of items, and no others, wait about the listing."""

        async def there() -> bool:
            return await self.kinds(listing) == sorted(kinds)

        await eventually(there)

    async def item(self, listing: UUID, kind: str) -> dict[str, Any]:
        """The one of this kind that waits, as soon as there is one."""

        async def there() -> bool:
            return kind in await self.kinds(listing)

        await eventually(there)
        (found,) = [item for item in (await self.about(listing))["items"] if item["kind"] == kind]
        return dict(found)

    async def queue(self, **query: Any) -> list[dict[str, Any]]:
        """All that waits, page by page."""
        items, cursor = [], None
        while True:
            page = await self.get("/queue", params=query | ({"cursor": cursor} if cursor else {}))
            assert page.status == 200, page.json
            items += page.json["items"]
            cursor = page.json["next"]
            if cursor is None:
                return items

    async def pairs(self, listing: UUID) -> dict[UUID, dict[str, Any]]:
        """What may be the same as the listing, by its id."""
        answer = await self.get(f"/listings/{listing}/duplicates")
        assert answer.status == 200, answer.json
        return {UUID(pair["listing"]["id"]): pair for pair in answer.json}


async def inspected(node: Node) -> None:
    """Until every listing that changed has been looked at."""

    async def done() -> bool:
        return not await node.process.db.records("select 1 from pgqueuer where entrypoint = 'listing.inspect'", ())

    await eventually(done)


async def claimed_meanwhile(node: Node, by: Person, item: dict[str, Any], deciding: Awaitable[Response]) -> Response:
    """What comes of a decision that is made while somebody's claim of the item is being committed."""
    db = node.process.db

    async def waiting() -> bool:
        return bool(await db.records("select 1 from pg_stat_activity where $1 = any (pg_blocking_pids(pid))", [pid]))

    async with db.transaction() as tx:
        ((pid,),) = await tx.records("select pg_backend_pid()", [])
        await service.claim(tx, ItemId(UUID(item["id"])), UserId(by.id), db.clock.now())
        decided = asyncio.ensure_future(deciding)
        await eventually(waiting)
    return await decided


async def submitted(api: Api, seller: Person, **more: Any) -> UUID:
    """A listing that waits for review."""
    made = await api.post("/properties", json=a_property(status="draft", **more), token=seller.token)
    assert made.status == 201, made.json
    sent = await api.put(f"/properties/{made.json['id']}", json={"status": "pending_review"}, token=seller.token)
    assert sent.status == 200, sent.json
    return UUID(made.json["id"])
