"""What Prometheus would see: a process's metrics behind a real listener, scraped and parsed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from k2k.infra.metrics import Metrics
from k2k.web.metrics import exposing


@dataclass(frozen=True)
class Figures:
    """One scrape: every sample's value by its name and labels, and every family's type by its name."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]
    types: dict[str, str]

    def value(self, sample: str, /, **labels: object) -> float:
        """The sum of the samples that have these labels; 0 if there are none."""
        wanted = {(label, str(value)) for label, value in labels.items()}
        return sum(value for (found, its), value in self.samples.items() if found == sample and wanted <= its)

    def has(self, name: str) -> bool:
        return any(found == name for found, _ in self.samples)

    def values_of(self, name: str, label: str) -> set[str]:
        """All values the label has in samples of this name."""
        return {dict(its)[label] for found, its in self.samples if found == name}


async def scrape(base: str) -> Figures:
    """What a listener says now."""
    async with aiohttp.ClientSession() as session, session.get(f"{base}/metrics") as answer:
        assert answer.status == 200
        families = list(text_string_to_metric_families(await answer.text()))
    samples = [sample for family in families for sample in family.samples]
    return Figures(
        {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples},
        {family.name: family.type for family in families},
    )


@asynccontextmanager
async def exposed(metrics: Metrics) -> AsyncIterator[str]:
    """The address of a listener for them."""
    runner = web.AppRunner(exposing(metrics), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Watch:
    """What has changed since the last look: other tests move the figures of a shared process too."""

    base: str
    before: Figures
    now: Figures

    async def look(self) -> Watch:
        self.now = await scrape(self.base)
        return self

    def grew(self, sample: str, /, **labels: object) -> float:
        return self.now.value(sample, **labels) - self.before.value(sample, **labels)

    def new_series(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return self.now.samples.keys() - self.before.samples.keys()


@asynccontextmanager
async def watching(metrics: Metrics) -> AsyncIterator[Watch]:
    async with exposed(metrics) as base:
        first = await scrape(base)
        yield Watch(base, first, first)
