"""Who is let in, and what is counted of them when they go."""

from __future__ import annotations

import aiohttp
import pytest

from k2k.core.errors import Limited, Unavailable
from k2k.core.settings import Settings
from k2k.live.door import PATH
from k2k.live.lobby import Lobby
from tests.support import Live, Node, People, eventually


def lobby(settings: Settings, **changes: int) -> Lobby:
    return Lobby(settings.live.model_copy(update=changes))


def test_one_address_that_says_nothing_keeps_nobody_else_out(settings: Settings) -> None:
    place = lobby(settings, connecting_at_once=4)
    silent = [place.enter("203.0.113.1") for _ in range(2)]
    with pytest.raises(Unavailable):
        place.enter("203.0.113.1")
    others = [place.enter("203.0.113.2"), place.enter("203.0.113.3")]
    with pytest.raises(Unavailable):
        place.enter("203.0.113.4")
    silent[0].connect(signed_in=True)
    place.enter("203.0.113.1").leave()
    for ticket in (*silent, *others):
        ticket.leave()
        ticket.leave()
    assert place.newcomers == 0
    assert not place._strangers


def test_strangers_of_one_address_are_counted_until_they_sign_in_or_go(settings: Settings) -> None:
    place = lobby(settings, strangers_per_address=2)
    one, two = place.enter("203.0.113.1"), place.enter("203.0.113.1")
    one.connect(signed_in=False)
    with pytest.raises(Limited):
        place.enter("203.0.113.1")
    two.connect(signed_in=True)
    place.enter("203.0.113.1").leave()
    one.leave()
    assert (place.newcomers, place._strangers) == (0, {})


async def test_however_a_socket_goes_it_is_no_longer_counted(node: Node, people: People) -> None:
    """Refused upgrades, refused connects, silence, and sockets that are cut."""
    counted = node.process.sockets._lobby
    before = counted.newcomers, counted._strangers.total()
    person = await people.buyer()
    assert (await node.api.get(PATH, prefix="")).status == 426
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(node.api.base + PATH) as socket:
            await socket.send_str('{"id":1,"connect":{"token":"x"}}')
        async with session.ws_connect(node.api.base + PATH) as socket:
            socket._response.close()
        async with session.ws_connect(node.api.base + PATH) as socket:
            await socket.send_str("nonsense")
    async with Live.open(node.api.base) as live:
        await live.command("connect", {})
    async with node.live(person.token) as live:
        await node.api.post("/auth/logout", token=person.token)
        assert await live.close_code() == 3500

    async def as_before() -> bool:
        return (counted.newcomers, counted._strangers.total()) == before

    await eventually(as_before)
