"""Reads everything about one mapping, once. Before this: `reconcile.py`. After this: `plan.py`, `status.py`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headrace.control.twins import as_it_runs, is_followed
from headrace.heartbeat import Heartbeat, heartbeat_of
from headrace.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT_SOURCE_MAPPING,
    LEASE,
    POD,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SHARD_LEASE,
    Kind,
    MappingRef,
    ref_of,
)

if TYPE_CHECKING:
    from headrace.cluster import Body, Cluster
    from headrace.liveness import Liveness

CHILDREN = (SERVICE_ACCOUNT, ROLE, ROLE_BINDING, CONFIG_MAP, DEPLOYMENT)
"""The kinds the operator makes, in the order they are needed: one object of each, all of the same name."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A mapping and what belongs to it, as the API server has it.

    `children` holds whatever bears a child's name, whoever owns it; kinds that were not read are absent.
    """

    mapping: Body
    children: dict[Kind, Body]
    heartbeats: tuple[Heartbeat, ...] = ()
    shard_leases: tuple[Body, ...] = ()
    pods: tuple[Body, ...] = ()
    """Read only while fewer pollers are alive than there should be."""
    missing_account: str | None = None
    """The ServiceAccount the spec names, when there are too few pollers and it is not there."""
    at: float = 0.0
    """When it was read, in seconds since the epoch by the operator's own clock."""

    @property
    def ref(self) -> MappingRef:
        """Which mapping."""
        return ref_of(self.mapping)


async def observe(
    cluster: Cluster, liveness: Liveness, namespace: str, name: str, kinds: tuple[Kind, ...] = CHILDREN
) -> Observed | None:
    """The mapping with children of these kinds, None when it is gone; raises ClusterError."""
    mapping = await cluster.find(EVENT_SOURCE_MAPPING, namespace, name)
    if mapping is None:
        return None
    ref = ref_of(mapping)
    children, leases, shard_leases = await asyncio.gather(
        asyncio.gather(*(cluster.find(kind, namespace, ref.child_name) for kind in kinds)),
        cluster.select(LEASE, namespace, ref.selector),
        cluster.select(SHARD_LEASE, namespace, ref.selector),
    )
    observed = Observed(
        mapping,
        {kind: child for kind, child in zip(kinds, children, strict=True) if child is not None},
        tuple(heartbeat_of(lease) for lease in liveness.alive((namespace, name), _owned(leases, ref))),
        tuple(_owned(shard_leases, ref)),
        at=time.time(),
    )
    deployment = observed.children.get(DEPLOYMENT)
    if deployment is None or len(observed.heartbeats) >= (deployment["spec"].get("replicas") or 0):
        return observed
    return await _why(cluster, observed)


async def _why(cluster: Cluster, observed: Observed) -> Observed:
    """Pollers are missing: their pods may say why, or their absence."""
    ref = observed.ref
    pods = await cluster.select(POD, ref.namespace, ref.selector)
    account = ((observed.mapping.get("spec") or {}).get("poller") or {}).get("serviceAccountName")
    if pods or not account or await cluster.find(SERVICE_ACCOUNT, ref.namespace, account) is not None:
        return replace(observed, pods=tuple(pods))
    return replace(observed, missing_account=str(account))


async def others(cluster: Cluster, body: Body) -> list[Body]:
    """The other mappings of its namespace, each as it runs; raises ClusterError."""
    namespace, uid = body["metadata"]["namespace"], body["metadata"]["uid"]
    found = await cluster.select(EVENT_SOURCE_MAPPING, namespace)
    there = [other for other in found if other["metadata"]["uid"] != uid]
    return [other for each in there if (other := await _running(cluster, each)) is not None]


async def _running(cluster: Cluster, body: Body) -> Body | None:
    if is_followed(body):
        return body
    ref = ref_of(body)
    found = [await cluster.find(kind, ref.namespace, ref.child_name) for kind in (CONFIG_MAP, DEPLOYMENT)]
    return as_it_runs(body, *(child if child is not None and ref.owns(child) else None for child in found))


def _owned(bodies: list[Body], ref: MappingRef) -> list[Body]:
    """Labels can be copied; owners are what counts."""
    return [body for body in bodies if ref.owns(body)]
