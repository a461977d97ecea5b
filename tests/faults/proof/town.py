"""The people of the story, made through the public API: agents, buyers, their talks, and an agency that races."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import asyncpg

from tests.faults.proof.device import NotSent, Person, Refused, Unknown, rest

PASSWORD = "injera and shiro at noon"
HOUSE = {
    "title": "House behind Meskel Square",
    "property_type": "house",
    "listing_type": "sale",
    "price": 9000000,
    "city": "Addis Ababa",
}
# argon2 takes a few at once and turns away who waits too long.
AT_ONCE = 8
TRIES = 80


@dataclass(frozen=True)
class Talk:
    """A conversation between a buyer and the agent who claimed the lead. A quiet one has a message now and then."""

    id: str
    people: tuple[Person, Person]
    quiet: bool
    listing: str


@dataclass(frozen=True)
class Town:
    talks: list[Talk]
    racers: list[Person]
    """The agents of one agency, its owner first: a lead of theirs is for whoever claims first."""
    asker: Person
    """The buyer whose enquiries they race for."""
    agency: str

    @property
    def people(self) -> list[Person]:
        return [*(person for talk in self.talks for person in talk.people), *self.racers, self.asker]

    def followed(self, person: Person) -> tuple[str, ...]:
        """What the person follows besides their own channel: the listing they talk about, the agency they run."""
        talks = (f"listing:{talk.listing}" for talk in self.talks if person in talk.people)
        return (*talks, f"agency:{self.agency}") if person is self.racers[0] else tuple(talks)


class Registry:
    """Signs people up, each from an address of their own: the limits on sign-ins are by address."""

    def __init__(self, http: aiohttp.ClientSession, doors: Sequence[str], rng: random.Random) -> None:
        self._http = http
        self._doors = doors
        self._rng = rng
        self._room = asyncio.Semaphore(AT_ONCE)
        self._numbers = count(1)

    def at(self, door: str) -> Registry:
        """The same, but it asks nobody else."""
        other = copy(self)
        other._doors = [door]
        return other

    async def person(self, name: str) -> Person:
        """Somebody new, signed in."""
        number = next(self._numbers)
        email, address = f"{name}-{number}@proof.example", f"198.18.{number // 250}.{number % 250 + 1}"
        origin = {"X-Forwarded-For": address}
        account = {"full_name": name, "email": email, "password": PASSWORD}
        async with self._room:
            await self._ask("POST", "/auth/register", None, json=account, headers=origin)
        token = await self.token(email, address)
        me = await self.call(Person(name, "", email, address, token), "GET", "/auth/me")
        return Person(name, me["id"], email, address, token)

    async def token(self, email: str, address: str) -> str:
        """An access token of a new sign-in."""
        wish = {"email": email, "password": PASSWORD}
        origin = {"X-Forwarded-For": address}
        async with self._room:
            pair = await self._ask("POST", "/auth/login", None, json=wish, headers=origin)
        return str(pair["access_token"])

    async def call(self, person: Person, method: str, path: str, **body: Any) -> Any:
        return await self._ask(method, path, person, **({"json": body} if body else {}))

    async def _ask(self, method: str, path: str, person: Person | None, **more: Any) -> Any:
        """Repeat a call that may be repeated until it is answered: at the first process, then wherever it may be.

        At one process, because another may take up to a second to hear of a new role. Raises Refused, and Unknown
        when there is never an answer.
        """
        door = self._doors[0]
        for _ in range(TRIES):
            try:
                return await rest(self._http, door, method, path, person, **more)
            except (NotSent, Unknown):
                pass
            except Refused as refusal:
                if refusal.number not in (429, 503):
                    raise
            await asyncio.sleep(0.25)
            door = self._rng.choice(self._doors)
        raise Unknown("no answer however often it was asked")

    async def agent(self, name: str) -> Person:
        person = await self.person(name)
        await self.call(person, "POST", "/agents/profile", display_name=name)
        return person

    async def listing(self, seller: Person) -> str:
        return str((await self.call(seller, "POST", "/properties", **HOUSE))["id"])

    async def talk(self, name: str, *, quiet: bool) -> Talk:
        """Two new people and their conversation."""
        agent, buyer = await asyncio.gather(self.agent(f"{name}-agent"), self.person(f"{name}-buyer"))
        listing = await self.listing(agent)
        first = {"client_id": f"{name}-enquiry", "message": "Is it still free?"}
        enquiry = await self.call(buyer, "POST", f"/listings/{listing}/enquiries", **first)
        await self.call(agent, "POST", f"/leads/{enquiry['lead_id']}/claim")
        return Talk(enquiry["conversation_id"], (buyer, agent), quiet, listing)


async def settle(
    registry: Registry,
    database: asyncpg.Connection[asyncpg.Record],
    *,
    busy: int,
    quiet: int,
    racers: int,
) -> Town:
    """Everybody there is, while nothing is broken yet."""
    talks = await asyncio.gather(
        *(registry.talk(f"busy{number}", quiet=False) for number in range(busy)),
        *(registry.talk(f"quiet{number}", quiet=True) for number in range(quiet)),
    )
    owner, *members = await asyncio.gather(*(registry.agent(f"racer{number}") for number in range(racers)))
    agency = await registry.call(owner, "POST", "/agencies", name="Bole Homes", city="Addis Ababa")
    # There is no operation yet by which an agent joins an agency.
    await database.execute(
        "update agent_profiles set agency_id = $1, agency_role = 'member' where user_id = any ($2::uuid[])",
        agency["id"],
        [member.id for member in members],
    )
    return Town(list(talks), [owner, *members], await registry.person("asker"), agency["id"])
