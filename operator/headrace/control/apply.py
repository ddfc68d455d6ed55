"""Does what a plan says. Before this: `plan.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import structlog

from headrace.control.plan import Action, Create, Delete, Replace

if TYPE_CHECKING:
    from headrace.cluster import Cluster
    from headrace.control.plan import Plan

log = structlog.get_logger()


async def apply(cluster: Cluster, plan: Plan) -> None:
    """One action after the other; raises ClusterError at the first that fails, since the next look starts anew."""
    for action in plan.actions:
        await _act(cluster, action)
        metadata = action.body["metadata"]
        log.info(
            type(action).__name__.lower(),
            kind=action.kind.kind,
            namespace=metadata["namespace"],
            name=metadata["name"],
        )


async def _act(cluster: Cluster, action: Action) -> None:
    match action:
        case Create(kind, body):
            await cluster.create(kind, body)
        case Replace(kind, body):
            await cluster.replace(kind, body)
        case Delete(kind, body):
            await cluster.delete(kind, body)
        case _:
            assert_never(action)
