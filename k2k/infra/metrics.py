"""What one process counts and measures, for Prometheus. Every series of its own is named here, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LOOP_SECONDS = 0.5
# How long a scrape waits for what must be asked for. Prometheus itself gives up after ten seconds.
ASK_SECONDS = 1.0

log = structlog.get_logger()


class Metrics:
    """One process's metrics, on a registry of their own: several processes may live in one test."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Histogram(
            "k2k_request_seconds",
            "REST requests; sockets are not among them",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "k2k_requests_refused", "REST requests that an error ended", ("code",), registry=registry
        )
        self.replayed = Counter(
            "k2k_answers_replayed", "First answers given again to a repeated Idempotency-Key", registry=registry
        )
        self.rpcs = Histogram(
            "k2k_rpc_seconds", "Calls over sockets", ("rpc", "outcome"), buckets=SECONDS, registry=registry
        )
        self.deliveries = Histogram(
            "k2k_commit_to_socket_seconds",
            "From COMMIT until the event is in the queues of the sockets; by process, redis or database",
            ("by",),
            buckets=SECONDS,
            registry=registry,
        )
        self.socket_waits = Histogram(
            "k2k_socket_wait_seconds",
            "From the first queueing of a turn until the last of its frames was written",
            buckets=SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "k2k_batch_items", "Items that went together", ("batch",), buckets=COUNTS, registry=registry
        )
        self.pool_waits = Histogram(
            "k2k_pool_wait_seconds", "Waiting for a database connection", buckets=SECONDS, registry=registry
        )
        self.tails = Histogram(
            "k2k_tail_seconds", "Asking the database what was not announced", buckets=SECONDS, registry=registry
        )
        self.filled = Counter(
            "k2k_events_filled", "Events read from the database to close a gap in what was heard", registry=registry
        )
        self.sockets_opened = Counter("k2k_sockets_opened", "Sockets accepted", registry=registry)
        self.cuts = Counter("k2k_sockets_cut", "Sockets closed by the server", ("code",), registry=registry)
        self.limited = Counter("k2k_limited", "Calls refused by a rate limit", ("policy",), registry=registry)
        self.jobs = Histogram(
            "k2k_job_seconds", "Runs of background jobs", ("name", "outcome"), buckets=SECONDS, registry=registry
        )
        self.loop_lag = Histogram(
            "k2k_loop_lag_seconds", "How late the event loop wakes up", buckets=SECONDS, registry=registry
        )

        self.queue = Gauge("k2k_jobs", "Background jobs in the queue", ("name", "state"), registry=registry)
        self.queue_age = Gauge(
            "k2k_jobs_oldest_seconds",
            "How long the oldest job has been in its state",
            ("name", "state"),
            registry=registry,
        )
        self.health = Gauge(
            "k2k_health", "Whether a part answers (1) or is away (0), as in /health", ("check",), registry=registry
        )
        self.asked: list[Callable[[], Awaitable[None]]] = []
        """What must be asked for at each scrape. It first sets its gauges as if there were no answer, for there may
        be none in time."""
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._asking: asyncio.Task[None] | None = None

    def watch(self, name: str, help_: str, value: Callable[[], float]) -> None:
        """Expose `k2k_<name>`, read from `value` at each scrape."""
        self._watched.append((Gauge(f"k2k_{name}", help_, registry=self.registry), value))

    async def text(self) -> bytes:
        """Everything, in Prometheus's text format, after ASK_SECONDS at the latest."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        await asyncio.wait({self._asking}, timeout=ASK_SECONDS)
        for gauge, value in self._watched:
            gauge.set(value())
        # Some thousand lines are 50 ms of work: in the loop every socket would wait for it.
        return await asyncio.to_thread(generate_latest, self.registry)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def watch_loop(self) -> None:
        """Measure the loop's lag until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOP_SECONDS
            await asyncio.sleep(LOOP_SECONDS)
            self.loop_lag.observe(max(0.0, loop.time() - due))

    async def _ask(self) -> None:
        try:
            for fault in await asyncio.gather(*(ask() for ask in self.asked), return_exceptions=True):
                if isinstance(fault, Exception):  # one figure less is no reason to show none
                    log.error("not measured", exc_info=fault)
        finally:
            self._asking = None
