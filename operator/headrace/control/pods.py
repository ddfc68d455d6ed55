"""The Deployment of a mapping's pollers. Pure. Before this: `desired.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.ending import STOP_MARGIN
from headrace.resources import LABEL_MAPPING_UID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.cluster import Body
    from headrace.resources import MappingRef
    from headrace.spec import EventSourceMapping

METRICS_PORT = 8080
USER = 65532
RESOURCES = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}}
LAST_VALID_FOLDER, LAST_VALID = "/etc/headrace/mapping", "mapping.yaml"
_STARTING = {"initialDelaySeconds": 3, "periodSeconds": 2}
"""No probe looks sooner than an ordinary start takes, or each pod would begin with a warning of the kubelet."""
CA_FOLDER, CA_FILE = "/etc/headrace/ca", "ca.crt"


@dataclass(frozen=True, slots=True)
class PollerSettings:
    """What the operator's settings say about pollers; `environment` is passed on to each of them."""

    image: str
    image_pull_policy: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    network_policy: bool = False


def deployment(
    ref: MappingRef, mapping: EventSourceMapping, spec: Body, settings: PollerSettings, replicas: int
) -> Body:
    """The Deployment's spec. Pods follow a change of the mapping themselves: the template holds only what they cannot.

    A new pod is there before an old one goes, and takes shards over one by one.
    """
    poller = spec.get("poller") or {}
    return {
        "replicas": replicas,
        "revisionHistoryLimit": 3,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": {LABEL_MAPPING_UID: ref.uid}},
        "template": {
            "metadata": {
                "labels": {**(poller.get("labels") or {}), **ref.labels},
                "annotations": poller.get("annotations") or {},
            },
            "spec": {
                **_scheduling(ref, poller),
                "serviceAccountName": poller.get("serviceAccountName") or ref.child_name,
                "automountServiceAccountToken": True,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": mapping.spec.function.timeout_seconds + STOP_MARGIN,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [_container(ref, mapping, spec, settings)],
                "volumes": [*_own_volumes(ref), *_ca_volume(spec), *(poller.get("volumes") or ())],
            },
        },
    }


def _scheduling(ref: MappingRef, poller: Body) -> Body:
    wanted = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName")
    spread = poller.get("topologySpreadConstraints")
    if spread is None:
        spread = [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}]
    own = {"labelSelector": {"matchLabels": {LABEL_MAPPING_UID: ref.uid}}}
    passed_on = {name: poller[name] for name in wanted if poller.get(name)}
    return passed_on | {"topologySpreadConstraints": [own | constraint for constraint in spread]}


def _own_volumes(ref: MappingRef) -> list[Body]:
    """Somewhere to write, and the mapping as it was last valid."""
    mapping = {"name": ref.child_name, "optional": True}
    return [{"name": "tmp", "emptyDir": {}}, {"name": "mapping", "configMap": mapping}]


def _ca_volume(spec: Body) -> list[Body]:
    bundle = (spec.get("aws") or {}).get("caBundle")
    if not bundle:
        return []
    secret, config_map = bundle.get("secretRef"), bundle.get("configMapRef")
    ref = secret or config_map
    items = [{"key": ref.get("key", CA_FILE), "path": CA_FILE}]
    if secret:
        return [{"name": "aws-ca", "secret": {"secretName": ref["name"], "items": items}}]
    return [{"name": "aws-ca", "configMap": {"name": ref["name"], "items": items}}]


def _container(ref: MappingRef, mapping: EventSourceMapping, spec: Body, settings: PollerSettings) -> Body:
    poller = spec.get("poller") or {}
    arguments = ["--mapping", f"{ref.namespace}/{ref.name}", "--identity", "$(POD_NAME)"]
    ca_mount = [{"name": "aws-ca", "mountPath": CA_FOLDER, "readOnly": True}] if _ca_volume(spec) else []
    container = {
        "name": "poller",
        "image": poller.get("image") or settings.image,
        "command": ["headrace", "poller", *arguments, "--metrics-port", str(METRICS_PORT), "--log-format", "json"],
        "env": _environment(mapping, poller, settings, own_ca=bool(ca_mount)),
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
        "resources": poller.get("resources") or RESOURCES,
        "startupProbe": _probe("/healthz", failures=15) | _STARTING,
        "livenessProbe": _probe("/healthz", failures=6),
        "readinessProbe": _probe("/readyz", failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
            {"name": "mapping", "mountPath": LAST_VALID_FOLDER, "readOnly": True},
            *ca_mount,
            *(poller.get("volumeMounts") or ()),
        ],
    }
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    secret = ((spec.get("aws") or {}).get("credentials") or {}).get("secretRef")
    if secret:
        container["envFrom"] = [{"secretRef": {"name": secret["name"]}}]
    return container


def _probe(path: str, *, failures: int) -> Body:
    return {
        "httpGet": {"path": path, "port": METRICS_PORT, "scheme": "HTTP"},
        "periodSeconds": 5,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _environment(mapping: EventSourceMapping, poller: Body, settings: PollerSettings, *, own_ca: bool) -> list[Body]:
    """The pod's name, the region, what the operator passes on, and over all of it what the user says."""
    ours: dict[str, Any] = {"POD_NAME": {"valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}}
    ours["HEADRACE_LAST_VALID"] = {"value": f"{LAST_VALID_FOLDER}/{LAST_VALID}"}  # no option: images may be older
    if mapping.region:
        ours["AWS_REGION"] = {"value": mapping.region}
    ours |= {name: {"value": value} for name, value in sorted(settings.environment.items())}
    if own_ca:
        ours["AWS_CA_BUNDLE"] = {"value": f"{CA_FOLDER}/{CA_FILE}"}
    users = poller.get("env") or []
    named = {variable.get("name") for variable in users}
    return [{"name": name, **value} for name, value in ours.items() if name not in named] + users
