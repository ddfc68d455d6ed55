"""What is done to bring a cluster to what is desired, and that nothing is done once it is there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control.desired import PollerSettings, children
from headrace.control.observe import CHILDREN, Observed
from headrace.control.plan import Create, Delete, Plan, Replace, plan
from headrace.resources import CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET, ROLE, SERVICE_ACCOUNT, Kind, MappingRef
from headrace.spec import parse_mapping

if TYPE_CHECKING:
    from headrace.cluster import Body

UID = "0a1b2c3d-0000-4000-8000-000000000001"
REF = MappingRef("shop", "orders", UID)
MAPPING: Body = {
    "apiVersion": "headrace.dev/v1alpha1",
    "kind": "EventSourceMapping",
    "metadata": {"namespace": "shop", "name": "orders", "uid": UID, "generation": 1},
    "spec": {
        "eventSourceArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
        "function": {"url": "http://orders/"},
        "startingPosition": "TRIM_HORIZON",
    },
}


def desired(**spec: Any) -> dict[Kind, Body]:
    mapping = parse_mapping(MAPPING | {"spec": MAPPING["spec"] | spec})
    return children(REF, mapping, PollerSettings("headrace:1"))


def observed(bodies: dict[Kind, Body]) -> Observed:
    return Observed(MAPPING, copy.deepcopy(bodies))


def applied(start: Observed, steps: Plan) -> Observed:
    """What a server has after the steps."""
    bodies = dict(start.children)
    for step in steps.actions:
        if isinstance(step, Delete):
            del bodies[step.kind]
        else:
            bodies[step.kind] = copy.deepcopy(step.body)
    return Observed(MAPPING, bodies)


def test_everything_missing_is_made_in_the_order_it_is_needed() -> None:
    steps = plan(desired(), observed({}))
    assert [type(step) for step in steps.actions] == [Create] * 6
    assert tuple(step.kind for step in steps.actions) == (*CHILDREN, POD_DISRUPTION_BUDGET)


def test_nothing_is_done_when_all_is_there() -> None:
    assert plan(desired(), observed(desired())) == Plan()


def test_what_the_server_adds_is_no_difference() -> None:
    bodies = observed(desired())
    deployment = bodies.children[DEPLOYMENT]
    deployment["metadata"] |= {"uid": "x", "resourceVersion": "7", "generation": 1}
    deployment["spec"]["progressDeadlineSeconds"] = 600
    deployment["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    deployment["status"] = {"replicas": 1}
    bodies.children[SERVICE_ACCOUNT]["secrets"] = [{"name": "token"}]
    assert plan(desired(), bodies) == Plan()


def test_a_restart_by_hand_is_no_difference_and_is_not_undone_by_a_change() -> None:
    bodies = observed(desired())
    mark = {"kubectl.kubernetes.io/restartedAt": "2026-11-25T10:00:00Z"}
    bodies.children[DEPLOYMENT]["spec"]["template"]["metadata"]["annotations"] = dict(mark)
    assert plan(desired(), bodies) == Plan()
    bodies.children[DEPLOYMENT]["spec"]["replicas"] = 7
    (step,) = plan(desired(), bodies).actions
    assert step.body["spec"]["replicas"] == 1
    assert step.body["spec"]["template"]["metadata"]["annotations"] == mark


@pytest.mark.parametrize(
    ("ours", "servers"),
    [("0.5", "500m"), ("1024Mi", "1Gi"), ("1e3", "1k"), ("1000", "1k"), ("0.1Gi", "107374182400m"), (1, "1")],
)
def test_a_quantity_written_another_way_is_no_difference(ours: Any, servers: str) -> None:
    wanted = desired(poller={"resources": {"limits": {"memory": ours}}})
    bodies = observed(wanted)
    container = bodies.children[DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]
    container["resources"]["limits"]["memory"] = servers
    assert plan(wanted, bodies) == Plan()
    container["resources"]["limits"]["memory"] = "3Gi"
    assert [type(step) for step in plan(wanted, bodies).actions] == [Replace]


def test_what_the_server_leaves_out_because_it_is_empty_is_no_difference() -> None:
    wanted = desired(poller={"env": [{"name": "EMPTY", "value": ""}]})
    bodies = observed(wanted)
    del bodies.children[DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]["env"][-1]["value"]
    assert plan(wanted, bodies) == Plan()


def test_a_changed_field_is_replaced_and_what_others_added_stays() -> None:
    bodies = observed(desired())
    deployment = bodies.children[DEPLOYMENT]
    deployment["spec"]["replicas"] = 3
    deployment["metadata"]["labels"]["team"] = "x"
    deployment["metadata"]["resourceVersion"] = "7"
    [step] = plan(desired(), bodies).actions
    assert isinstance(step, Replace)
    assert step.body["spec"]["replicas"] == 1
    assert step.body["metadata"]["labels"]["team"] == "x"
    assert step.body["metadata"]["resourceVersion"] == "7"


def test_zero_replicas_are_a_number_like_any_other() -> None:
    wanted = desired()
    wanted[DEPLOYMENT]["spec"]["replicas"] = 0
    bodies = observed(wanted)
    bodies.children[DEPLOYMENT]["spec"]["replicas"] = 1
    assert [type(step) for step in plan(wanted, bodies).actions] == [Replace]


def test_a_setting_that_was_taken_back_is_taken_away() -> None:
    bodies = observed(desired(poller={"nodeSelector": {"disk": "fast"}}))
    [config, deployment] = plan(desired(), bodies).actions
    assert (config.kind, deployment.kind) == (CONFIG_MAP, DEPLOYMENT)
    assert "nodeSelector" not in deployment.body["spec"]["template"]["spec"]


def test_a_child_that_is_not_wanted_any_more_is_deleted() -> None:
    steps = plan(desired(poller={"serviceAccountName": "chosen"}), observed(desired())).actions
    assert [step.kind for step in steps if isinstance(step, Delete)] == [SERVICE_ACCOUNT]


@pytest.mark.parametrize("wanted", [True, False])
def test_what_belongs_to_somebody_else_is_never_touched(*, wanted: bool) -> None:
    bodies = observed(desired())
    bodies.children[SERVICE_ACCOUNT]["metadata"]["ownerReferences"][0]["uid"] = "other"
    steps = plan(desired() if wanted else desired(poller={"serviceAccountName": "chosen"}), bodies)
    assert SERVICE_ACCOUNT not in [step.kind for step in steps.actions]
    assert steps.conflicts == (("ServiceAccount orders-0a1b2c3d",) if wanted else ())


def test_an_owner_edited_away_is_set_again() -> None:
    bodies = observed(desired())
    del bodies.children[ROLE]["metadata"]["ownerReferences"]
    [step] = plan(desired(), bodies).actions
    assert step.body["metadata"]["ownerReferences"] == [REF.owner_reference]


variables = st.fixed_dictionaries({"name": st.sampled_from("ABC"), "value": st.sampled_from(["", "x", "0"])})
limits = st.dictionaries(st.just("cpu"), st.sampled_from(["1", "0.5"]))
specs = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "batchSize": st.sampled_from([1, 7]),
        "poller": st.fixed_dictionaries(
            {},
            optional={
                "serviceAccountName": st.sampled_from(["a", "b"]),
                "nodeSelector": st.dictionaries(st.sampled_from("xy"), st.sampled_from("12")),
                "env": st.lists(variables, max_size=3),
                "resources": st.fixed_dictionaries({"limits": limits}),
            },
        ),
    },
)


@st.composite
def edited(draw: st.DrawFn, bodies: dict[Kind, Body]) -> dict[Kind, Body]:
    """Children after somebody deleted some and edited others."""
    kept = {kind: copy.deepcopy(body) for kind, body in bodies.items() if draw(st.booleans())}
    for body in kept.values():
        if draw(st.booleans()):
            body["metadata"]["labels"] = draw(st.dictionaries(st.sampled_from(list(REF.labels)), st.just("edited")))
        for part in ("spec", "data", "rules", "subjects"):
            if part in body and draw(st.booleans()):
                body[part] = draw(st.sampled_from([{}, {"mapping.yaml": "x"}, []]))
    return kept


@given(st.data(), specs, specs)
def test_after_a_plan_is_carried_out_nothing_is_left_to_do(data: st.DataObject, before: Body, after: Body) -> None:
    start = Observed(MAPPING, data.draw(edited(desired(**before))))
    wanted = desired(**after)
    end = applied(start, plan(wanted, start))
    assert plan(wanted, end) == Plan()
    assert set(end.children) == set(wanted)


def test_an_annotation_of_the_account_that_is_not_said_any_more_is_taken_away_and_others_stay() -> None:
    before = observed(desired(poller={"serviceAccountAnnotations": {"role": "a", "other": "b"}}))
    before.children[SERVICE_ACCOUNT]["metadata"]["annotations"]["theirs"] = "kept"
    after = applied(before, plan(desired(poller={"serviceAccountAnnotations": {"role": "c"}}), before))
    annotations = after.children[SERVICE_ACCOUNT]["metadata"]["annotations"]
    assert (annotations.get("role"), annotations.get("theirs"), annotations.get("other")) == ("c", "kept", None)
    last = applied(after, plan(desired(), after)).children[SERVICE_ACCOUNT]["metadata"]["annotations"]
    assert set(last) == {"theirs", "headrace.dev/manifest-hash"}
