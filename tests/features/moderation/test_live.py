"""The law of state with position for those who look after the market: the queue, and the events after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from tests.features.moderation.desk import Desk, submitted
from tests.support import Api, Live, LiveError, Node, People, Person, eventually


@dataclass
class Shown:
    """What a moderator's app shows, kept in step as docs/live.md says: by id, and what is new is fetched."""

    live: Live
    items: dict[str, Any] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    """The types of the events that came."""

    async def load(self) -> None:
        page = await self.live.rpc("moderation.queue", limit=20)
        position = page["position"]
        self.items = {item["id"]: item for item in page["items"]}
        while page["next"] is not None:
            page = await self.live.rpc("moderation.queue", limit=20, cursor=page["next"])
            self.items |= {item["id"]: item for item in page["items"]}
        joined = await self.live.subscribe("staff", recover=True, **position)
        assert joined["recovered"]
        for published in joined.get("publications", []):
            await self.apply(published["data"])

    async def apply(self, event: dict[str, Any]) -> None:
        data = event["data"]
        self.heard.append(event["type"])
        match event["type"]:
            case "moderation.item_added":
                with suppress(LiveError):  # it is done already, and that comes next
                    self.items[data["item_id"]] = await self.live.rpc("moderation.item", item_id=data["item_id"])
            case "moderation.item_claimed":
                if data["item_id"] in self.items:
                    self.items[data["item_id"]] |= {name: data[name] for name in ("claimed_by", "claimed_until")}
            case "moderation.item_done":
                self.items.pop(data["item_id"], None)
            case unknown:
                raise AssertionError(f"{unknown} is not applied here: say how it changes what is shown")

    async def keep_up(self) -> None:
        """Apply what has come."""
        with suppress(asyncio.QueueEmpty):
            while True:
                push = self.live.news.get_nowait()
                if push["channel"] == "staff" and "pub" in push:
                    await self.apply(push["pub"]["data"])


@pytest.fixture
async def screen(second_node: Node, desk: Desk) -> AsyncIterator[Shown]:
    async with Live.open(second_node.api.base) as live:
        await live.connect(desk.moderator.token, data={"personal": "client"})
        shown = Shown(live)
        await shown.load()
        yield shown


async def same(screen: Shown, desk: Desk) -> None:
    """Until what is shown is what a fresh fetch answers."""

    async def in_step() -> bool:
        await screen.keep_up()
        return screen.items == {item["id"]: item for item in await desk.queue(limit=100)}

    await eventually(in_step)


async def test_the_queue_and_the_events_after_it_are_what_a_fresh_fetch_answers(
    api: Api, people: People, desk: Desk, other_desk: Desk, seller: Person, screen: Shown
) -> None:
    listing, public = await submitted(api, seller), await people.listing(seller)
    item = await desk.item(listing, "review")
    await same(screen, desk)
    assert item["id"] in screen.items
    await other_desk.post(f"/queue/{item['id']}/claim")
    await same(screen, desk)
    assert screen.items[item["id"]]["claimed_by"] == str(other_desk.moderator.id)
    buyer = await people.buyer()
    await api.post(f"/listings/{public}/reports", json={"reason": "spam"}, token=buyer.token)
    await other_desk.post(f"/listings/{listing}/approve")
    await same(screen, desk)
    assert item["id"] not in screen.items
    assert str(public) in {shown["listing_id"] for shown in screen.items.values()}
    await desk.post(f"/listings/{public}/reports/dismiss")
    await same(screen, desk)
    assert set(screen.heard) >= {"moderation.item_added", "moderation.item_claimed", "moderation.item_done"}


async def test_an_app_that_was_away_catches_up(api: Api, node: Node, desk: Desk, seller: Person, screen: Shown) -> None:
    item = await desk.item(await submitted(api, seller), "review")
    await same(screen, desk)
    epoch, offset = screen.live.positions["staff"]
    await screen.live.socket.close()
    await desk.post(f"/queue/{item['id']}/claim")
    other = await desk.item(await submitted(api, seller), "review")
    async with node.live(desk.moderator.token) as again:
        joined = await again.subscribe("staff", recover=True, epoch=epoch, offset=offset)
        assert joined["recovered"]
        screen.live = again
        for published in joined["publications"]:
            await screen.apply(published["data"])
        await same(screen, desk)
        assert {item["id"], other["id"]} <= screen.items.keys()


async def test_the_events_say_what_was_decided_and_by_whom(api: Api, desk: Desk, seller: Person, node: Node) -> None:
    listing = await submitted(api, seller)
    item = await desk.item(listing, "review")
    async with node.live(desk.moderator.token) as live:
        await live.subscribe("staff")
        await desk.post(f"/listings/{listing}/reject", json={"reason": "Secret words"})
        done = await news_of(live, listing)
    assert done == {
        "item_id": item["id"],
        "kind": "review",
        "listing_id": str(listing),
        "outcome": "rejected",
        "done_by": str(desk.moderator.id),
    }


async def news_of(live: Live, listing: UUID) -> dict[str, Any]:
    """The next event of the staff's channel about this listing."""
    while True:
        push = await asyncio.wait_for(live.news.get(), 10)
        if "pub" in push and push["pub"]["data"]["data"]["listing_id"] == str(listing):
            return dict(push["pub"]["data"]["data"])


async def test_staff_news_are_not_for_sellers(node: Node, seller: Person) -> None:
    async with node.live(seller.token) as live:
        with pytest.raises(LiveError) as refused:
            await live.subscribe("staff")
        assert refused.value.code == 103
