"""The children a mapping should have. Pure. Before this: `observe.py`; after: `plan.py`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from headrace.control.plan import ANNOTATION_HASH
from headrace.resources import (
    API_VERSION,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    EVENT_SOURCE_MAPPING,
    GROUP,
    LABEL_MAPPING_UID,
    LEASE,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SHARD_LEASE,
    WINDOW_STATE,
    Kind,
    MappingRef,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.cluster import Body
    from headrace.spec import EventSourceMapping

ANNOTATION_CONFIG = "headrace.dev/config-hash"
"""On the pods: the hash of the spec they were started with, so that a change rolls out."""
METRICS_PORT = 8080
USER = 65532
STOP_MARGIN = 30
"""Seconds a pod has to stop, beside the time its function may take."""
RESOURCES = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}}


@dataclass(frozen=True, slots=True)
class PollerSettings:
    """What the operator's settings say about pollers; `environment` is passed on to each of them."""

    image: str
    image_pull_policy: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def children(ref: MappingRef, mapping: EventSourceMapping, settings: PollerSettings) -> dict[Kind, Body]:
    """Manifests by kind, in the order they are needed; they change only with the mapping or the settings."""
    spec = mapping.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    poller = spec.get("poller") or {}
    account = poller.get("serviceAccountName") or ref.child_name
    config = _config_map(ref, spec)
    bodies: dict[Kind, Body] = {
        ROLE: {"rules": _rules(ref)},
        ROLE_BINDING: {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ref.child_name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ref.namespace}],
        },
        CONFIG_MAP: config,
        DEPLOYMENT: {"spec": _deployment(ref, mapping, spec, settings, account, _hash(config))},
    }
    own_account: dict[Kind, Body] = {} if poller.get("serviceAccountName") else {SERVICE_ACCOUNT: {}}
    return {kind: _manifest(ref, kind, body) for kind, body in (own_account | bodies).items()}


def _manifest(ref: MappingRef, kind: Kind, body: Body) -> Body:
    metadata = ref.metadata(ref.child_name)
    manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}
    return manifest | {"metadata": metadata | {"annotations": {ANNOTATION_HASH: _hash(manifest)}}}


def _hash(document: Body) -> str:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _rules(ref: MappingRef) -> list[Body]:
    """What a poller may do in its namespace: read its own mapping, keep its leases, tell Events."""
    return [
        {
            "apiGroups": [GROUP],
            "resources": [EVENT_SOURCE_MAPPING.plural],
            "resourceNames": [ref.name],
            "verbs": ["get"],
        },
        {
            "apiGroups": [GROUP],
            "resources": [SHARD_LEASE.plural],
            "verbs": ["get", "list", "create", "update"],
        },
        {
            "apiGroups": [GROUP],
            "resources": [WINDOW_STATE.plural],
            "verbs": ["get", "list", "create", "delete"],
        },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": [LEASE.plural],
            "verbs": ["get", "list", "create", "update", "delete"],
        },
        {
            "apiGroups": [""],
            "resources": [EVENT.plural],
            "verbs": ["create", "patch"],
        },
    ]


def _config_map(ref: MappingRef, spec: Body) -> Body:
    """The mapping as the pods are started with it; also what `headrace run -f` takes."""
    document = {
        "apiVersion": API_VERSION,
        "kind": EVENT_SOURCE_MAPPING.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": spec,
    }
    return {"data": {"mapping.yaml": yaml.safe_dump(document, sort_keys=True)}}


def _deployment(
    ref: MappingRef,
    mapping: EventSourceMapping,
    spec: Body,
    settings: PollerSettings,
    account: str,
    config_hash: str,
) -> Body:
    poller = spec.get("poller") or {}
    return {
        "replicas": 1 if mapping.spec.enabled else 0,
        "revisionHistoryLimit": 3,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {LABEL_MAPPING_UID: ref.uid}},
        "template": {
            "metadata": {
                "labels": {**(poller.get("labels") or {}), **ref.labels},
                "annotations": {**(poller.get("annotations") or {}), ANNOTATION_CONFIG: config_hash},
            },
            "spec": {
                **_scheduling(poller),
                "serviceAccountName": account,
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
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    }


def _scheduling(poller: Body) -> Body:
    wanted = ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName")
    return {name: poller[name] for name in wanted if poller.get(name)}


def _container(ref: MappingRef, mapping: EventSourceMapping, spec: Body, settings: PollerSettings) -> Body:
    poller = spec.get("poller") or {}
    arguments = ["--mapping", f"{ref.namespace}/{ref.name}", "--identity", "$(POD_NAME)"]
    container = {
        "name": "poller",
        "image": poller.get("image") or settings.image,
        "command": ["headrace", "poller", *arguments, "--metrics-port", str(METRICS_PORT), "--log-format", "json"],
        "env": _environment(mapping, poller, settings),
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
        "resources": poller.get("resources") or RESOURCES,
        "livenessProbe": _probe("/healthz", failures=6),
        "readinessProbe": _probe("/readyz", failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - an emptyDir of the pod's own
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


def _environment(mapping: EventSourceMapping, poller: Body, settings: PollerSettings) -> list[Body]:
    """The pod's name, the region, what the operator passes on, and over all of it what the user says."""
    ours: dict[str, Any] = {"POD_NAME": {"valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}}
    if mapping.region:
        ours["AWS_REGION"] = {"value": mapping.region}
    ours |= {name: {"value": value} for name, value in sorted(settings.environment.items())}
    users = poller.get("env") or []
    named = {variable.get("name") for variable in users}
    return [{"name": name, **value} for name, value in ours.items() if name not in named] + users
