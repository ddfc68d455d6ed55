"""One look at a mapping: observe, decide, apply, tell. Before this: `workqueue.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.cluster import ClusterError, Conflict, ObjectNotFound
from headrace.control.announcer import Announcer
from headrace.control.announcing import notices
from headrace.control.apply import apply
from headrace.control.capabilities import Capabilities
from headrace.control.desired import children
from headrace.control.fleet_metrics import FleetMetrics
from headrace.control.observe import CHILDREN, Observed, observe, others
from headrace.control.plan import plan
from headrace.control.pods import LAST_VALID
from headrace.control.scaling import replicas
from headrace.control.status import patch_of, status_of
from headrace.control.trouble import NOT_FOLLOWED, Problem, look_again
from headrace.control.twins import is_settled, refusal, twin
from headrace.control.workqueue import Looked, Scope
from headrace.errors import HeadraceError, InvalidMapping, Reason
from headrace.resources import CONFIG_MAP, DEPLOYMENT, EVENT_SOURCE_MAPPING, NETWORK_POLICY
from headrace.spec import EventSourceMapping, parse_mapping, unsupported
from headrace.spec_fixed import changed, last_valid, written

if TYPE_CHECKING:
    from headrace.cluster import Body, Cluster
    from headrace.control.desired import PollerSettings
    from headrace.liveness import Key, Liveness
    from headrace.resources import Kind

_TERMINATING = "NamespaceTerminating"
"""The API server's code for a namespace in which nothing can be made any more."""


class NotApplied(HeadraceError):
    """The children are not as desired; tried again with back-off."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Brings one mapping's children and status to what its spec asks for; the same again when called again."""

    cluster: Cluster
    liveness: Liveness
    settings: PollerSettings
    fleet: FleetMetrics = field(default_factory=FleetMetrics)
    capabilities: Capabilities = field(init=False)
    announcer: Announcer = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "capabilities", Capabilities(self.cluster))
        object.__setattr__(self, "announcer", Announcer(self.cluster))

    async def __call__(self, key: Key, scope: Scope) -> Looked:
        """Raises ClusterError or NotApplied after the status says why."""
        budget = await self.capabilities.budget()
        more = (NETWORK_POLICY,) if budget is None else (budget, NETWORK_POLICY)
        kinds = (*CHILDREN, *more) if scope is Scope.ALL else (CONFIG_MAP, DEPLOYMENT)
        observed = await observe(self.cluster, self.liveness, *key, kinds)
        if observed is None:
            self.fleet.forget(key)
            return Looked(there=False)
        if "deletionTimestamp" in observed.mapping["metadata"]:
            await self._tell(observed, enabled=False, problem=None)
            return Looked()
        mapping, problem = judge(observed)
        undone = None
        if mapping is not None and problem is None:
            problem = await self._twin(observed, mapping, scope)
            pods = 0 if problem is not None else replicas(mapping.spec, observed)
            if scope is Scope.STATUS and _differs(observed, pods):
                return await self(key, Scope.ALL)
            if scope is Scope.ALL:
                wanted = children(observed.ref, mapping, self.settings, pods, budget)
                undone = await self._bring(observed, wanted) or problem
                problem = problem or undone
        await self._tell(observed, enabled=_enabled(observed, problem), problem=problem)
        if undone is not None and undone.reason is not Reason.NAMESPACE_TERMINATING:
            raise NotApplied(undone.message)
        return Looked(again=look_again(observed))

    async def _twin(self, observed: Observed, mapping: EventSourceMapping, scope: Scope) -> Problem | None:
        """Another mapping of the same source and function; looked for only where the spec is new, or had one."""
        body = observed.mapping
        if is_settled(body):
            return None
        sentence = refusal(body)
        if scope is Scope.ALL:
            sentence = twin(mapping, body, await others(self.cluster, body))
        return Problem(Reason.DUPLICATE_MAPPING, sentence) if sentence is not None else None

    async def _bring(self, observed: Observed, wanted: dict[Kind, Body]) -> Problem | None:
        steps = plan(wanted, observed)
        try:
            await apply(self.cluster, steps)
        except Conflict:
            raise  # somebody was quicker: what is there now is looked at at once, and nothing is wrong
        except ClusterError as error:
            if _TERMINATING in error.causes:
                text = f"namespace {observed.ref.namespace} is being deleted, and this mapping with it"
                return Problem(Reason.NAMESPACE_TERMINATING, text)
            return Problem(Reason.API_ERROR, error.message)
        if steps.conflicts:
            names = ", ".join(steps.conflicts)
            return Problem(Reason.NAME_CONFLICT, f"{names} belongs to something else; delete or rename it")
        return None

    async def _tell(self, observed: Observed, *, enabled: bool, problem: Problem | None) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        previous = observed.mapping.get("status") or {}
        status = status_of(observed, enabled, problem, now)
        self.fleet.saw(observed, status, enabled=enabled)
        patch = patch_of(previous, status)
        if not patch:
            return
        ref = observed.ref
        body = {"metadata": {"uid": ref.uid}, "status": patch}
        try:
            await self.cluster.merge(EVENT_SOURCE_MAPPING, ref.namespace, ref.name, body, "status")
        except ObjectNotFound:
            return  # it is gone meanwhile; its event brings the next look
        await self.announcer.tell(ref, notices(previous, status), now)


def _differs(observed: Observed, pods: int) -> bool:
    """Whether the Deployment has another number of pods; where there is none, another look makes it."""
    deployment = observed.children.get(DEPLOYMENT)
    return deployment is not None and (deployment["spec"].get("replicas") or 0) != pods


def judge(observed: Observed) -> tuple[EventSourceMapping | None, Problem | None]:
    """The mapping as far as it can be run, and what is wrong with it."""
    try:
        mapping = parse_mapping(observed.mapping)
    except InvalidMapping as error:
        return None, Problem(Reason.INVALID_SPEC, "; ".join(error.errors))
    before = _before(observed)
    if before is not None and (fixed := changed(before, written(mapping.spec))):
        return None, Problem(Reason.INVALID_SPEC, "; ".join(fixed))
    missing = unsupported(mapping)
    if missing:
        return mapping, Problem(Reason.NOT_SUPPORTED_YET, "; ".join(missing))
    return mapping, None


def _before(observed: Observed) -> Body | None:
    """The spec that could be run last."""
    return last_valid(((observed.children.get(CONFIG_MAP) or {}).get("data") or {}).get(LAST_VALID))


def _enabled(observed: Observed, problem: Problem | None) -> bool:
    """What the spec asks for that pods go by."""
    refused = problem is not None and problem.reason in NOT_FOLLOWED
    spec = (_before(observed) if refused else None) or observed.mapping.get("spec") or {}
    return spec.get("enabled", True) is not False
