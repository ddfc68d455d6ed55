"""Whatever somebody writes on a heartbeat Lease by hand: it harms only what is told of that one poller."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from headrace.control.announcing import notices
from headrace.control.fleet_metrics import FleetMetrics
from headrace.control.observe import Observed
from headrace.control.scaling import ready_shards, replicas
from headrace.control.status import status_of
from headrace.heartbeat import TERM, Heartbeat, ReportedCondition, heartbeat_of, lease, report_of
from headrace.liveness import Liveness
from headrace.membership import beat_of
from headrace.records import Holder
from headrace.resources import ANNOTATION_REPORT, MappingRef
from headrace.spec import parse_mapping
from headrace.spec_status import EventSourceMappingStatus
from headrace.stream import leases
from headrace.stream.leases import Beat, Claim, View
from tests.support.mappings import manifest

REF = MappingRef("shop", "orders", "0a1b2c3d-1")
NOW = "2026-01-01T00:00:00Z"
CONDITION = ReportedCondition("SourceReachable", "False", "NotFound", "no such stream")
SAID = Heartbeat("a", 3, (CONDITION,), "OK", 4, 8, 1, 7, 2, "life", draining=False, asks="s1", changes=5)
LIFE, ME = Holder("a", "life"), Holder("me", "mine")
CLAIMS = [Claim("s1", LIFE), Claim("s2", LIFE), Claim("s3", ME)]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def encoded(value: Any) -> str:
    """As JSON; numbers that JSON does not have too, as other writers write them."""
    import json

    return json.dumps(value)


@st.composite
def nearly(draw: st.DrawFn) -> str:
    """A report of which some fields are anything, or gone, or one of its condition's are."""
    report = orjson.loads(SAID.encode())
    for name in draw(st.sets(st.sampled_from([field.name for field in fields(Heartbeat)]), max_size=3)):
        if draw(st.booleans()):
            report[name] = draw(JSON)
        else:
            del report[name]
    if draw(st.booleans()) and isinstance(report.get("conditions"), list) and report["conditions"]:
        report["conditions"][0] = draw(JSON | st.dictionaries(st.sampled_from(("type", "status", "reason")), JSON))
    return encoded(report | draw(st.dictionaries(st.text(), JSON, max_size=1)))


ANNOTATIONS = nearly() | JSON.map(encoded) | st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.none()


def written(annotation: str | None, renewed: str = "1") -> dict[str, Any]:
    body = lease(REF, SAID, renewed)
    body["metadata"]["uid"] = "uid of a"
    body["metadata"]["annotations"] = {} if annotation is None else {ANNOTATION_REPORT: annotation}
    return body


@given(ANNOTATIONS)
def test_a_report_is_read_as_it_was_meant_or_not_at_all(annotation: str | None) -> None:
    body = written(annotation)
    report = report_of(body)
    if report is None:
        assert heartbeat_of(body) == Heartbeat("a", 0)
    else:
        assert heartbeat_of(body) == report
        assert report_of(lease(REF, report, "1")) == report, "what was read could be written"


@given(ANNOTATIONS)
def test_the_other_pollers_decide_on_it_and_take_nothing_of_its_poller(annotation: str | None) -> None:
    view = leases.observe(View(), [beat_of(written(None)), Beat(ME, "1"), Beat(LIFE, "1")], 0.0, 0.0)
    broken = beat_of(written(annotation))
    view = leases.observe(view, [broken, Beat(ME, "1")], 1.0, 1.0)
    view = leases.noticed(view, {LIFE, ME}, 1.0)
    moves = leases.decide(ME, view, CLAIMS, ["s3"])
    assert not {"s1", "s2"} & set(moves.take)
    assert set(moves.give) <= {"s3"}
    assert not view.expired(LIFE)
    view = leases.observe(view, [broken, Beat(ME, "2")], 1.0 + TERM, 1.0 + TERM)
    assert view.expired(LIFE), "nobody renewed it: what it says keeps nobody alive"


@given(ANNOTATIONS, ANNOTATIONS)
def test_the_operator_counts_its_poller_by_its_renewals_and_writes_a_status_that_the_api_takes(
    first: str | None, second: str | None
) -> None:
    now = [0.0]
    liveness = Liveness(lambda: now[0])
    assert liveness.alive(REF.key, [written(first)])
    now[0] += TERM - 1
    assert len(liveness.alive(REF.key, [written(second)])) == 1
    mapping = manifest() | {"metadata": {"namespace": "shop", "name": "orders", "uid": REF.uid, "generation": 3}}
    beats = tuple(heartbeat_of(body) for body in (written(first), written(second)))
    observed = Observed(copy.deepcopy(mapping), {}, beats, ())
    status = status_of(observed, True, None, NOW)
    EventSourceMappingStatus.model_validate({key: value for key, value in status.items() if value is not None})
    assert status["shards"]["assigned"] < 2**63, "an integer to every reader"
    notices({}, status)
    ready_shards(observed)
    spec = parse_mapping(manifest()).spec
    assert replicas(spec, observed) <= spec.poller.max_replicas
    registry, fleet = CollectorRegistry(), FleetMetrics()
    registry.register(fleet)
    fleet.saw(observed, status, enabled=True)
    generate_latest(registry)
    now[0] += 2
    assert liveness.alive(REF.key, [written(second)]) == [], "an edit that renews nothing keeps nobody alive"
