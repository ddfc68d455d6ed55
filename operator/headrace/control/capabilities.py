"""What the server can do beyond what every server can, looked up and remembered. Before this: `reconcile.py`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.cluster import ClusterError
from headrace.resources import POD_DISRUPTION_BUDGET, POD_DISRUPTION_BUDGET_BETA

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.cluster import Cluster
    from headrace.resources import Kind

REMEMBERED = 600.0
"""Seconds after which it is looked up anew: servers are upgraded."""
_FORBIDDEN = 403


@dataclass(slots=True)
class Capabilities:
    """`clock` is monotonic, in seconds."""

    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    _versions: frozenset[str] = frozenset()
    _until: float = float("-inf")

    async def budget(self) -> Kind | None:
        """The kind of PodDisruptionBudgets that is served, the newest first; raises ClusterError."""
        if self.clock() >= self._until:
            self._versions = await self._policy()
            self._until = self.clock() + REMEMBERED
        for kind in (POD_DISRUPTION_BUDGET, POD_DISRUPTION_BUDGET_BETA):
            if kind.api_version.rpartition("/")[2] in self._versions:
                return kind
        return None

    async def _policy(self) -> frozenset[str]:
        try:
            return await self.cluster.versions("policy")
        except ClusterError as error:
            if error.status != _FORBIDDEN:
                raise
            return frozenset()
