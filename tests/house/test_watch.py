"""What watches the service asks for series that there are, and says what to do: dashboard, alerts and their page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from k2k.infra.metrics import Metrics
from tests.exposition import exposed, scrape
from tests.house.test_documents import anchors
from tests.support import ROOT, Node

DASHBOARD = json.loads((ROOT / "config" / "grafana-dashboard.json").read_text())
ALERTS = [
    rule for group in yaml.safe_load((ROOT / "config" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] not in ("row", "text")]
PAGE = (ROOT / "docs" / "metrics.md").read_text()

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
SERIES = re.compile(r"\b(?:k2k|process|python)_\w+")
SELECTED = re.compile(r"\b(k2k_\w+?)(?:_bucket|_sum|_count|_total)?\{([^}]*)\}")
BY = re.compile(r"\bby \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job", "le", "generation"}


def expressions() -> Iterator[Any]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=panel["title"])
    for rule in ALERTS:
        yield pytest.param(rule["expr"], id=rule["alert"])


@pytest.fixture(scope="module")
async def there(node: Node) -> set[str]:
    """Every name a query may use of a real process."""
    async with exposed(node.process.metrics) as base:
        types = (await scrape(base)).types
    return {name + suffix for name, type_ in types.items() for suffix in SUFFIXES[type_]}


def ours(metrics: Metrics) -> dict[str, tuple[str, ...]]:
    """The labels of each of our families, by the name the page uses."""
    families = [family for family in metrics.registry._collector_to_names if isinstance(family, MetricWrapperBase)]
    return {
        family._name + ("_total" if family._type == "counter" else ""): tuple(family._labelnames) for family in families
    }


@pytest.mark.parametrize("expression", list(expressions()))
async def test_what_is_asked_for_is_there(node: Node, there: set[str], expression: str) -> None:
    names = set(SERIES.findall(re.sub(r'"[^"]*"', "", expression)))
    assert names <= there
    labels = {name.removesuffix("_total"): its for name, its in ours(node.process.metrics).items()}
    known = {label for its in labels.values() for label in its} | OF_PROMETHEUS
    for name, selector in SELECTED.findall(expression):
        assert set(re.findall(r"(\w+)[=!]", selector)) <= {*labels[name], "instance"}
    for grouped in BY.findall(expression):
        assert {label.strip() for label in grouped.split(",")} <= known


def test_no_label_of_ours_is_one_that_prometheus_gives_to_targets(node: Node) -> None:
    """It would rename ours to exported_job."""
    for name, labels in ours(node.process.metrics).items():
        assert not {"job", "instance"} & set(labels), name


def test_every_panel_says_what_is_normal_and_none_covers_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert len(panel["description"]) > 30, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do_and_where_it_is_written(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert len(rule["annotations"]["description"]) > 30
    assert rule["annotations"]["summary"]
    page, _, heading = rule["annotations"]["runbook"].partition("#")
    assert heading in anchors(ROOT / page), rule["annotations"]["runbook"]


def test_the_names_of_alerts_are_their_own() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names) > 10


def test_the_sample_configuration_scrapes_the_job_that_is_asked_for() -> None:
    config = yaml.safe_load((ROOT / "config" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert all((ROOT / "config" / name).exists() for name in config["rule_files"])
    for text in ((ROOT / "config" / "alerts.yml").read_text(), json.dumps(DASHBOARD).replace('\\"', '"')):
        assert set(re.findall(r'job="([^"]+)"', text)) == {job["job_name"]}
    unit = (ROOT / "config" / "key2key@.service").read_text()
    targets = job["static_configs"][0]["targets"]
    assert targets == ["127.0.0.1:18081", "127.0.0.1:18082"]
    assert "K2K_METRICS__PORT=1%i" in unit


def test_the_page_tells_every_series_with_its_labels_and_no_other(node: Node) -> None:
    rows = re.findall(r"^\| `(k2k_\w+)` \|([^|]*)\|", PAGE, re.MULTILINE)
    told = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert told == ours(node.process.metrics)


def test_every_series_of_ours_is_on_the_dashboard(node: Node) -> None:
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert [name for name in ours(node.process.metrics) if name not in shown] == []
