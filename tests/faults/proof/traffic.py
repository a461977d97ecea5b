"""What people do all the while: talk, race for leads, sign out. Every wish stands in the history before it is sent."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp

from tests.faults.proof.device import Device, NotSent, Person, Refused, Unknown, rest
from tests.faults.proof.history import History
from tests.faults.proof.town import HOUSE, Registry, Talk, Town

PAUSE = (0.05, 0.3)
# The server promises of these two that nothing, and that perhaps something, was written.
NOTHING_WRITTEN, PERHAPS_WRITTEN = "unavailable", "outcome-unknown"
# One in so many takes "nothing was written" at its word and does not ask again: the judge looks whether it is true.
CREDULOUS = 10
# After an acknowledged sign-out: until REST refuses everywhere; until sockets are closed, from then or from healing.
REST_SECONDS = 1.0
SOCKET_SECONDS = 2.0
REFUSED_SECONDS = 60.0


@dataclass
class Traffic:
    """Runs on `doors`, the addresses of all processes. `report(what, who)` is told of every broken promise."""

    doors: Sequence[str]
    http: aiohttp.ClientSession
    history: History
    rng: random.Random
    report: Callable[[str, str], None]
    registry: Registry
    town: Town
    devices: dict[str, list[Device]]
    """By the person's name."""
    pause: float
    """Seconds between two messages of a speaker in a busy conversation."""

    acknowledged: int = 0
    last_ok: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    going_on: bool = True
    healed_at: float = 0.0
    broken: bool = False
    left: list[str] = field(default_factory=list)
    """Messages whose senders hung up and never asked what became of them."""
    fresh: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Messages acknowledged since somebody last looked: the client_id, and the id and seq it was given."""
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> None:
        for talk in self.town.talks:
            if not talk.quiet:
                for speaker in talk.people:
                    self._own(self._speak(talk, speaker))

    async def stop(self, seconds: float) -> None:
        """Begin nothing new and let what has begun come to its end; what does not stays unknown."""
        self.going_on = False
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stir(self, seconds: float) -> None:
        """What happens once during each fault, at moments within `seconds`.

        Quiet people speak, prices change, a lead is raced for, somebody signs out.
        """
        for talk in self.town.talks:
            if talk.quiet:
                self._own(self._after(seconds, lambda talk=talk: self.say(talk, self.rng.choice(talk.people))))  # type: ignore[misc]
            else:
                self._own(self._after(seconds, lambda talk=talk: self._reprice(talk, self.rng.choice(self.doors))))  # type: ignore[misc]
        self._own(self._after(seconds, self.race))
        self._own(self._after(seconds, self.sign_out))

    def speak(self, talk: Talk) -> None:
        """One of the two says something, now."""
        self._own(self.say(talk, self.rng.choice(talk.people)))

    def hang_up(self, talk: Talk, seconds: float) -> None:
        """One of the two says something and is gone `seconds` later; half of them never ask what became of it."""
        asks = self.rng.random() < 0.5
        self.counts["hung up"] += 1
        self._own(self.say(talk, self.rng.choice(talk.people), leaving=seconds, asks=asks))

    def reprice(self, talk: Talk, door: str) -> None:
        """The agent asks another price, at this door first."""
        self._own(self._reprice(talk, door))

    async def travel(self, door: str) -> None:
        """Sign in at this door and be known at all, sign in elsewhere and be known here: one clock for all."""
        elsewhere = self.rng.choice([other for other in self.doors if other != door])
        try:
            await asyncio.gather(self._travel(door), self._travel(elsewhere))
        except Refused as refusal:
            self.report(f"signed in at {door} and {elsewhere} they were refused: {refusal}", "traveller")
        self.counts["travellers"] += 2

    async def _travel(self, door: str) -> None:
        """Raises Refused."""
        person = await self.registry.at(door).person(f"traveller{next(self._numbers)}")
        for other in self.doors:
            await self.registry.at(other).call(person, "GET", "/auth/me")

    async def say(self, talk: Talk, speaker: Person, *, leaving: float | None = None, asks: bool = True) -> None:
        """One message, repeated under its client_id until its fate is known.

        With `leaving` the connection of the first attempt is broken so many seconds after it began; unless the
        speaker `asks`, that was the only attempt.
        """
        id_ = f"{speaker.name}-{next(self._numbers):08d}"
        text = f"{id_} {'selam ' * self.rng.randint(1, 12)}"
        self.history.note("invoke", id=id_, op="send", by=speaker.id, talk=talk.id)
        credulous = self.rng.randrange(CREDULOUS) == 0
        may_stand = False
        while True:
            try:
                attempt = self._send(speaker, leaving, conversation_id=talk.id, client_id=id_, message=text)
                leaving = None
                answer = await attempt
            except Refused as refusal:
                if refusal.number == 503 and not refusal.until:
                    self.report(f"{id_} was refused for now, but not until when: {refusal}", id_)
                if refusal.code not in (NOTHING_WRITTEN, PERHAPS_WRITTEN, "limited", "internal server error"):
                    self.report(f"{id_} was refused: {refusal}", id_)
                    self.history.note("fail", id=id_, why=str(refusal))
                    return
                may_stand |= refusal.code != NOTHING_WRITTEN
                if credulous and not may_stand:
                    self.history.note("fail", id=id_, why=refusal.code)
                    self.counts["given up"] += 1
                    return
                self.history.note("info", id=id_, why=refusal.code)
                self.counts[refusal.code] += 1
            except Unknown as error:
                may_stand = True
                self.history.note("info", id=id_, why=str(error))
                self.counts["no answer"] += 1
                if not asks:
                    self.left.append(id_)
                    return
            except NotSent:
                pass
            else:
                given = {"message": answer["id"], "seq": answer["seq"]}
                self.history.note("ok", id=id_, **given)
                self.fresh.append((id_, given))
                self.acknowledged += 1
                self.last_ok = time.monotonic()
                return
            await self._pause()

    async def race(self) -> None:
        """A new listing of the agency, an enquiry, and every agent claims at once, each at another process."""
        number = next(self._numbers)
        key = {"Idempotency-Key": f"race-listing-{number:08d}"}
        house = HOUSE | {"title": f"House {number:08d}"}
        owner, asker = self.town.racers[0], self.town.asker
        self.history.note("invoke", id=f"race-{number}", op="race")
        listing = await self._insist("POST", "/properties", owner, json=house, headers=key)
        wish = {"client_id": f"race-{number:08d}", "message": "May I see it today?"}
        enquiry = await self._insist("POST", f"/listings/{listing['id']}/enquiries", asker, json=wish)
        lead = enquiry["lead_id"]
        won = await asyncio.gather(*(self._claim(agent, lead) for agent in self.town.racers))
        winners = [agent for agent, mine in zip(self.town.racers, won, strict=True) if mine]
        names = [winner.name for winner in winners]
        self.history.note("ok", id=f"race-{number}", lead=lead, winners=names, title=house["title"])
        if len(winners) != 1:
            self.report(f"lead {lead} was won by {names}", "racers")
        self.counts["leads"] += 1

    async def _reprice(self, talk: Talk, door: str) -> None:
        price, path = 1_000_000 + next(self._numbers), f"/properties/{talk.listing}"
        self.history.note("invoke", id=f"price-{price}", op="price", listing=f"listing:{talk.listing}")
        await self._insist("PUT", path, talk.people[1], door, json={"price": price})
        self.history.note("ok", id=f"price-{price}", listing=f"listing:{talk.listing}", price=price)
        self.counts["prices"] += 1

    async def sign_out(self) -> None:
        """Sign in anew, open a socket, sign out at another process: nothing may accept the token any more."""
        person = self.town.asker
        token = await self.registry.token(person.email, person.address)
        visitor = Person(f"visitor{next(self._numbers)}", person.id, person.email, person.address, token)
        device = Device(visitor.name, visitor, self.doors, self.http, self.history, self.rng, self.report, 0)
        device.start()
        try:
            with suppress(TimeoutError):  # if nobody lets it in at the moment, its token must end all the same
                await asyncio.wait_for(device.joined.wait(), 10)
            self.history.note("invoke", id=visitor.name, op="logout")
            await self._log_out(visitor)
            self.history.note("ok", id=visitor.name)
            self.counts["sign-outs"] += 1
            await self._watch_ended(device, visitor, time.monotonic())
        finally:
            await device.stop()

    async def _watch_ended(self, device: Device, visitor: Person, since: float) -> None:
        """REST refuses the token everywhere from a second on; the socket ends within two, counted from healing."""
        while time.monotonic() < since + 2 * REST_SECONDS or not device.refused:
            asked, door = time.monotonic(), self.rng.choice(self.doors)
            try:
                await rest(self.http, door, "GET", "/auth/me", visitor)
            except (NotSent, Unknown, Refused):
                pass
            else:
                if asked > since + REST_SECONDS:
                    self.report(f"{door} accepted a token {asked - since:.2f} s after its sign-out", visitor.name)
                    return
            late = time.monotonic() - max(since, self.healed_at)
            if not self.broken and late > SOCKET_SECONDS and device.joined.is_set():
                self.report(f"its socket was open {late:.2f} s after its sign-out", visitor.name)
                return
            if late > REFUSED_SECONDS:
                self.report("its socket was never refused after its sign-out", visitor.name)
                return
            await asyncio.sleep(0.1)

    async def _log_out(self, visitor: Person) -> None:
        while True:
            try:
                await rest(self.http, self.rng.choice(self.doors), "POST", "/auth/logout", visitor)
                return
            except Refused as refusal:
                if refusal.number == 401:
                    return  # an earlier attempt did it
            except (NotSent, Unknown):
                pass
            await self._pause()

    async def _speak(self, talk: Talk, speaker: Person) -> None:
        while self.going_on:
            await asyncio.sleep(self.rng.uniform(0.5, 1.5) * self.pause)
            await self.say(talk, speaker)

    async def _send(self, speaker: Person, leaving: float | None, **wish: str) -> Any:
        """Over one of the speaker's sockets, or now and then by REST at any process."""
        if self.rng.random() < (0.25 if leaving is None else 0.75):  # a socket takes longer to come back
            return await self._post(speaker, leaving, wish)
        device = self.rng.choice(self.devices[speaker.name])
        if leaving is not None:
            asyncio.get_running_loop().call_later(leaving, device.drop)
        return await device.call("chat.send", **wish)

    async def _post(self, speaker: Person, leaving: float | None, wish: dict[str, str]) -> Any:
        try:
            async with asyncio.timeout(leaving):  # which closes the connection
                return await rest(self.http, self.rng.choice(self.doors), "POST", "/chat/messages", speaker, json=wish)
        except TimeoutError as error:
            raise Unknown("hung up") from error

    async def _claim(self, agent: Person, lead: str) -> bool:
        """Whether this agent has the lead in the end."""
        try:
            await self._insist("POST", f"/leads/{lead}/claim", agent)
        except Refused as refusal:
            if refusal.code != "lead-taken":
                self.report(f"the claim of lead {lead} was refused: {refusal}", agent.name)
            return False
        return True

    async def _insist(self, method: str, path: str, person: Person, door: str = "", **more: Any) -> Any:
        """Ask until there is an answer, at this door first and then at any. Raises Refused."""
        while True:
            door, asked = "", door or self.rng.choice(self.doors)
            try:
                return await rest(self.http, asked, method, path, person, **more)
            except (NotSent, Unknown):
                pass
            except Refused as refusal:
                if refusal.number not in (429, 503) and refusal.code != "idempotency-in-progress":
                    raise
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(*PAUSE))

    async def _after(self, seconds: float, act: Callable[[], Any]) -> None:
        await asyncio.sleep(self.rng.uniform(0, seconds))
        await act()

    def _own(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(f"could not go on: {error!r}", "traffic")
