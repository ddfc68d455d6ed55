"""Names of what lies in a Kubernetes cluster: kinds, labels, annotations, children of a mapping. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP = "headrace.dev"
API_VERSION = f"{GROUP}/v1alpha1"

LABEL_MAPPING_UID = f"{GROUP}/mapping-uid"
"""On everything that belongs to a mapping: its full UID, so that one selector finds it all."""
LABEL_SHARD_LEASE = f"{GROUP}/shard-lease"
"""On a WindowState: the name of the ShardLease it belongs to."""
ANNOTATION_REPORT = f"{GROUP}/report"
"""On a heartbeat Lease: what the poller alone knows, as JSON (`Heartbeat`)."""

_CUT = 40
"""A mapping's name is cut to so many characters in its children's names, so that pods' names stay valid host names."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind of object."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The address on the API server; without a namespace that of all of them."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        where = f"/namespaces/{namespace}" if namespace is not None else ""
        return "/".join(part for part in (f"{root}{where}/{self.plural}", name, subresource) if part)


EVENT_SOURCE_MAPPING = Kind(API_VERSION, "EventSourceMapping", "eventsourcemappings")
SHARD_LEASE = Kind(API_VERSION, "ShardLease", "shardleases")
WINDOW_STATE = Kind(API_VERSION, "WindowState", "windowstates")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
EVENT = Kind("v1", "Event", "events")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
POD = Kind("v1", "Pod", "pods")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
POD_DISRUPTION_BUDGET_BETA = Kind("policy/v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")


@dataclass(frozen=True, slots=True)
class MappingRef:
    """Which mapping: the name may be used again, the UID never is."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def child_name(self) -> str:
        """The name of its children, one of each kind: at most 49 characters."""
        return f"{self.name[:_CUT].rstrip('-.')}-{self.uid[:8]}"

    def child_name_for(self, what: str) -> str:
        """The name of one of several children of a kind: of a shard, of a poller."""
        return f"{self.child_name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"

    def shard_lease_name(self, source: str, shard_id: str) -> str:
        """The name of a shard's lease. The source is in it: streams number their shards alike."""
        return self.child_name_for(f"{source} {shard_id}")

    @property
    def selector(self) -> str:
        """The label selector of everything that belongs to it."""
        return f"{LABEL_MAPPING_UID}={self.uid}"

    def metadata(self, name: str) -> dict[str, Any]:
        """The metadata of a child: labelled and owned, so that it goes with the mapping."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": self.labels,
            "ownerReferences": [self.owner_reference],
        }

    @property
    def labels(self) -> dict[str, str]:
        """The labels of a child."""
        return {
            "app.kubernetes.io/name": "headrace",
            "app.kubernetes.io/component": "poller",
            "app.kubernetes.io/instance": self.child_name,
            "app.kubernetes.io/managed-by": "headrace",
            LABEL_MAPPING_UID: self.uid,
        }

    @property
    def owner_reference(self) -> dict[str, Any]:
        """Ties a child's life to the mapping's, without holding up its deletion."""
        return {
            "apiVersion": API_VERSION,
            "kind": EVENT_SOURCE_MAPPING.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }

    def owns(self, body: Mapping[str, Any]) -> bool:
        """Whether an object is this mapping's: nothing else is ever changed or deleted.

        One with the mapping's label and no owner at all is, too: somebody took its owner away.
        """
        metadata = body["metadata"]
        owners = metadata.get("ownerReferences") or ()
        if not owners:
            return bool((metadata.get("labels") or {}).get(LABEL_MAPPING_UID) == self.uid)
        return any(owner.get("uid") == self.uid for owner in owners)


def ref_of(body: Mapping[str, Any]) -> MappingRef:
    """The reference of a mapping as the API server gives it."""
    metadata = body["metadata"]
    return MappingRef(metadata["namespace"], metadata["name"], metadata["uid"])
