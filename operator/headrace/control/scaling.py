"""How many pods a mapping's shards or messages need, and which shards there are. Pure. Before this: `observe.py`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headrace.arns import source_kind_of
from headrace.resources import DEPLOYMENT
from headrace.spec import CALLS_PER_POLLER
from headrace.spec_rule import QUEUES

if TYPE_CHECKING:
    from headrace.cluster import Body
    from headrace.control.observe import Observed
    from headrace.heartbeat import Heartbeat
    from headrace.spec import EventSourceMappingSpec

BACKLOG_PER_REPLICA = 1_000
"""Messages waiting in a queue for which there is another pod."""


def replicas(spec: EventSourceMappingSpec, observed: Observed) -> int:
    """clamp(ceil(ready shards / shardsPerReplica), minReplicas, maxReplicas); 0 when disabled.

    Of a queue by its backlog; in provisioned mode it has minimumPollers, whatever there is to do.
    While nobody knows how many shards are ready, as many as there are: a silent moment takes no pod away.
    """
    if not spec.enabled:
        return 0
    poller = spec.poller
    if is_queue(observed):
        needed = spec.provisioned_pollers[0] if spec.provisioned_pollers is not None else _for_backlog(observed)
        wanted = max(poller.min_replicas, min(needed, poller.max_replicas))
        return int(min(wanted, _calls(spec)))
    ready = ready_shards(observed)
    wanted = _now(observed) if ready is None else math.ceil(ready / poller.shards_per_replica)
    return max(poller.min_replicas, min(wanted, poller.max_replicas))


def is_queue(observed: Observed) -> bool:
    """Whether the mapping reads a queue, which has no shards."""
    arn = (observed.mapping.get("spec") or {}).get("eventSourceArn")
    return isinstance(arn, str) and source_kind_of(arn) in QUEUES


def _for_backlog(observed: Observed) -> int:
    """ceil(backlog / BACKLOG_PER_REPLICA); as many pods as there are while nobody tells."""
    told = [beat.backlog for beat in observed.heartbeats if beat.backlog is not None]
    return math.ceil(max(told) / BACKLOG_PER_REPLICA) if told else _now(observed)


def _calls(spec: EventSourceMappingSpec) -> float:
    """Calls that may be in flight at a time: a pod more would have none."""
    if spec.scaling_config is not None and spec.scaling_config.maximum_concurrency is not None:
        return spec.scaling_config.maximum_concurrency
    return spec.provisioned_pollers[1] * CALLS_PER_POLLER if spec.provisioned_pollers is not None else math.inf


def ready_shards(observed: Observed) -> int | None:
    """Shards that can be read now: the most that a poller tells of, else what leases say; None: not known."""
    told = [beat.shards_ready for beat in observed.heartbeats if beat.shards_ready is not None]
    if told:
        return max(told)
    return len(ready_leases(observed)) if current_leases(observed) else None


def current_leases(observed: Observed) -> tuple[Body, ...]:
    """The ShardLeases of the stream that is read now: not of another one, nor of a former one of its name.

    None where they lie in a table, which the operator does not read: what is known of shards then, pollers report.
    """
    spec = observed.mapping.get("spec") or {}
    if (spec.get("poller") or {}).get("checkpointTable"):
        return ()
    source = spec.get("eventSourceArn")
    specs = [(lease.get("spec") or {}, lease) for lease in observed.shard_leases]
    ours = [(spec, lease) for spec, lease in specs if spec.get("eventSourceArn") in {None, source}]
    newest = max((str(spec.get("streamCreatedAt") or "") for spec, _ in ours), default="")
    return tuple(lease for spec, lease in ours if str(spec.get("streamCreatedAt") or newest) == newest)


def is_open(lease: Body) -> bool:
    """Whether a ShardLease's shard has not ended."""
    return not (lease.get("status") or {}).get("finished")


def ready_leases(observed: Observed) -> tuple[Body, ...]:
    """The current leases of shards that can be read: they have not ended, and no parent of theirs is still to be read.

    Their state does not say so: it stays `Waiting` until somebody takes the shard.
    """
    unfinished = [lease for lease in current_leases(observed) if is_open(lease)]
    unread = {(lease.get("spec") or {}).get("shardId") for lease in unfinished}
    return tuple(one for one in unfinished if unread.isdisjoint((one.get("spec") or {}).get("parents") or ()))


def is_held(lease: Body, heartbeats: tuple[Heartbeat, ...]) -> bool:
    """Whether its holder lives, and is in the life that took it."""
    status = lease.get("status") or {}
    return any(
        status.get("holder") == beat.identity and beat.incarnation in {"", status.get("incarnation")}
        for beat in heartbeats
    )


def _now(observed: Observed) -> int:
    deployment = observed.children.get(DEPLOYMENT) or {}
    return int((deployment.get("spec") or {}).get("replicas") or 0)
