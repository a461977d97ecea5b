"""One run: start everything, let people live, break things one after the other, and see that every promise held."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.faults.proof import judge, resources
from tests.faults.proof.device import Device
from tests.faults.proof.faults import FAULTS, Fault
from tests.faults.proof.history import History, about
from tests.faults.proof.judge import Violation
from tests.faults.proof.proxy import Proxy
from tests.faults.proof.resources import Footprint
from tests.faults.proof.servers import App, Disk, Postgres, Valkey
from tests.faults.proof.town import Registry, Talk, Town, settle
from tests.faults.proof.traffic import Traffic

APPS = 3
LEVEL_SECONDS = 10.0
# The deadline of the database and a little.
FINISHED_SECONDS = 4.0
# live.replay_events: with no more events missed a device must be able to resume.
MAY_BE_BEHIND = 1000
# Between two looks of a loop that sleeps for a moment; more, and it was kept from running.
MOST_BETWEEN = 0.25
WARM_UP_ROUNDS = 20
# How often all numbering is looked at anew; what was just acknowledged is looked at after every fault.
SHAPE_EVERY = 5
# Channels stay warm for linger_seconds (1 here) after their last socket.
IDLE_SECONDS = 3.0
# How often a process is looked at before what it has not given back counts.
LOOKS = 5
EVERY_PAIR = 8
"""Each time so many single faults have been drawn, two at once follow."""


@dataclass(frozen=True)
class Plan:
    """What to run. `seconds` bounds the faults: when they are over no further one begins."""

    seed: int
    faults: int
    seconds: float
    home: Path
    hold: tuple[float, float] = (0.3, 1.5)
    """Seconds a fault lasts: from, to."""
    busy: int = 4
    quiet: int = 3
    pause: float = 0.12
    names: tuple[str, ...] = ()
    """Exactly these faults in this order, joined by " + " where two at once, instead of drawn ones."""
    environment: dict[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None
    until_violation: bool = False
    """The first one ends the run, and nothing is measured."""


class Patience:
    """Time that this very process ran. The proxies live in it: where it stands still nobody can be level."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._seen = time.monotonic()

    def over(self) -> bool:
        """Whether that many seconds have passed. To be asked several times a second."""
        now = time.monotonic()
        self._left -= min(now - self._seen, MOST_BETWEEN)
        self._seen = now
        return self._left < 0


@dataclass
class Outcome:
    """One fault as it went."""

    name: str
    broken: float
    level: float
    writes: float
    """Seconds from healing until every device was level, and until the next message was acknowledged."""


@dataclass
class Report:
    seed: int
    outcomes: list[Outcome] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    footprints: list[str] = field(default_factory=list)
    history: Path = Path()
    seconds: float = 0.0

    def text(self) -> str:
        """The closing table, and each violation with its part of the history."""
        return "\n".join([*self._table(), *self.footprints, *self._counts(), *self._violations()])

    def _table(self) -> Iterator[str]:
        by_name: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes:
            by_name[outcome.name if " + " not in outcome.name else "two at once"].append(outcome)
        yield f"{'fault':<42} {'times':>5} {'level, worst':>13} {'writes, worst':>14}"
        for name, outcomes in sorted(by_name.items()):
            level, writes = max(one.level for one in outcomes), max(one.writes for one in outcomes)
            yield f"{name:<42} {len(outcomes):>5} {level:>11.2f} s {writes:>12.2f} s"

    def _counts(self) -> Iterator[str]:
        faults, violations = len(self.outcomes), len(self.violations)
        yield ", ".join(f"{count} {name}" for name, count in self.counts.items())
        yield f"seed {self.seed}: {faults} faults in {self.seconds:.0f} s, {violations} violations"

    def _violations(self) -> Iterator[str]:
        for violation in self.violations[:10]:
            yield f"\nVIOLATION: {violation}"
            yield from about(self.history, violation.what, violation.words)


def schedule(rng: random.Random, count: int) -> Iterator[list[Fault]]:
    """Every fault about equally often, in an order of the seed's, and now and then two that hit different things."""
    names: list[str] = []
    drawn = sorted(name for name, fault in FAULTS.items() if fault.drawn)
    for number in range(1, count + 1):
        if not names:
            names = rng.sample(drawn, len(drawn))
        chosen = [FAULTS[names.pop()]]
        if number % EVERY_PAIR == 0:
            others = [FAULTS[name] for name in drawn if not FAULTS[name].hits & chosen[0].hits]
            chosen.append(rng.choice(others))
        yield chosen


def named(names: Sequence[str]) -> Iterator[list[Fault]]:
    for name in names:
        yield [FAULTS[part] for part in name.split(" + ")]


class World:
    """Everything that runs. Made by `world`."""

    def __init__(self, plan: Plan, http: aiohttp.ClientSession, threads: ThreadPoolExecutor) -> None:
        self.plan = plan
        self.http = http
        self.rng = random.Random(plan.seed)  # noqa: S311 - to be repeated; each fault has its own
        self.chance = random.Random(plan.seed)  # noqa: S311 - what people do must not move the faults
        self.ends = AsyncExitStack()
        """Whatever was started registers its end here."""
        self.history = History(plan.home / "history.jsonl")
        self.report = Report(plan.seed, history=self.history.path)
        self.postgres = Postgres(plan.home / "postgres", threads)
        self.disk = Disk(plan.home / "postgres")
        self.valkey = Valkey(plan.home / "valkey", threads)
        self.apps: list[App] = []
        self.town: Town
        self.traffic: Traffic
        self.devices: dict[str, list[Device]] = {}
        self._fault = "before any fault"

    def all_devices(self) -> list[Device]:
        return [device for devices in self.devices.values() for device in devices]

    def speak(self, talk: Talk) -> None:
        """Have one of the two say something, now."""
        self.traffic.speak(talk)

    def hang_up(self, talk: Talk, seconds: float) -> None:
        """Have one of the two say something and be gone so many seconds later."""
        self.traffic.hang_up(talk, seconds)

    def reprice(self, talk: Talk, app: App) -> None:
        """Have the agent change the price, at this process first."""
        self.traffic.reprice(talk, app.base)

    async def travel(self, app: App) -> None:
        """Somebody new signs in at this process and is known everywhere, and the other way round."""
        await self.traffic.travel(app.base)

    def violated(self, what: str, who: str) -> None:
        """A promise was broken."""
        what = f"{what} ({self._fault})"
        self.report.violations.append(Violation(what, (who,)))
        self.history.note("violation", what=what, who=who)
        self.plan.say(f"  VIOLATION: {what} ({who})")

    async def start(self) -> None:
        """Servers, proxies, processes. Raises NoDisk."""
        if any(not fault.drawn for faults in named(self.plan.names) for fault in faults):
            await self.disk.mount()
            self.ends.push_async_callback(self.disk.unmount)
        for backing in (self.postgres, self.valkey):
            self.ends.push_async_callback(backing.stop)
            await backing.start()
        await self.postgres.make()
        secret = secrets.token_urlsafe(48)
        for number in range(APPS):
            ways = Proxy(self.postgres.port, postgres=True), Proxy(self.valkey.port)
            for server, way in zip((self.postgres, self.valkey), ways, strict=True):
                await way.open()
                self.ends.push_async_callback(way.close)
                server.proxies.append(way)
            app = App(number, self.plan.home, self._environment(secret, *ways), *ways)
            self.ends.push_async_callback(app.end)
            self.apps.append(app)
        # One after the other only for the first: it migrates.
        await self.apps[0].start()
        await asyncio.gather(*(app.start() for app in self.apps[1:]))

    def _environment(self, secret: str, postgres: Proxy, valkey: Proxy) -> dict[str, str]:
        return {
            "DATABASE_URL": self.postgres.through(postgres),
            "REDIS_URL": self.valkey.through(valkey),
            "K2K_ENVIRONMENT": "production",
            "K2K_HOME": str(self.plan.home),
            "K2K_SERVER__PROXIES": "127.0.0.0/8",
            "K2K_SERVER__LEAVE_SECONDS": "0.3",
            "K2K_SERVER__DRAIN_SECONDS": "3",
            "K2K_AUTH__SECRET": secret,
            "K2K_AUTH__ARGON2_MEMORY_KIB": "1024",
            "K2K_AUTH__ACCESS_MINUTES": "240",
            "K2K_LIMITS__USER_PER_MINUTE": "1000000",
            "K2K_LIMITS__ADDRESS_PER_MINUTE": "1000000",
            "K2K_LIVE__PING_SECONDS": "2",
            "K2K_LIVE__PONG_SECONDS": "2",
            "K2K_LIVE__LINGER_SECONDS": "1",
            "K2K_LOG__FORMAT": "json",
            **self.plan.environment,
        }

    async def populate(self) -> None:
        """People, their devices, and what they do from now on."""
        doors = [app.base for app in self.apps]
        plan = self.plan
        registry = Registry(self.http, doors, self.chance)
        self.town = await self.postgres.asked(
            lambda database: settle(registry, database, busy=plan.busy, quiet=plan.quiet, racers=APPS)
        )
        for person in self.town.people:
            self.devices[person.name] = [
                Device(
                    f"{person.name}/{n}",
                    person,
                    doors,
                    self.http,
                    self.history,
                    self.chance,
                    self.violated,
                    MAY_BE_BEHIND,
                    self.town.followed(person),
                    asks=n == 1,
                )
                for n in range(2)
            ]
        self.traffic = Traffic(
            doors, self.http, self.history, self.chance, self.violated, registry, self.town, self.devices, plan.pause
        )

    async def warm_up(self) -> list[Footprint]:
        """Let everybody connect and talk a little, and leave: what the processes then hold."""
        await self._connect()
        for _ in range(WARM_UP_ROUNDS):
            await asyncio.gather(
                *(self.traffic.say(talk, person) for talk in self.town.talks for person in talk.people)
            )
        for device in self.all_devices():
            await device.stop()
        await asyncio.sleep(IDLE_SECONDS)
        return [await resources.footprint(self.http, app) for app in self.apps]

    async def begin(self) -> None:
        """Everybody connects and goes about their day."""
        await self._connect()
        self.traffic.start()
        self.ends.push_async_callback(self.traffic.stop, 0)

    async def _connect(self) -> None:
        for device in self.all_devices():
            device.start()
            self.ends.push_async_callback(device.stop)
        await asyncio.wait_for(asyncio.gather(*(device.joined.wait() for device in self.all_devices())), 20)

    async def suffer(self, faults: list[Fault]) -> None:
        """One fault, or two at once, and all that must hold after it."""
        name = self._fault = " + ".join(fault.name for fault in faults)
        self.history.note("fault", name=name)
        hold = self.rng.uniform(*self.plan.hold)
        self.traffic.broken, began = True, time.monotonic()
        self.traffic.stir(hold + 1.0)
        healing, broken = asyncio.Event(), asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._inflict(fault, broken, healing))
            for _ in faults:
                await broken.acquire()
            await asyncio.sleep(hold)
            healing.set()
        healed = self.traffic.healed_at = time.monotonic()
        self.traffic.broken = False
        self.history.note("healed", name=name)
        level = await self._level(healed)
        writes = await self._writes(healed)
        self.report.outcomes.append(Outcome(name, healed - began, level, writes))
        await self._finished()
        await self._check()

    async def _inflict(self, fault: Fault, broken: asyncio.Semaphore, healing: asyncio.Event) -> None:
        """Break it, say so, and heal it when all are to heal: a process may need the database back to start."""
        async with fault.inflict(self):
            broken.release()
            await healing.wait()

    async def _level(self, healed: float) -> float:
        """Seconds until every device has what its stream held when all was healed."""
        channels = {channel for device in self.all_devices() for channel in device.places}
        tops = await self.postgres.asked(lambda database: judge.tops(database, channels))
        patience = Patience(LEVEL_SECONDS)
        while late := [device for device in self.all_devices() if device.lacks(tops)]:
            if patience.over():
                for device in late:
                    self.violated(f"{LEVEL_SECONDS:.0f} s after healing it is at {device.lacks(tops)}", device.name)
                    device.drop()
                break
            await asyncio.sleep(0.02)
        return time.monotonic() - healed

    async def _writes(self, healed: float) -> float:
        """Seconds until a message was acknowledged that may have been sent after healing."""
        patience = Patience(LEVEL_SECONDS)
        while self.traffic.last_ok < healed:
            if patience.over():
                self.violated(f"no message was acknowledged within {LEVEL_SECONDS:.0f} s of healing", "traffic")
                break
            await asyncio.sleep(0.02)
        return self.traffic.last_ok - healed

    async def _finished(self) -> None:
        """No transaction stays open with nobody at work in it."""
        patience = Patience(FINISHED_SECONDS)
        while forgotten := await self.postgres.asked(judge.forgotten):
            if patience.over():
                self.violated(f"{FINISHED_SECONDS:.0f} s after healing stand open: {forgotten}", "postgres")
                break
            await asyncio.sleep(0.1)

    async def _check(self) -> None:
        """What was acknowledged since the last look is stored; everything is numbered without holes."""
        fresh, self.traffic.fresh = self.traffic.fresh, []
        found = await self.postgres.asked(lambda database: judge.kept(database, fresh))
        if len(self.report.outcomes) % SHAPE_EVERY == 0:
            found += await self.postgres.asked(judge.shape)
        for violation in found:
            self.violated(violation.what, violation.words[0])

    def tell(self, number: int, of: int) -> None:
        """One line of a fault that has passed."""
        outcome = self.report.outcomes[-1]
        self.plan.say(
            f"{number:>4}/{of} {outcome.name:<58} {outcome.broken:5.1f} s broken, level after {outcome.level:5.2f} s, "
            f"{self.traffic.acknowledged:>7} messages"
        )

    async def finish(self, baseline: list[Footprint]) -> None:
        """The people go; then the whole history is judged and the processes are measured."""
        self._fault = "at the end"
        await self.traffic.stop(15)
        await self._level(time.monotonic())
        channels = [(device.name, channel) for device in self.all_devices() for channel in device.places]
        for device in self.all_devices():
            await device.stop()
        self.history.sync()
        for violation in await self.postgres.asked(
            lambda database: judge.last_word(database, self.history.path, channels)
        ):
            self.violated(violation.what, violation.words[0])
        self.report.counts = {"messages": self.traffic.acknowledged, **self.traffic.counts}
        left = self.traffic.left
        self.report.counts["left"] = len(left)
        self.report.counts["left that stand"] = await self.postgres.asked(lambda database: judge.stored(database, left))
        if baseline:
            await self._measure(baseline)

    async def _measure(self, baseline: list[Footprint]) -> None:
        """What the processes hold when nobody is there any more."""
        await asyncio.sleep(IDLE_SECONDS)
        for app, before in zip(self.apps, baseline, strict=True):
            now = await resources.footprint(self.http, app)
            for _ in range(LOOKS):  # a connection may be out for what every process does by itself
                if not [*resources.grown(before, now)]:
                    break
                await asyncio.sleep(1)
                now = await resources.footprint(self.http, app)
            self.report.footprints.append(f"app {app.number} ({app.starts} starts): {before} → {now}")
            for fault in resources.grown(before, now):
                self.violated(fault, f"app {app.number}")


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[World]:
    """A world from nothing, ended in order however the block ends."""
    timeout = aiohttp.ClientTimeout(total=6, connect=2)
    # Idle connections go before the processes are measured.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS / 2)
    with ThreadPoolExecutor(1, thread_name_prefix="servers") as threads:
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
            world = World(plan, http, threads)
            async with world.ends:
                world.ends.callback(world.history.close)
                await world.start()
                yield world


async def run(plan: Plan) -> Report:
    """Carry out the plan. What it finds is in the report; what it cannot do is an exception, NoDisk among them."""
    plan.home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    async with running(plan) as world:
        await world.populate()
        baseline = [] if plan.until_violation else await world.warm_up()
        await world.begin()
        faults = list(named(plan.names) if plan.names else schedule(world.rng, plan.faults))
        first = time.monotonic()
        for number, chosen in enumerate(faults, 1):
            if time.monotonic() - first > plan.seconds or (plan.until_violation and world.report.violations):
                break
            world.rng = random.Random(f"{plan.seed}/{number}")  # noqa: S311 - as above
            await world.suffer(chosen)
            world.tell(number, len(faults))
        await world.finish(baseline)
        world.report.seconds = time.monotonic() - began
        return world.report
