"""The children a mapping should have. Pure. Before this: `observe.py`, `scaling.py`; after: `pods.py`, `plan.py`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson
import yaml

from headrace.control.plan import ANNOTATION_HASH, ANNOTATION_OURS
from headrace.control.pods import LAST_VALID, METRICS_PORT, PollerSettings, deployment
from headrace.resources import (
    API_VERSION,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    EVENT_SOURCE_MAPPING,
    GROUP,
    LABEL_MAPPING_UID,
    LEASE,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SHARD_LEASE,
    WINDOW_STATE,
    Kind,
    MappingRef,
)
from headrace.spec_fixed import written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.cluster import Body
    from headrace.spec import EventSourceMapping

__all__ = ["PollerSettings", "children"]


def children(
    ref: MappingRef,
    mapping: EventSourceMapping,
    settings: PollerSettings,
    replicas: int = 1,
    budget: Kind | None = POD_DISRUPTION_BUDGET,
) -> dict[Kind, Body]:
    """Manifests by kind, in the order they are needed; `budget` is the kind of budgets that the server knows."""
    spec = written(mapping.spec)
    poller = spec.get("poller") or {}
    account = poller.get("serviceAccountName") or ref.child_name
    bodies: dict[Kind, Body] = {
        ROLE: {"rules": _rules(ref)},
        ROLE_BINDING: {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ref.child_name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ref.namespace}],
        },
        CONFIG_MAP: _config_map(ref, spec),
        DEPLOYMENT: {"spec": deployment(ref, mapping, spec, settings, replicas)},
    }
    if budget is not None:
        bodies[budget] = {"spec": {"maxUnavailable": 1, "selector": _selector(ref)}}
    if settings.network_policy:
        bodies[NETWORK_POLICY] = {"spec": _network_policy(ref)}
    annotations = poller.get("serviceAccountAnnotations") or {}
    own_account: dict[Kind, Body] = {} if poller.get("serviceAccountName") else {SERVICE_ACCOUNT: {}}
    return {
        kind: _manifest(ref, kind, body, annotations if kind is SERVICE_ACCOUNT else {})
        for kind, body in (own_account | bodies).items()
    }


def _manifest(ref: MappingRef, kind: Kind, body: Body, annotations: Mapping[str, str]) -> Body:
    metadata = ref.metadata(ref.child_name)
    if annotations:
        metadata |= {"annotations": {**annotations, ANNOTATION_OURS: ",".join(sorted(annotations))}}
    manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}
    told = {**metadata.get("annotations", {}), ANNOTATION_HASH: _hash(manifest)}
    return manifest | {"metadata": metadata | {"annotations": told}}


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
            "verbs": ["create"],
        },
    ]


def _config_map(ref: MappingRef, spec: Body) -> Body:
    """The mapping as it was last valid, which pods begin with while a newer spec is not; `headrace run -f` takes it."""
    document = {
        "apiVersion": API_VERSION,
        "kind": EVENT_SOURCE_MAPPING.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": spec,
    }
    return {"data": {LAST_VALID: yaml.safe_dump(document, sort_keys=True)}}


def _selector(ref: MappingRef) -> Body:
    return {"matchLabels": {LABEL_MAPPING_UID: ref.uid}}


def _network_policy(ref: MappingRef) -> Body:
    """In: to the port of metrics and probes only. Out: wherever its source, function and destination may be."""
    return {
        "podSelector": _selector(ref),
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": METRICS_PORT, "protocol": "TCP"}]}],
    }
