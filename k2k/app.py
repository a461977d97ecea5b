"""The composition root: the one place that knows everyone. It builds a process and names its operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from aiohttp import web
from pydantic_core import from_json

from k2k.core.clock import Clock
from k2k.core.ids import SignInId
from k2k.core.settings import ListingSettings, MediaSettings, Settings
from k2k.features.accounts import api as accounts
from k2k.features.accounts.authenticator import SignInAuthenticator
from k2k.features.accounts.events import SessionRevoked
from k2k.features.accounts.passwords import Passwords
from k2k.features.accounts.tokens import Tokens
from k2k.features.agents import api as agents
from k2k.features.brands import api as brands
from k2k.features.chat import api as chat
from k2k.features.chat.events import MessageNew
from k2k.features.chat.service import join_texts
from k2k.features.imports import api as imports
from k2k.features.imports.chunks import ImportChunk, importing
from k2k.features.imports.service import forget_old
from k2k.features.leads import api as leads
from k2k.features.listings import api as listings
from k2k.features.listings import api_images as listing_images
from k2k.features.listings.inspection import InspectListing
from k2k.features.listings.service import end_listings
from k2k.features.media import api as media
from k2k.features.media import collection
from k2k.features.media.darkroom import Darkroom
from k2k.features.media.service import DropFiles
from k2k.features.media.studio import Studio
from k2k.features.moderation import api as moderation
from k2k.features.moderation.service import inspecting
from k2k.features.places import api as places
from k2k.features.saved import api as saved
from k2k.features.sync import api as sync
from k2k.features.sync.polls import Polls
from k2k.flows import enquiry, state
from k2k.infra import retention
from k2k.infra.db import Db
from k2k.infra.ephemeral import Ephemeral
from k2k.infra.jobs import queue
from k2k.infra.jobs.worker import Worker
from k2k.infra.limits import Limits
from k2k.infra.mail import Mailbox, SendMail, sending
from k2k.infra.metrics import Metrics
from k2k.infra.migrations import applied_migrations, missing_migrations
from k2k.infra.pubsub import PubSub
from k2k.infra.smtp import Smtp
from k2k.infra.storage.directory import Directory
from k2k.infra.storage.opening import open_storage
from k2k.infra.streams import Numbered, Streams, declared_events
from k2k.live.access import follow_access
from k2k.live.broker import Broker
from k2k.live.command import Commands, ConnectWish
from k2k.live.door import PATH, SUBPROTOCOLS, SocketDoor
from k2k.live.hub import Hub
from k2k.live.presence import Presence
from k2k.live.session import Session
from k2k.live.wheel import Wheel
from k2k.ops.call import Services
from k2k.ops.channels import Channels
from k2k.ops.limits import Guard
from k2k.ops.paging import Cursors
from k2k.ops.perform import forget_answers
from k2k.web import assets, docs, documents, health, routes
from k2k.web import storage as media_files
from k2k.web.headers import LEAVING, RELIEVED, finish, preflights, say_goodbye
from k2k.web.live import Live
from k2k.web.middleware import access, economical
from k2k.web.problems import problems
from k2k.web.proxy import behind

log = structlog.get_logger()

OPERATIONS = [
    *media.routes.operations,
    *accounts.routes.operations,
    *agents.routes.operations,
    *places.routes.operations,
    *brands.routes.operations,
    *sync.routes.operations,
    *listings.routes.operations,
    *listing_images.routes.operations,
    *imports.routes.operations,
    *leads.routes.operations,
    *saved.routes.operations,
    *chat.routes.operations,
    *moderation.routes.operations,
    *enquiry.routes.operations,
    *state.routes.operations,
]


CHANNELS = [
    *accounts.routes.channels,
    *agents.routes.channels,
    *listings.routes.channels,
    *chat.routes.channels,
]

LIVE = Live(PATH, SUBPROTOCOLS, ConnectWish, CHANNELS, declared_events(), OPERATIONS)


@dataclass(frozen=True)
class Process:
    """One serving process, built and not yet listening."""

    app: web.Application
    db: Db
    hub: Hub
    broker: Broker
    pubsub: PubSub
    sockets: SocketDoor
    worker: Worker
    metrics: Metrics


async def build(settings: Settings) -> Process:
    """Connect and wire everything. The application's cleanup closes what was opened, in reverse.

    Raises OSError, asyncpg's errors or Unavailable while the database cannot be reached.
    """
    metrics = Metrics()
    db = await Db.open(settings.database, Clock(), metrics)
    tokens, passwords = Tokens(settings.auth), Passwords(settings.auth)
    authenticator = SignInAuthenticator(db, tokens)
    parts: dict[type[Any], Any] = {
        Tokens: tokens,
        Passwords: passwords,
        SignInAuthenticator: authenticator,
        ListingSettings: settings.listings,
        MediaSettings: settings.media,
        Cursors: Cursors(settings.auth),
    }
    studio = parts[Studio] = await open_studio(settings, db.clock)
    services = Services(db, parts)

    streams = Streams(db, settings.live.replay_events, settings.live.recover_events, {MessageNew.type: join_texts})
    pubsub = PubSub(settings.redis, metrics.batches.labels("publishes").observe)
    parts[Streams] = streams
    hub = Hub(streams, pubsub, settings.live)
    broker = Broker(hub, streams, pubsub, settings.live)
    db.told = broker.told
    hub.watch(SessionRevoked.type, lambda event: _revoke(hub, authenticator, event))
    follow_access(hub)
    leaving = asyncio.Event()
    parts[Polls] = Polls(hub, leaving)
    ephemeral = Ephemeral(settings.redis, db.clock)
    presence = parts[Presence] = Presence(ephemeral, broker.whisper)
    wheel = Wheel()

    by_rpc = {operation.rpc: operation for operation in OPERATIONS if operation.rpc is not None}
    limits = parts[Limits] = Limits(settings.redis, metrics)
    guard = Guard(limits, settings.limits, metrics)
    commands = Commands(
        services=services,
        authenticator=authenticator,
        hub=hub,
        streams=streams,
        channels=Channels(CHANNELS),
        operations=by_rpc,
        presence=presence,
        whisper=broker.whisper,
        wheel=wheel,
        settings=settings.live,
        guard=guard,
    )
    sockets = SocketDoor(commands, settings.server.origins)
    watch_pool(db)
    _watch(metrics, hub, broker, pubsub, sockets, passwords)
    metrics.watch("pictures", "Pictures being developed or waiting for it", lambda: studio.darkroom.waiting)

    app = web.Application(
        middlewares=[
            behind(settings.server.proxies),
            access(metrics),
            preflights(settings.server.origins),
            economical,
            problems,
        ],
        client_max_size=settings.server.body_kib * 1024,
        client_max_fields=50,  # of a form, and the only form is the sign-in's
    )
    app[LEAVING], app[RELIEVED] = leaving, asyncio.Event()
    app.on_response_prepare.append(finish(settings.server.origins))
    app.on_response_prepare.append(say_goodbye)
    routes.bind(app, OPERATIONS, services, authenticator, guard, body_seconds=settings.server.body_seconds)
    checks: Mapping[str, health.Check] = {
        "database": db.ping,
        "migrations": lambda: _migrated(db),
        "redis": pubsub.ping,
        "staying": _staying(app),
    }
    needed = frozenset({"database", "migrations", "staying"})
    health.bind(app, checks, needed=needed, prefixes=("", routes.PREFIX))
    metrics.asked.append(partial(health.measure, checks, metrics.health))
    documents.bind(app, OPERATIONS, LIVE)
    sockets.bind(app)
    files = assets.find(settings.server.assets)
    files.bind(app)
    if isinstance(studio.storage, Directory):
        media_files.bind(app, studio.storage, settings.media.transfer_seconds)
    if settings.docs:
        docs.bind(app, files)

    worker = working(settings, db, studio)

    async def running(_app: web.Application) -> AsyncIterator[None]:
        await broker.start()
        presence.start()
        if settings.jobs.in_process:
            await worker.start()
        yield
        await worker.stop()
        wheel.stop()
        await presence.close()
        await ephemeral.close()
        await hub.close()
        await broker.close()
        await limits.close()
        await db.close()
        passwords.close()
        await studio.close()

    app.cleanup_ctx.append(running)
    app.on_shutdown.append(_leave)
    app.on_shutdown.append(sockets.shut_down)
    return Process(app, db, hub, broker, pubsub, sockets, worker, metrics)


def watch_pool(db: Db) -> None:
    """Expose the state of the connection pool."""
    watch = db.metrics.watch
    watch("pool_connections", "Database connections", db.pool.get_size)
    watch("pool_idle_connections", "Database connections nobody uses", db.pool.get_idle_size)
    watch("pool_connections_most", "Database connections there may be", db.pool.get_max_size)


def _watch(
    metrics: Metrics, hub: Hub, broker: Broker, pubsub: PubSub, sockets: SocketDoor, passwords: Passwords
) -> None:
    """What is read at each scrape."""
    metrics.watch("sockets", "Open sockets", lambda: sockets.open_sockets)
    metrics.watch("socket_queue_frames", "Frames waiting to be sent", lambda: sockets.queued)
    metrics.watch("channels", "Channels this process follows", lambda: sum(1 for _ in hub.channels()))
    metrics.watch("redis_up", "Whether Redis is heard (1) or away (0)", lambda: pubsub.up)
    metrics.watch("password_hashes", "Passwords being hashed or waiting for it", lambda: passwords.waiting)
    metrics.watch("tail_age_seconds", "Since the database was last asked for unannounced events", broker.tail_age)


async def open_studio(settings: Settings, clock: Clock) -> Studio:
    """What uploads are worked on with."""
    storage = await open_storage(settings, clock)
    return Studio(storage, Darkroom(settings.media), settings.media, settings.home / "workroom")


def working(settings: Settings, db: Db, studio: Studio) -> Worker:
    """Who does which job, and what is done when."""
    jobs, server = settings.jobs, settings.mail.server
    mail = Smtp(server, timeout=settings.mail.timeout_seconds) if server else Mailbox(settings.home / "mail")
    unknown, history = timedelta(minutes=jobs.unknown_minutes), timedelta(days=jobs.log_days)
    if server is None and not settings.development:
        log.warning("no mail is sent: mail.url is empty", kept_under=str(settings.home / "mail"))
    worker = Worker(settings.database, jobs)
    worker.observe = lambda name, outcome, seconds: db.metrics.jobs.labels(name, outcome).observe(seconds)
    db.metrics.asked.append(partial(queue.measure, db))
    worker.bind(SendMail, sending(mail, settings.mail.sender))
    worker.bind(InspectListing, inspecting(db))
    worker.bind(ImportChunk, importing(db, settings.listings))
    worker.every("41 * * * *", "imports.forget", partial(forget_old, db))
    worker.every("*/5 * * * *", "jobs.unknown", lambda: queue.bury_unknown(db, worker.names, unknown))
    worker.every("17 * * * *", "jobs.clean", partial(queue.clean_log, db, history))
    worker.every("7 * * * *", "events.tend", partial(_tend, settings))
    worker.every("31 * * * *", "answers.forget", partial(forget_answers, db))
    worker.every("*/10 * * * *", "listings.end", partial(end_listings, db, settings.listings))
    worker.bind(DropFiles, collection.dropping(studio.storage))
    worker.every("47 * * * *", "media.collect", partial(_collect, db, studio))
    return worker


async def _tend(settings: Settings) -> None:
    await retention.tend(settings.database.url.get_secret_value())


async def _collect(db: Db, studio: Studio) -> None:
    await collection.collect(db, studio)


def _revoke(hub: Hub, authenticator: SignInAuthenticator, event: Numbered) -> None:
    """A sign-in has ended: forget what is cached of it and close its sockets."""
    ended = SignInId(SessionRevoked.model_validate(from_json(event.body)["data"], strict=False).sign_in_id)
    authenticator.forget(ended)
    for member in hub.members(event.channel):
        if isinstance(member, Session) and member.principal is not None and member.principal.sign_in_id == ended:
            member.revoke()


def _staying(app: web.Application) -> health.Check:
    async def check() -> None:
        if app[LEAVING].is_set() and not app[RELIEVED].is_set():
            raise RuntimeError("the process is about to stop")

    return check


async def _leave(app: web.Application) -> None:
    """Whoever waits for news is answered, also where nobody announced that the process is about to stop."""
    app[LEAVING].set()


async def _migrated(db: Db) -> None:
    missing = missing_migrations(await applied_migrations(db))
    if missing:
        raise RuntimeError(f"migrations are missing: {', '.join(missing)}")
