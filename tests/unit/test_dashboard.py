"""The dashboard of the chart: every query parses, names metrics that are exported, and labels that these have."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headrace.control.fleet_metrics import FleetMetrics
from headrace.control.workqueue import Workqueue
from headrace.stream.metrics import Conditions, Metrics
from tests.support.chart import CHART, HELM, MONITORING, PROMTOOL, of_kind, promtool, template

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Body = dict[str, Any]

DASHBOARD: Body = json.loads((CHART / "dashboards" / "headrace.json").read_text())

needs_helm = pytest.mark.skipif(not HELM.exists(), reason="helm is not there; `make test` brings it")


def panels() -> list[Body]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Every expression of the panels, with Grafana's variables filled in."""
    found = {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]}
    return {name: re.sub(r"\$\w+", "5m", expression) for name, expression in found.items()}


def alerts() -> dict[str, str]:
    values = {"metrics": {"prometheusRule": {"enabled": True}}}
    (rule,) = of_kind(template(values, *MONITORING), "PrometheusRule")
    return {each["alert"]: each["expr"] for each in rule["spec"]["groups"][0]["rules"]}


def exported() -> dict[str, set[str]]:
    """The samples of pollers and operator with their labels, from the registries they serve."""
    registry = CollectorRegistry()
    Metrics(registry)
    Workqueue(None, registry)  # type: ignore[arg-type]
    found: dict[str, set[str]] = {"headrace_operator_leader": {"namespace"}}  # the label is the scrape's
    for metric in registry._collector_to_names:
        if isinstance(metric, Conditions):
            found |= {family.name: set(family._labelnames) for family in metric.collect()}
            continue
        assert isinstance(metric, Counter | Gauge | Histogram)
        for sample in samples(metric):
            found[sample] = set(metric._labelnames) | ({"le"} if sample.endswith("_bucket") else set())
    for family in FleetMetrics().collect():
        found[family.name] = set(family._labelnames)
    return found


def samples(metric: Counter | Gauge | Histogram) -> Iterator[str]:
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[metric._type]
    return (metric._name + ending for ending in endings)


def unknown(expression: str) -> set[str]:
    """Metrics that nobody exports, and labels that none of the expression's metrics has."""
    known = exported()
    metrics = set(re.findall(r"\b(headrace_\w+)", expression))
    labels = {
        label for inner in re.findall(r"\{(.*?)\}", expression) for label in re.findall(r"(\w+)\s*(?:=~|!=|=)", inner)
    }
    labels |= {
        label for inner in re.findall(r"\b(?:by|on) \((.*?)\)", expression) for label in re.split(r",\s*", inner)
    }
    assert metrics, expression
    had = set().union(*(known.get(metric, set()) for metric in metrics))
    return (metrics - known.keys()) | (labels - had)


def test_every_query_names_exported_metrics_and_their_labels() -> None:
    assert {name: unknown(expression) for name, expression in queries().items() if unknown(expression)} == {}


@needs_helm
def test_every_alert_names_exported_metrics_and_their_labels() -> None:
    assert {name: unknown(expression) for name, expression in alerts().items() if unknown(expression)} == {}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("sum by (mapping) (headrace_pollers)", set()),
        ("headrace_poller", {"headrace_poller"}),
        ('headrace_pollers{shards="1"}', {"shards"}),
        ("sum by (mapping, shard) (headrace_pollers)", {"shard"}),
    ],
)
def test_a_name_that_nobody_exports_would_be_found(expression: str, found: set[str]) -> None:
    assert unknown(expression) == found


@pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is not there; `make test` brings it where apt is")
def test_every_query_parses(tmp_path: Path) -> None:
    recorded = [
        {"record": f"query:{number}", "expr": expression} for number, expression in enumerate(queries().values())
    ]

    assert len(recorded) >= 30
    assert (
        promtool(tmp_path, "check", "rules", "rules.yaml", rules={"groups": [{"name": "g", "rules": recorded}]}) == ""
    )


def test_the_variables_are_labels_of_the_metrics_they_come_from() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}

    assert list(variables) == ["datasource", "namespace", "mapping", "shard"]
    for name in ("namespace", "mapping", "shard"):
        expression, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variables[name]["definition"]).groups()  # type: ignore[union-attr]
        assert label == name
        assert unknown(f"sum by ({label}) ({expression})") == set()


def test_every_mappings_panel_follows_the_variables() -> None:
    for panel in panels():
        for target in panel["targets"]:
            own = re.findall(r"headrace_\w+(?:\{.*?\})?", target["expr"])
            assert all('namespace=~"$namespace"' in each or each.startswith("headrace_operator") for each in own), panel


def test_rows_and_panels_lie_beside_each_other_and_have_numbers_of_their_own() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in (panel["gridPos"],)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(places) == len(set(places))
    assert all(x < 24 for x, _ in places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@needs_helm
def test_the_dashboard_is_a_config_map_for_the_sidecar_when_asked_for() -> None:
    (config,) = of_kind(template({"metrics": {"dashboard": {"enabled": True}}}), "ConfigMap")

    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["headrace.json"]) == DASHBOARD
    assert not of_kind(template(), "ConfigMap")
