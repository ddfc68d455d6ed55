"""One look at a mapping: observe, decide, apply, tell. Before this: `workqueue.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.cluster import ClusterError
from headrace.control.apply import apply
from headrace.control.desired import children
from headrace.control.fleet_metrics import FleetMetrics
from headrace.control.observe import CHILDREN, Observed, observe
from headrace.control.plan import plan
from headrace.control.status import Problem, patch_of, status_of
from headrace.control.workqueue import Scope
from headrace.errors import HeadraceError, InvalidMapping, Reason
from headrace.resources import DEPLOYMENT, EVENT_SOURCE_MAPPING
from headrace.spec import EventSourceMapping, parse_mapping, unsupported

if TYPE_CHECKING:
    from headrace.cluster import Cluster
    from headrace.control.desired import PollerSettings
    from headrace.liveness import Key, Liveness


class NotApplied(HeadraceError):
    """The children are not as desired; tried again with back-off."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Brings one mapping's children and status to what its spec asks for; the same again when called again."""

    cluster: Cluster
    liveness: Liveness
    settings: PollerSettings
    fleet: FleetMetrics = field(default_factory=FleetMetrics)

    async def __call__(self, key: Key, scope: Scope) -> bool:
        """Whether the mapping is there; raises ClusterError or NotApplied after the status says why."""
        observed = await observe(self.cluster, self.liveness, *key, CHILDREN if scope is Scope.ALL else (DEPLOYMENT,))
        if observed is None:
            self.fleet.forget(key)
            return False
        if "deletionTimestamp" in observed.mapping["metadata"]:
            await self._tell(observed, enabled=False, problem=None)
            return True
        mapping, problem = judge(observed)
        undone = None
        if mapping is not None and problem is None and scope is Scope.ALL:
            undone = problem = await self._bring(observed, mapping)
        await self._tell(observed, enabled=_enabled(observed), problem=problem)
        if undone is not None:
            raise NotApplied(undone.message)
        return True

    async def _bring(self, observed: Observed, mapping: EventSourceMapping) -> Problem | None:
        steps = plan(children(observed.ref, mapping, self.settings), observed)
        try:
            await apply(self.cluster, steps)
        except ClusterError as error:
            return Problem(Reason.API_ERROR, error.message)
        if steps.conflicts:
            names = ", ".join(steps.conflicts)
            return Problem(Reason.NAME_CONFLICT, f"{names} belongs to something else; delete or rename it")
        return None

    async def _tell(self, observed: Observed, *, enabled: bool, problem: Problem | None) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        status = status_of(observed, enabled, problem, now)
        self.fleet.saw(observed, status, enabled=enabled)
        patch = patch_of(observed.mapping.get("status") or {}, status)
        if patch:
            ref = observed.ref
            body = {"metadata": {"uid": ref.uid}, "status": patch}
            await self.cluster.merge(EVENT_SOURCE_MAPPING, ref.namespace, ref.name, body, "status")


def judge(observed: Observed) -> tuple[EventSourceMapping | None, Problem | None]:
    """The mapping as far as it can be run, and what is wrong with it."""
    try:
        mapping = parse_mapping(observed.mapping)
    except InvalidMapping as error:
        return None, Problem(Reason.INVALID_SPEC, "; ".join(error.errors))
    missing = unsupported(mapping)
    if missing:
        return mapping, Problem(Reason.NOT_SUPPORTED_YET, "; ".join(missing))
    return mapping, None


def _enabled(observed: Observed) -> bool:
    return (observed.mapping.get("spec") or {}).get("enabled", True) is not False
