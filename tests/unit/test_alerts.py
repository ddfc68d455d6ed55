"""The alerts of the chart, judged by promtool over series: each fires when it should and is silent when it should not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.chart import HELM, MONITORING, PROMTOOL, Body, of_kind, promtool, template
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not HELM.exists(), reason="helm is not there; `make test` brings it"),
    pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is not there; `make test` brings it where apt is"),
]

ON: Body = {"enabled": True}
MAPPING = 'namespace="shop",mapping="orders"'
SOURCE = f'{MAPPING},source="arn"'
SHARD = f'{SOURCE},shard="s1"'
POLLER = 'pod="a"'
DAY = 86400


@dataclass(frozen=True)
class Case:
    """Series over minutes in promtool's notation, and what is told after some of them: None means silence."""

    alert: str
    series: dict[str, str]
    minutes: int
    told: str | None
    why: str


def age(values: str) -> dict[str, str]:
    return {f"headrace_iterator_age_seconds{{{SHARD},{POLLER}}}": values}


def data_loss(retention: int, values: str) -> dict[str, str]:
    both = {f'headrace_source_retention_seconds{{{SOURCE},pod="{pod}"}}': f"{retention}x30" for pod in "ab"}
    return both | age(values)


def counted(metric: str, values: str, pod: str = "a") -> dict[str, str]:
    return {f'{metric}{{{SOURCE},pod="{pod}"}}': values}


def oldest(values: str) -> dict[str, str]:
    return counted("headrace_queue_oldest_message_age_seconds", values)


def not_taken(throttles: str, unreachable: str, backlog: str) -> dict[str, str]:
    names = ("headrace_throttles_total", "headrace_unreachable_calls_total", "headrace_queue_backlog_messages")
    return {
        f'{name}{{{SOURCE},pod="a"}}': values
        for name, values in zip(names, (throttles, unreachable, backlog), strict=True)
    }


def operators(*values: str, namespace: str = "system") -> dict[str, str]:
    return {
        f'headrace_operator_leader{{namespace="{namespace}",pod="{number}"}}': value
        for number, value in enumerate(values)
    }


def mapping(pollers: str, enabled: str = "1x30") -> dict[str, str]:
    return {f"headrace_pollers{{{MAPPING}}}": pollers, f"headrace_mapping_enabled{{{MAPPING}}}": enabled}


def reachable(kind: str, *values: str) -> dict[str, str]:
    return {f'headrace_condition{{{SOURCE},type="{kind}",pod="{pod}"}}': each for pod, each in enumerate(values)}


DROPPED = "headrace_dropped_events_total"
DISCARDED = "headrace_on_failure_destination_delivered_events_total"
TRIMMED = "headrace_trimmed_gaps_total"

CASES = [
    Case("IteratorAgeGrowing", age("600+60x30"), 25, "shop/orders, shard s1: the oldest undecided record is 35m 0s old", "grows"),
    Case("IteratorAgeGrowing", age("600+60x5"), 4, None, "not for long yet"),
    Case("IteratorAgeGrowing", age("0+5x30"), 25, None, "under the threshold"),
    Case("IteratorAgeGrowing", age("6000-60x30"), 25, None, "catches up"),
    Case("TimeToDataLoss", data_loss(7 * DAY, f"{6 * DAY + 3600}x30"), 10, "shop/orders, shard s1: 23h 0m 0s are left", "a week"),
    Case("TimeToDataLoss", data_loss(DAY, f"{13 * 3600}x30"), 10, "shop/orders, shard s1: 11h 0m 0s are left", "a day"),
    Case("TimeToDataLoss", data_loss(7 * DAY, f"{5 * DAY}x30"), 10, None, "two days are left"),
    Case("TimeToDataLoss", data_loss(DAY, "60x30"), 10, None, "a day's retention is no loss"),
    Case("TimeToDataLoss", age(f"{9 * DAY}x30"), 10, None, "the retention is not known"),
    Case("ShardBlocked", {f"headrace_shard_blocked{{{SHARD},{POLLER}}}": "1x30"}, 6, "shop/orders, shard s1: its first batch", "blocked"),
    Case("ShardBlocked", {f"headrace_shard_blocked{{{SHARD},{POLLER}}}": "1x3 0x30"}, 6, None, "was blocked"),
    Case("OldestMessageAgeGrowing", oldest("600+60x30"), 25, "shop/orders: the oldest message is 35m 0s old", "grows"),
    Case("OldestMessageAgeGrowing", oldest("0+5x30"), 25, None, "under the threshold"),
    Case("OldestMessageAgeGrowing", oldest("6000-60x30"), 25, None, "catches up"),
    Case("QueueThrottled", not_taken("0+6x30", "0x30", "40x30"), 20, "shop/orders: about 30 calls", "throttled"),
    Case("QueueThrottled", not_taken("0x30", "0+6x30", "40x30"), 20, "shop/orders: about 30 calls", "not reached"),
    Case("QueueThrottled", not_taken("0+6x30", "0+6x30", "0x30"), 20, None, "nothing waits"),
    Case("QueueThrottled", not_taken("0+6x3 18x30", "0x30", "40x30"), 20, None, "not for long"),
    Case("QueueThrottled", counted("headrace_throttles_total", "0+6x30") | counted("headrace_unreachable_calls_total", "0x30"), 20, None, "a stream's shard tells of it"),
    Case("ShardUnowned", {f'headrace_shard_unowned{{{MAPPING},shard="s1",{POLLER}}}': "1x30"}, 4, "shop/orders, shard s1: it could be read", "for minutes"),
    Case("ShardUnowned", {f'headrace_shard_unowned{{{MAPPING},shard="s1",{POLLER}}}': "1x1 stale"}, 4, None, "taken over"),
    Case("NoPollerAlive", mapping("0x30"), 4, "shop/orders: no poller is alive", "none"),
    Case("NoPollerAlive", mapping("0x30", "0x30"), 4, None, "disabled"),
    Case("NoPollerAlive", mapping("1x30"), 4, None, "one"),
    Case("Unreachable", reachable("SourceReachable", "1x30", "0x30"), 6, "a poller says that SourceReachable does not hold", "the source"),
    Case("Unreachable", reachable("CheckpointsReachable", "0x30"), 6, "shop/orders: a poller says that CheckpointsReachable", "the checkpoints"),
    Case("Unreachable", reachable("SourceReachable", "0x2 1x30"), 6, None, "not for long"),
    Case("Unreachable", reachable("FunctionReachable", "0x30"), 6, None, "a shard that is blocked tells of it"),
    Case("DestinationFailing", reachable("DestinationReachable", "1x30", "0x30"), 6, "shop/orders: the destination takes", "for one poller"),
    Case("DestinationFailing", reachable("DestinationReachable", "1x30", "1x30"), 6, None, "reachable"),
    Case("DestinationFailing", reachable("FunctionReachable", "0x30"), 6, None, "something else"),
    Case("RecordsDropped", counted(DROPPED, "0x5 4x30"), 10, "shop/orders: about 4", "some"),
    Case("RecordsDropped", counted(DROPPED, "4x30"), 20, None, "long ago"),
    Case("RecordsDropped", counted(DROPPED, "4x8") | counted(DROPPED, "_x7 0x30", "b"), 20, None, "a new pod counts from 0"),
    Case("RecordsDiscarded", counted(DISCARDED, "0x5 8x30"), 10, "shop/orders: about 8", "some"),
    Case("RecordsDiscarded", counted(DISCARDED, "0x30"), 20, None, "none"),
    Case("RecordsTrimmed", counted(TRIMMED, "0x5 1x30"), 10, "shop/orders: retention overtook", "one"),
    Case("RecordsTrimmed", counted(TRIMMED, "0x30"), 20, None, "none"),
    Case("OperatorDown", operators("0x30", "0x30"), 6, "No operator in namespace system leads", "two stand by"),
    Case("OperatorDown", {}, 6, "No operator in namespace system leads", "none is there"),
    Case("OperatorDown", operators("1x30", namespace="other"), 6, "No operator in namespace system leads", "another's leads"),
    Case("OperatorDown", operators("0x30", "1x30"), 6, None, "one leads"),
]  # fmt: skip


def rules(**settings: object) -> Body:
    values: Body = {"metrics": {"prometheusRule": ON | settings}}
    (rule,) = of_kind(template(values, *MONITORING), "PrometheusRule")
    spec: Body = rule["spec"]
    return spec


@pytest.fixture(scope="module")
def defaults() -> Body:
    return rules()


def alerts(spec: Body) -> dict[str, Body]:
    return {rule["alert"].removeprefix("Headrace"): rule for group in spec["groups"] for rule in group["rules"]}


def verdict(folder: Path, spec: Body, case: Case, expected: list[Body]) -> str:
    """What promtool says when exactly these alerts are expected of the one rule."""
    test: Body = {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": f"{case.minutes}m", "alertname": f"Headrace{case.alert}", "exp_alerts": expected}
        ],
    }
    # The rule alone: nothing fires beside it.
    alone = {"groups": [{"name": "headrace", "rules": [alerts(spec)[case.alert]]}]}
    return promtool(
        folder, "test", "rules", "test.yaml", rules=alone, test={"rule_files": ["rules.yaml"], "tests": [test]}
    )


def fired(said: str) -> list[tuple[str, str]]:
    """Labels and annotations of the alerts that promtool got and did not expect."""
    _, _, got = said.partition("got:")
    return re.findall(r"Labels:(\{.*?\})\s+Annotations:(\{.*?\})\n", got + "\n", re.DOTALL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.why}")
def test_an_alert_fires_when_it_should_and_names_what_it_is_about(case: Case, defaults: Body, tmp_path: Path) -> None:
    said = verdict(tmp_path, defaults, case, [])

    if case.told is None:
        assert said == ""
        return
    ((labels, annotations),) = fired(said)
    assert case.told in annotations
    assert f'severity="{alerts(defaults)[case.alert]["labels"]["severity"]}"' in labels
    if "shop/orders" in case.told:
        assert 'namespace="shop"' in labels
        assert 'mapping="orders"' in labels


def test_every_alert_is_shown_firing_and_silent(defaults: Body) -> None:
    assert {case.alert for case in CASES if case.told} == alerts(defaults).keys()
    assert {case.alert for case in CASES if not case.told} == alerts(defaults).keys()


def test_promtool_finds_the_rules_sound(defaults: Body, tmp_path: Path) -> None:
    assert promtool(tmp_path, "check", "rules", "rules.yaml", rules=defaults) == ""


def test_every_alert_has_a_summary_a_description_a_severity_and_a_section_in_the_docs(defaults: Body) -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    for name, rule in alerts(defaults).items():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#headrace{name.lower()}"
    assert sorted(headings) == sorted(f"Headrace{name}" for name in alerts(defaults))


def test_the_runbook_is_where_the_values_say() -> None:
    told = alerts(rules(runbookUrl="https://docs.example/alerts"))["ShardBlocked"]["annotations"]

    assert told["runbook_url"] == "https://docs.example/alerts#headraceshardblocked"


def test_thresholds_severities_and_times_are_values(tmp_path: Path) -> None:
    mine = {"severity": "page", "for": "1m", "thresholdSeconds": 10}
    spec = rules(alerts={"iteratorAgeGrowing": mine, "shardBlocked": {"enabled": False}})
    case = Case("IteratorAgeGrowing", age("0+5x30"), 25, "", "")

    assert 'severity="page"' in fired(verdict(tmp_path, spec, case, []))[0][0]
    assert alerts(spec)["IteratorAgeGrowing"]["for"] == "1m"
    assert "ShardBlocked" not in alerts(spec)


def test_rules_are_rendered_when_asked_for_and_served() -> None:
    assert not of_kind(template({}, *MONITORING), "PrometheusRule")
    assert not of_kind(template({"metrics": {"prometheusRule": ON}}), "PrometheusRule")
