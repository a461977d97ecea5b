"""What the scenarios are made of on the server's side."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from k2k.core.ids import Channel, SignInId, UserId, user_channel
from k2k.core.settings import Settings
from k2k.features.accounts.tokens import Tokens
from k2k.infra.streams import Event, Position
from k2k.live.session import Session
from tests.support import Node, People, Person


class Noted(Event):
    type: ClassVar[str] = "test.noted"
    number: int


async def noted(node: Node, channel: str, *numbers: int) -> None:
    """Events in a channel, in one transaction."""
    if numbers:
        async with node.process.db.transaction() as tx:
            for number in numbers:
                tx.emit(Noted(number=number), to=[Channel(channel)])


async def talking(people: People) -> tuple[Person, Person, str]:
    """A buyer, an agent who has claimed the buyer's enquiry, and the channel of their conversation."""
    agent, buyer = await people.agent(), await people.buyer()
    enquiry = await people.enquire(buyer, await people.listing(agent))
    claimed = await people._node.api.post(f"/leads/{enquiry['lead_id']}/claim", token=agent.token)
    assert claimed.status == 200, claimed.json
    return buyer, agent, f"conversation:{enquiry['conversation_id']}"


async def position_of(node: Node, channel: str) -> Position:
    """Where the channel's stream stands."""
    return (await node.process.hub._streams.read(Channel(channel), 2**62)).top


def personal_of(person: Person) -> Channel:
    return user_channel(UserId(person.id))


def session_of(node: Node, person: Person) -> Session:
    """Of the person's only socket on this process."""
    (session,) = node.process.hub.members(personal_of(person))
    assert isinstance(session, Session)
    return session


def token_for(node: Node, person: Person, *, seconds: float) -> str:
    """An access token that ends in so many seconds, or ended so many ago."""
    tokens, now = Tokens(node.settings.auth), node.process.db.clock.now()
    issued = now - tokens.access_lifetime + timedelta(seconds=seconds)
    return tokens.access(UserId(person.id), SignInId(person.sign_in_id), issued)


def with_live(settings: Settings, **live: Any) -> Settings:
    return settings.model_copy(update={"live": settings.live.model_copy(update=live)})
