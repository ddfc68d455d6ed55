"""What a mapping's children look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from headrace.control.desired import PollerSettings, children
from headrace.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    LABEL_MAPPING_UID,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    POD_DISRUPTION_BUDGET_BETA,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
    MappingRef,
)
from headrace.spec import parse_mapping

if TYPE_CHECKING:
    from headrace.cluster import Body

UID = "0a1b2c3d-0000-4000-8000-000000000001"
REF = MappingRef("shop", "orders", UID)


def document(**spec: Any) -> Body:
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "EventSourceMapping",
        "metadata": {"namespace": "shop", "name": "orders", "uid": UID},
        "spec": {
            "eventSourceArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
            "function": {"url": "http://orders/", "timeoutSeconds": 40},
            "startingPosition": "TRIM_HORIZON",
            **spec,
        },
    }


def made(environment: dict[str, str] | None = None, **spec: Any) -> dict[Kind, Body]:
    return children(REF, parse_mapping(document(**spec)), PollerSettings("headrace:1", environment=environment or {}))


def pod(**spec: Any) -> Body:
    template: Body = made(**spec)[DEPLOYMENT]["spec"]["template"]
    return template


def container(**spec: Any) -> Body:
    first: Body = pod(**spec)["spec"]["containers"][0]
    return first


def environment_of(container: Body) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in container["env"]}


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNT, ROLE, ROLE_BINDING, CONFIG_MAP, DEPLOYMENT])
def test_every_child_is_named_labelled_and_owned(kind: Kind) -> None:
    metadata = made()[kind]["metadata"]
    assert metadata["name"] == "orders-0a1b2c3d"
    assert metadata["labels"][LABEL_MAPPING_UID] == UID
    [owner] = metadata["ownerReferences"]
    assert (owner["uid"], owner["blockOwnerDeletion"]) == (UID, False)


def test_the_same_mapping_gives_the_same_children() -> None:
    assert made() == made()


def test_long_names_stay_within_what_a_pod_may_be_called() -> None:
    ref = MappingRef("shop", "x" * 39 + "." + "y" * 200, UID)
    assert ref.child_name == "x" * 39 + "-0a1b2c3d"
    assert len(ref.child_name_for("shardId-000000000000")) <= 63


def test_a_named_service_account_is_used_and_none_is_made() -> None:
    bodies = made(poller={"serviceAccountName": "chosen"})
    assert SERVICE_ACCOUNT not in bodies
    assert bodies[DEPLOYMENT]["spec"]["template"]["spec"]["serviceAccountName"] == "chosen"
    assert [subject["name"] for subject in bodies[ROLE_BINDING]["subjects"]] == ["chosen"]


def test_there_are_as_many_pods_as_were_decided() -> None:
    bodies = children(REF, parse_mapping(document()), PollerSettings("headrace:1"), replicas=0)
    assert bodies[DEPLOYMENT]["spec"]["replicas"] == 0


def test_a_new_pod_is_there_before_an_old_one_goes() -> None:
    strategy = made()[DEPLOYMENT]["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_what_pods_follow_themselves_replaces_none() -> None:
    assert pod() == pod(batchSize=7)
    assert made()[CONFIG_MAP] != made(batchSize=7)[CONFIG_MAP]
    assert pod() != pod(poller={"image": "other:1"})


def test_evictions_take_one_pod_at_a_time() -> None:
    budget = made()[POD_DISRUPTION_BUDGET]
    assert budget["spec"] == {"maxUnavailable": 1, "selector": {"matchLabels": {LABEL_MAPPING_UID: UID}}}


def test_the_budget_is_of_a_kind_the_server_knows_or_there_is_none() -> None:
    settings = PollerSettings("headrace:1")
    old = children(REF, parse_mapping(document()), settings, budget=POD_DISRUPTION_BUDGET_BETA)
    assert old[POD_DISRUPTION_BUDGET_BETA]["apiVersion"] == "policy/v1beta1"
    none = children(REF, parse_mapping(document()), settings, budget=None)
    assert not {POD_DISRUPTION_BUDGET, POD_DISRUPTION_BUDGET_BETA} & set(none)


def test_a_network_policy_lets_in_to_the_metrics_port_alone_when_asked_for() -> None:
    assert NETWORK_POLICY not in made()
    given = children(REF, parse_mapping(document()), PollerSettings("headrace:1", network_policy=True))
    assert given[NETWORK_POLICY]["spec"] == {
        "podSelector": {"matchLabels": {LABEL_MAPPING_UID: UID}},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}],
    }


def test_pods_spread_softly_over_nodes_unless_said_otherwise() -> None:
    selector = {"labelSelector": {"matchLabels": {LABEL_MAPPING_UID: UID}}}
    (soft,) = pod()["spec"]["topologySpreadConstraints"]
    assert soft == selector | {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
    }
    zones = {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    said = pod(poller={"topologySpreadConstraints": [zones]})["spec"]["topologySpreadConstraints"]
    assert said == [selector | zones]
    own = zones | {"labelSelector": {"matchLabels": {"team": "y"}}}
    assert pod(poller={"topologySpreadConstraints": [own]})["spec"]["topologySpreadConstraints"] == [own]
    assert pod(poller={"topologySpreadConstraints": []})["spec"]["topologySpreadConstraints"] == []


def test_the_account_that_is_made_bears_the_users_annotations() -> None:
    annotations = made(poller={"serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:x"}})[SERVICE_ACCOUNT]
    assert annotations["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "arn:x"


@pytest.mark.parametrize(
    ("ref", "volume"),
    [
        ({"configMapRef": {"name": "own"}}, {"configMap": {"name": "own"}}),
        ({"secretRef": {"name": "own", "key": "x.pem"}}, {"secret": {"secretName": "own"}}),
    ],
)
def test_an_authority_of_the_users_own_is_mounted_and_named_to_the_client(ref: Body, volume: Body) -> None:
    key = "x.pem" if "secretRef" in ref else "ca.crt"
    ((kind, source),) = volume.items()
    given = pod(aws={"caBundle": ref})["spec"]
    assert {"name": "aws-ca", kind: source | {"items": [{"key": key, "path": "ca.crt"}]}} in given["volumes"]
    (one,) = given["containers"]
    assert {"name": "aws-ca", "mountPath": "/etc/headrace/ca", "readOnly": True} in one["volumeMounts"]
    assert environment_of(one)["AWS_CA_BUNDLE"] == "/etc/headrace/ca/ca.crt"
    assert "AWS_CA_BUNDLE" not in environment_of(container())


def test_volumes_of_the_users_are_added() -> None:
    volume, mount = {"name": "more", "emptyDir": {}}, {"name": "more", "mountPath": "/more"}
    given = pod(poller={"volumes": [volume], "volumeMounts": [mount]})["spec"]
    assert volume in given["volumes"]
    assert mount in given["containers"][0]["volumeMounts"]


def test_the_config_map_holds_a_mapping_that_parses_to_the_same_spec() -> None:
    told = yaml.safe_load(made(batchSize=7)[CONFIG_MAP]["data"]["mapping.yaml"])
    assert parse_mapping(told).spec == parse_mapping(document(batchSize=7)).spec


def test_the_pod_meets_the_restricted_standard() -> None:
    spec = pod()["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_pod_has_the_time_its_function_takes_to_stop() -> None:
    assert pod()["spec"]["terminationGracePeriodSeconds"] == 70


def test_the_command_names_the_mapping_and_the_pod() -> None:
    command = container()["command"]
    assert command[:6] == ["headrace", "poller", "--mapping", "shop/orders", "--identity", "$(POD_NAME)"]


def test_credentials_are_taken_from_the_secret_by_the_pod_alone() -> None:
    given = container(aws={"credentials": {"secretRef": {"name": "keys"}}})
    assert given["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert "envFrom" not in container()


def test_the_region_is_the_source_s_unless_said_otherwise() -> None:
    assert environment_of(container())["AWS_REGION"] == "eu-west-1"
    assert environment_of(container(aws={"region": "us-east-1"}))["AWS_REGION"] == "us-east-1"


def test_what_the_user_sets_beats_what_the_operator_passes_on() -> None:
    bodies = made({"AWS_ENDPOINT_URL": "http://operator"}, poller={"env": [{"name": "AWS_ENDPOINT_URL", "value": "u"}]})
    first = bodies[DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]
    assert [each["value"] for each in first["env"] if each["name"] == "AWS_ENDPOINT_URL"] == ["u"]
    passed = made({"AWS_ENDPOINT_URL": "http://operator"})[DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]
    assert environment_of(passed)["AWS_ENDPOINT_URL"] == "http://operator"


def test_labels_of_the_user_never_hide_the_selector() -> None:
    labels = pod(poller={"labels": {LABEL_MAPPING_UID: "x", "team": "y"}})["metadata"]["labels"]
    assert labels[LABEL_MAPPING_UID] == UID
    assert labels["team"] == "y"


def test_pieces_of_the_pod_are_passed_on() -> None:
    said = {
        "image": "own:2",
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"requests": {"cpu": "1"}},
        "annotations": {"note": "x"},
    }
    spec = pod(poller=said)["spec"]
    for name in ("nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets"):
        assert spec[name] == said[name]
    assert spec["containers"][0]["image"] == "own:2"
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "1"}}
    assert pod(poller=said)["metadata"]["annotations"]["note"] == "x"


def test_a_poller_may_read_its_own_mapping_and_no_secret() -> None:
    rules = made()[ROLE]["rules"]
    assert rules[0]["resourceNames"] == ["orders"]
    assert not any("secrets" in rule["resources"] or "*" in rule["verbs"] for rule in rules)
