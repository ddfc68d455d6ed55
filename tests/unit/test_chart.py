"""The chart, rendered by helm as its users render it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from headrace.cli import cli
from headrace.control.desired import PollerSettings, children
from headrace.control.handlers import OWNED
from headrace.control.observe import CHILDREN
from headrace.resources import (
    EVENT,
    EVENT_SOURCE_MAPPING,
    LEASE,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    ROLE,
    SERVICE_ACCOUNT,
    SHARD_LEASE,
    WINDOW_STATE,
    Kind,
    ref_of,
)
from headrace.spec import parse_mapping
from tests.support.chart import CHART, HELM, MONITORING, Body, helm, of_kind, template
from tests.support.pod_security import refusals
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST = "sha256:" + "0" * 64

Right = tuple[str, str, str]
"""API group, resource, verb."""

EVERYTHING: Body = {
    "replicaCount": 3,
    "image": {"repository": "registry.example/headrace", "digest": DIGEST, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "poller": {
        "image": "registry.example/poller:2",
        "env": {"HTTPS_PROXY": "http://proxy:3128"},
        "networkPolicy": True,
    },
    "serviceAccount": {"annotations": {"team": "data"}},
    "metrics": {
        "port": 9090,
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True, "interval": "15s"},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True, "annotations": {"folder": "streams"}},
    },
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [6443]},
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.2/32"}}]}],
    },
    "podAnnotations": {"team": "data"},
    "podLabels": {"team": "data"},
    "commonLabels": {"part": "of"},
    "extraArgs": ["--debug"],
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "priorityClassName": "system-cluster-critical",
}
NAMESPACED: Body = {"watchNamespaces": ["shop", "billing"]}

pytestmark = pytest.mark.skipif(not HELM.exists(), reason="helm is not there; `make test` brings it")


def deployment(values: Body | None = None) -> Body:
    (found,) = of_kind(template(values), "Deployment")
    return found


def pod_of(values: Body | None = None) -> Body:
    spec: Body = deployment(values)["spec"]["template"]["spec"]
    return spec


def rights(rules: list[Body]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def rights_to(kind: Kind, *verbs: str) -> set[Right]:
    group = kind.api_version.rpartition("/")[0]
    return {(group, kind.plural, verb) for verb in verbs}


def mapping() -> Body:
    return {
        "apiVersion": EVENT_SOURCE_MAPPING.api_version,
        "kind": EVENT_SOURCE_MAPPING.kind,
        "metadata": {"name": "orders", "namespace": "shop", "uid": "6f1c3a5e-0000-4000-8000-000000000000"},
        "spec": {
            "eventSourceArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
            "function": {"url": "http://orders/"},
            "startingPosition": "TRIM_HORIZON",
        },
    }


def granted() -> set[Right]:
    """What the operator grants to a poller."""
    body = mapping()
    return rights(children(ref_of(body), parse_mapping(body), PollerSettings("headrace"))[ROLE]["rules"])


def used() -> set[Right]:
    """What the operator itself does, as `control/` reads."""
    watched = {right for kind in (*OWNED, EVENT_SOURCE_MAPPING) for right in rights_to(kind, "list", "watch")}
    made = {right for kind in CHILDREN for right in rights_to(kind, "get", "create", "update")}
    told = {(group, f"{resource}/status", verb) for group, resource, verb in rights_to(EVENT_SOURCE_MAPPING, "patch")}
    guards = rights_to(POD_DISRUPTION_BUDGET, "get", "create", "update")
    guards |= rights_to(NETWORK_POLICY, "get", "create", "update", "delete") | rights_to(EVENT, "create")
    return (
        watched | made | told | guards | rights_to(EVENT_SOURCE_MAPPING, "get") | rights_to(SERVICE_ACCOUNT, "delete")
    )


@pytest.mark.parametrize("values", [{}, EVERYTHING, NAMESPACED], ids=["defaults", "everything", "namespaced"])
def test_the_chart_passes_helm_lint(values: Body) -> None:
    done = helm("lint", "--strict", str(CHART), values=values)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("monitored", [False, True], ids=["without the Prometheus operator", "with it"])
@pytest.mark.parametrize(
    ("version", "budget"),
    [
        ("1.20", "policy/v1beta1"),
        ("1.24", "policy/v1"),
        ("1.25", "policy/v1"),
        ("1.31.4-eks-1234567", "policy/v1"),
        ("1.37", "policy/v1"),
    ],
)
def test_the_chart_renders_for_old_and_new_servers_what_they_serve(version: str, budget: str, monitored: bool) -> None:
    apis = MONITORING if monitored else ()
    documents = template(EVERYTHING, "--kube-version", version, *apis)
    (found,) = of_kind(documents, "PodDisruptionBudget")
    theirs = {document["kind"] for document in documents if document["apiVersion"] == "monitoring.coreos.com/v1"}

    assert found["apiVersion"] == budget
    assert theirs == ({"ServiceMonitor", "PodMonitor", "PrometheusRule"} if monitored else set())
    served = {"v1", "apps/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1", "monitoring.coreos.com/v1"}
    assert {document["apiVersion"] for document in documents} <= served | {budget}


def test_what_is_not_asked_for_is_not_there() -> None:
    kinds = {document["kind"] for document in template({}, *MONITORING)}

    assert kinds <= {
        "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Deployment", "ServiceAccount", "PodDisruptionBudget",
    }  # fmt: skip


def test_a_disruption_leaves_one_of_several_operators() -> None:
    (budget,) = of_kind(template(), "PodDisruptionBudget")
    made = deployment()["spec"]["template"]["metadata"]["labels"]

    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"].items() <= made.items()
    for values in ({"replicaCount": 1}, {"replicaCount": 0}, {"podDisruptionBudget": {"enabled": False}}):
        assert not of_kind(template(values), "PodDisruptionBudget"), values


def test_several_operators_are_spread_softly_unless_the_values_say_how() -> None:
    spread = pod_of()["topologySpreadConstraints"]

    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert {each["whenUnsatisfiable"] for each in spread} == {"ScheduleAnyway"}
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    assert all(each["labelSelector"]["matchLabels"].items() <= labels.items() for each in spread)
    assert "topologySpreadConstraints" not in pod_of({"replicaCount": 1})


def test_the_network_policy_lets_the_scrape_in_and_the_api_server_and_dns_out() -> None:
    (policy,) = of_kind(template({"networkPolicy": {"enabled": True}}), "NetworkPolicy")
    spec = policy["spec"]
    api, dns = spec["egress"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["podSelector"]["matchLabels"].items() <= deployment()["spec"]["template"]["metadata"]["labels"].items()
    assert spec["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    assert api == {"ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]}
    assert dns == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


def test_the_network_policy_is_as_narrow_as_the_values_say() -> None:
    wanted = EVERYTHING["networkPolicy"]
    (policy,) = of_kind(template(EVERYTHING), "NetworkPolicy")
    (scraped,), (api, _, more) = policy["spec"]["ingress"], policy["spec"]["egress"]

    assert scraped["from"] == wanted["ingressFrom"]
    assert scraped["ports"] == [{"port": 9090, "protocol": "TCP"}]
    assert api == {"to": wanted["apiServer"]["to"], "ports": [{"port": 6443, "protocol": "TCP"}]}
    assert more == wanted["extraEgress"][0]


@pytest.mark.parametrize("values", [{}, EVERYTHING, NAMESPACED], ids=["defaults", "everything", "namespaced"])
def test_every_object_has_a_type_a_name_and_the_labels_and_belongs_to_a_namespace_unless_it_is_the_clusters(
    values: Body,
) -> None:
    for document in template(values, *MONITORING):
        metadata = document["metadata"]
        assert document["apiVersion"]
        assert metadata["labels"]["app.kubernetes.io/instance"] == "hr", document["kind"]
        assert ("namespace" in metadata) is not document["kind"].startswith("Cluster"), document["kind"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_operators_pod_meets_the_restricted_standard(values: Body) -> None:
    assert refusals(pod_of(values)) == []


def test_a_pollers_pod_meets_the_restricted_standard() -> None:
    body = mapping()
    made = children(ref_of(body), parse_mapping(body), PollerSettings("headrace"))
    (poller,) = (manifest for kind, manifest in made.items() if kind.kind == "Deployment")

    assert refusals(poller["spec"]["template"]["spec"]) == []


def test_the_standard_is_really_checked() -> None:
    assert {"runAsNonRoot", "seccompProfile", "capabilities"} <= set(refusals({"containers": [{"name": "a"}]}))


def test_the_selector_finds_the_pod_and_nothing_of_another_release() -> None:
    made = deployment(EVERYTHING)
    selector = made["spec"]["selector"]["matchLabels"]

    assert selector.items() <= made["spec"]["template"]["metadata"]["labels"].items()
    assert selector["app.kubernetes.io/instance"] == "hr"


def texts_of(values: Body) -> list[str]:
    """Every object as helm writes it."""
    done = helm("template", "hr", str(CHART), *MONITORING, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n---\n")


def test_labels_of_the_values_neither_override_the_operators_own_nor_are_there_twice() -> None:
    mine: Body = {"app.kubernetes.io/name": "mine", "app.kubernetes.io/component": "mine", "part": "mine"}
    monitors = {kind: {"enabled": True, "labels": mine} for kind in ("serviceMonitor", "podMonitor", "prometheusRule")}
    values = {
        "podLabels": mine | {"only": "pods"},
        "commonLabels": mine | {"part": "common"},
        "metrics": monitors | {"dashboard": {"enabled": True, "labels": mine}},
    }
    made = deployment(values)
    labels = made["spec"]["template"]["metadata"]["labels"]

    assert made["spec"]["selector"] == deployment()["spec"]["selector"]
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert (labels["part"], labels["only"]) == ("mine", "pods")
    assert made["metadata"]["labels"]["part"] == "common"
    for text in texts_of(values):
        yaml.load(text, Loader=Strict)  # noqa: S506 - a safe one, that refuses a key that is there twice


class Strict(yaml.SafeLoader):
    """Takes no key twice, as the tools that come after helm."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


def test_the_probes_are_on_the_port_that_the_operator_serves() -> None:
    (container,) = pod_of(EVERYTHING)["containers"]
    (port,) = container["ports"]

    assert "--metrics-port=9090" in container["args"]
    assert (port["name"], port["containerPort"]) == ("metrics", 9090)
    assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "headrace:0.1.0"),
        ({"repository": "registry.example:5000/a/b", "tag": "2"}, "registry.example:5000/a/b:2"),
        ({"tag": "2", "digest": DIGEST}, f"headrace@{DIGEST}"),
    ],
    ids=["default", "tag", "digest wins"],
)
def test_operator_and_pollers_run_the_image_by_tag_or_by_digest(image: Body, expected: str) -> None:
    (container,) = pod_of({"image": image})["containers"]

    assert container["image"] == expected
    assert f"--poller-image={expected}" in container["args"]


@pytest.mark.parametrize("values", [{}, EVERYTHING, NAMESPACED], ids=["defaults", "everything", "namespaced"])
def test_headrace_operator_takes_the_arguments(values: Body) -> None:
    command, *arguments = pod_of(values)["containers"][0]["args"]

    context = cli.commands[command].make_context(command, arguments)

    assert context.params["namespaces"] == tuple(values.get("watchNamespaces", ()))


def test_values_reach_the_pod() -> None:
    made = deployment(EVERYTHING)["spec"]
    pod, (container,) = made["template"]["spec"], made["template"]["spec"]["containers"]

    assert made["replicas"] == 3
    for name in ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName"):
        assert pod[name] == EVERYTHING[name], name
    assert pod["imagePullSecrets"] == EVERYTHING["imagePullSecrets"]
    assert EVERYTHING["extraVolumes"][0] in pod["volumes"]
    assert EVERYTHING["extraVolumeMounts"][0] in container["volumeMounts"]
    assert container["env"] == EVERYTHING["extraEnv"]
    assert made["template"]["metadata"]["annotations"] == EVERYTHING["podAnnotations"]
    assert made["template"]["metadata"]["labels"]["team"] == "data"
    assert {
        "--debug",
        "--poller-image=registry.example/poller:2",
        "--poller-env=HTTPS_PROXY=http://proxy:3128",
        "--poller-network-policy",
    } <= set(container["args"])


def test_the_operator_holds_what_it_uses_and_what_it_grants_to_pollers_and_nothing_else() -> None:
    (role,) = of_kind(template(), "ClusterRole")

    assert rights(role["rules"]) == used() | granted()


def test_pollers_are_granted_their_mapping_and_what_they_store_and_tell_only() -> None:
    kinds = (EVENT_SOURCE_MAPPING, SHARD_LEASE, WINDOW_STATE, LEASE, EVENT)
    allowed = {(kind.api_version.rpartition("/")[0], kind.plural) for kind in kinds}

    assert {(group, resource) for group, resource, _ in granted()} <= allowed


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["cluster", "namespaced"])
def test_no_right_is_a_wildcard_and_none_is_about_secrets(values: Body) -> None:
    for role in of_kind(template(values), "ClusterRole", "Role"):
        for right in rights(role["rules"]):
            assert "*" not in right
            assert not right[1].startswith("secrets")


def served(documents: list[Body]) -> list[Body]:
    """What is about mappings, not about the election."""
    return [each for each in documents if not each["metadata"]["name"].endswith("-leader-election")]


@pytest.mark.parametrize(
    "values",
    [{}, {"replicaCount": 1}, {"replicaCount": 0}, EVERYTHING, NAMESPACED],
    ids=["defaults", "one", "none", "everything", "namespaced"],
)
def test_operators_however_many_elect_one_by_a_lease_that_they_may_write_and_no_other(values: Body) -> None:
    documents = template(values)
    (made,) = of_kind(documents, "Deployment")
    (role,) = [each for each in of_kind(documents, "Role") if each not in served([each])]
    (binding,) = [each for each in of_kind(documents, "RoleBinding") if each not in served([each])]
    command, *arguments = made["spec"]["template"]["spec"]["containers"][0]["args"]
    given = cli.commands[command].make_context(command, arguments).params

    assert given["leader_election"] is True
    assert (given["leader_election_namespace"], given["leader_election_lease"]) == ("system", "hr-headrace")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "system"
    assert rights(role["rules"]) == rights_to(LEASE, "create", "get", "update")
    for rule in role["rules"]:
        assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["hr-headrace"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hr-headrace", "namespace": "system"}]
    assert made["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_a_change_of_the_number_of_operators_changes_nothing_about_their_election() -> None:
    one, two = ({"replicaCount": count, "topologySpreadConstraints": [{"maxSkew": 1}]} for count in (1, 2))

    assert deployment(one)["spec"]["template"] == deployment(two)["spec"]["template"]
    assert deployment(one)["spec"]["strategy"] == deployment(two)["spec"]["strategy"]


def test_with_named_namespaces_there_are_roles_in_them_and_none_for_the_cluster() -> None:
    documents = template(NAMESPACED)
    roles, bindings = (served(of_kind(documents, kind)) for kind in ("Role", "RoleBinding"))

    assert not of_kind(documents, "ClusterRole", "ClusterRoleBinding")
    assert [role["metadata"]["namespace"] for role in roles] == NAMESPACED["watchNamespaces"]
    assert {tuple(sorted(rights(role["rules"]))) for role in roles} == {tuple(sorted(used() | granted()))}
    for role, binding in zip(roles, bindings, strict=True):
        assert binding["metadata"]["namespace"] == role["metadata"]["namespace"]
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "hr-headrace", "namespace": "system"}]
    assert {"--namespace=shop", "--namespace=billing"} <= set(pod_of(NAMESPACED)["containers"][0]["args"])


def test_an_account_of_the_users_own_is_used_and_not_made() -> None:
    documents = template({"serviceAccount": {"create": False, "name": "theirs"}, "rbac": {"create": False}})

    assert not of_kind(documents, "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    (made,) = of_kind(documents, "Deployment")
    assert made["spec"]["template"]["spec"]["serviceAccountName"] == "theirs"


def test_monitors_are_rendered_when_asked_for_and_served() -> None:
    kinds = {"ServiceMonitor", "PodMonitor", "Service"}

    assert {document["kind"] for document in of_kind(template(EVERYTHING, *MONITORING), *kinds)} == kinds
    assert not of_kind(template(EVERYTHING), *kinds)
    assert not of_kind(template({}, *MONITORING), *kinds)


def test_labels_that_metrics_bring_are_kept_by_both_monitors() -> None:
    documents = template(EVERYTHING, *MONITORING)
    (operator,), (pollers,) = of_kind(documents, "ServiceMonitor"), of_kind(documents, "PodMonitor")

    assert operator["spec"]["endpoints"][0]["honorLabels"] is True
    assert pollers["spec"]["podMetricsEndpoints"][0]["honorLabels"] is True


def test_the_pod_monitor_selects_the_pods_of_pollers() -> None:
    (monitor,) = of_kind(template(EVERYTHING, *MONITORING), "PodMonitor")
    body = mapping()

    assert monitor["spec"]["selector"]["matchLabels"].items() <= ref_of(body).labels.items()
    assert monitor["metadata"]["name"] == "hr-headrace-pollers"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": 2}, "replicas"),
        ({"replicaCount": "two"}, "/replicaCount"),
        ({"replicaCount": -1}, "/replicaCount"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"metrics": {"port": "http"}}, "/metrics/port"),
        ({"watchNamespaces": "shop"}, "/watchNamespaces"),
        ({"logFormat": "xml"}, "/logFormat"),
        ({"poller": {"env": {"PORT": 1}}}, "/poller/env/PORT"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
        ({"podDisruptionBudget": {"minAvailable": 1}}, "minAvailable"),
        ({"networkPolicy": {"apiServer": {"ports": ["https"]}}}, "/networkPolicy/apiServer/ports/0"),
        ({"networkPolicy": {"egress": []}}, "egress"),
        ({"metrics": {"prometheusRule": {"alerts": {"shardBlokced": {}}}}}, "shardBlokced"),
        ({"metrics": {"prometheusRule": {"alerts": {"shardBlocked": {"threshold": 1}}}}}, "threshold"),
        ({"metrics": {"prometheusRule": {"alerts": {"shardBlocked": {"for": "long"}}}}}, "/shardBlocked/for"),
        ({"metrics": {"dashboard": {"label": {}}}}, "label"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_schema_refuses_a_wrong_value_and_names_it(values: Body, named: str) -> None:
    done = helm("template", "hr", str(CHART), values=values)

    assert done.returncode != 0
    assert named in done.stderr


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert set(_paths_of_schema(schema)) - {"global"} == set(_paths_of_values(values, schema))


def _paths_of_schema(schema: Body, prefix: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        yield prefix + name
        yield from _paths_of_schema(inner, f"{prefix}{name}.")


def _paths_of_values(values: Body, schema: Body, prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield prefix + name
        inner = schema["properties"].get(name, {})
        if isinstance(value, dict) and "properties" in inner:
            yield from _paths_of_values(value, inner, f"{prefix}{name}.")


def test_the_chart_carries_the_crds_of_the_repository() -> None:
    carried = template({}, "--include-crds")

    assert of_kind(carried, "CustomResourceDefinition") == repository_crds()


def test_a_packaged_chart_carries_the_crds_as_files(tmp_path: Path) -> None:
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")

    shown = helm("show", "crds", str(package))

    assert [document for document in yaml.safe_load_all(shown.stdout) if document] == repository_crds()


def repository_crds() -> list[Body]:
    return [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.yaml"))]
