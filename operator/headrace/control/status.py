"""A mapping's status. Pure.

Before this: `observe.py`, `plan.py`. After this: one patch of the status, when anything changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.control import shards
from headrace.control.scaling import is_queue
from headrace.control.trouble import NOT_FOLLOWED, Problem, trouble
from headrace.errors import Reason
from headrace.resources import DEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.cluster import Body
    from headrace.control.observe import Observed
    from headrace.heartbeat import ReportedCondition

NO_RECORDS = "No records processed"
USER_ACTION, USER_INITIATED = "User action", "USER_INITIATED"
"""AWS's StateTransitionReason of streams, and of queues (contract A.4)."""
REPORTED = ("SourceReachable", "FunctionReachable", "DestinationReachable", "CheckpointsReachable")
"""The conditions that only pollers know."""
OF_QUEUES = ("SourceReachable", "FunctionReachable", "DeadLetterQueue", "VisibilityTimeout")
"""The same of a queue."""
ADVICE = frozenset({"DestinationReachable", "DeadLetterQueue", "VisibilityTimeout"})
"""Conditions without which records are handed to the function all the same."""
_LONGEST_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition without its times."""

    type: str
    status: str
    reason: str
    message: str


def status_of(observed: Observed, enabled: bool, problem: Problem | None, now: str) -> Body:
    """The whole status; `enabled` is what the spec asks for that is followed, `now` the time (RFC 3339) of a change."""
    generation = observed.mapping["metadata"]["generation"]
    previous = observed.mapping.get("status") or {}
    state = _state(observed, previous, enabled=enabled, problem=problem)
    queue = is_queue(observed)
    reported = [_reported(kind, observed, enabled=enabled) for kind in (OF_QUEUES if queue else REPORTED)]
    conditions = [
        _ready(observed, state, reported, problem),
        *reported,
        *([] if queue else [_assigned(observed, enabled=enabled)]),
        _progressing(observed, state, problem),
    ]
    ages = [beat.iterator_age_seconds for beat in observed.heartbeats if beat.iterator_age_seconds is not None]
    return {
        "state": state,
        "stateTransitionReason": USER_INITIATED if queue else USER_ACTION,
        "lastProcessingResult": None if queue else _last_result(observed, previous),
        "conditions": [_dated(condition, previous, generation, now) for condition in conditions],
        "shards": None if queue else shards.counts(observed),
        "pollers": len(observed.heartbeats),
        "function": _function(observed),
        "iteratorAgeSeconds": max(ages) if ages else None,
        "observedGeneration": generation,
    }


def patch_of(previous: Body, status: Body) -> Body:
    """The JSON merge patch that turns one status into the other; empty when there is nothing to do."""
    wanted = {key: value for key, value in status.items() if value is not None}
    gone = {key: None for key in previous if key not in wanted}
    return {key: value for key, value in wanted.items() if previous.get(key) != value} | gone


def _state(observed: Observed, previous: Body, *, enabled: bool, problem: Problem | None) -> str:
    """The next of AWS's states (contract A.4): a transient one from a change of the spec until pollers follow it."""
    before = previous.get("state")
    if "deletionTimestamp" in observed.mapping["metadata"]:
        return "Deleting"
    target = "Enabled" if enabled else "Disabled"
    if problem is not None and problem.reason in NOT_FOLLOWED:
        return _kept(before, target, reached=bool(observed.heartbeats) if enabled else _stopped(observed))
    unchanged = previous.get("observedGeneration") == observed.mapping["metadata"]["generation"]
    if before == target and unchanged:
        return target
    at_once = before is None and not enabled and is_queue(observed)
    if problem is None and (at_once or _follows(observed, enabled=enabled)):
        return target
    return _transient(before, target)


def _kept(before: str | None, target: str, *, reached: bool) -> str:
    """The state while the newest spec cannot be run: that of what runs, as on AWS, where such an update is refused."""
    if before is None:
        return "Creating"
    return target if reached else before


def _transient(before: str | None, target: str) -> str:
    toward = {"Enabled": "Enabling", "Disabled": "Disabling"}[target]
    match before:
        case None | "Creating":
            return "Creating"
        case "Enabled" | "Disabled":
            return "Updating" if before == target else toward
        case "Enabling" | "Disabling":
            return toward
        case _:
            return "Updating"


def _follows(observed: Observed, *, enabled: bool) -> bool:
    """Whether what runs is what the newest spec asks for."""
    generation = observed.mapping["metadata"]["generation"]
    if any(beat.generation != generation for beat in observed.heartbeats):
        return False
    return bool(observed.heartbeats) if enabled else _stopped(observed)


def _stopped(observed: Observed) -> bool:
    """Whether no pod is asked for, and none is left."""
    deployment = observed.children.get(DEPLOYMENT)
    if deployment is None or deployment["spec"].get("replicas"):
        return False
    status = deployment.get("status") or {}
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and not status.get("replicas")


def _function(observed: Observed) -> str | None:
    """What to call the function in a column: its Service, or the host of its URL."""
    function = (observed.mapping.get("spec") or {}).get("function") or {}
    service, url = function.get("service"), function.get("url")
    if service:
        return str(service.get("name"))
    return url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2] or None if url else None


def _reported(kind: str, observed: Observed, *, enabled: bool) -> Condition:
    """What the pollers say of a condition: what does not hold for one of them does not hold."""
    if not enabled:
        return Condition(kind, "Unknown", Reason.DISABLED, "spec.enabled is false, so nothing is tried")
    said = [each for beat in observed.heartbeats for each in beat.conditions if each.type == kind]
    for status in ("False", "True", "Unknown"):
        for each in said:
            if each.status == status:
                return Condition(kind, status, each.reason, f"{_where(kind, observed)}{each.message}{_advice(each)}")
    return Condition(kind, "Unknown", Reason.PENDING, "no poller has reported it yet")


def _where(kind: str, observed: Observed) -> str:
    """The Service that a sentence about the function is about; a Service that does not exist looks like one away."""
    spec = observed.mapping.get("spec") or {}
    service = (spec.get("function") or {}).get("service") if kind == "FunctionReachable" else None
    if not service:
        return ""
    namespace = service.get("namespace") or observed.ref.namespace
    return f"Service {namespace}/{service.get('name')}, port {service.get('port')}: "


def _advice(said: ReportedCondition) -> str:
    """What to do about an API server that refuses leases and checkpoints; a table's own sentence says it."""
    refused = (said.type, said.status, said.reason) == ("CheckpointsReachable", "False", Reason.API_ERROR)
    return "; it is tried again: if it lasts, mend what the server names" if refused else ""


def _assigned(observed: Observed, *, enabled: bool) -> Condition:
    if not enabled:
        return Condition("ShardsAssigned", "Unknown", Reason.DISABLED, "spec.enabled is false, so no shard is read")
    return Condition("ShardsAssigned", *shards.assignment(observed))


def _ready(observed: Observed, state: str, reported: Iterable[Condition], problem: Problem | None) -> Condition:
    if problem is not None:
        return Condition("Ready", "False", problem.reason, problem.message)
    if state in {"Disabled", "Disabling"}:
        kept = "messages wait in the queue" if is_queue(observed) else "checkpoints are kept"
        return Condition("Ready", "False", Reason.DISABLED, f"spec.enabled is false; {kept}")
    if not observed.heartbeats:
        return _no_poller(observed)
    for condition in reported:
        if condition.status == "False" and condition.type not in ADVICE:
            return Condition("Ready", "False", condition.reason, condition.message)
    for condition in reported:
        if condition.status == "Unknown" and condition.type == "SourceReachable":
            return Condition("Ready", "False", Reason.PENDING, "the source was not read yet")
    stuck = shards.stuck(observed)
    more = f", except that {stuck}" if stuck else ""
    return Condition("Ready", "True", Reason.READY, f"records are read and handed to the function{more}")


def _no_poller(observed: Observed) -> Condition:
    problem = trouble(observed)
    if problem is not None:
        return Condition("Ready", "False", problem.reason, f"no poller is running: {problem.message}")
    where = f"see the pods of Deployment {observed.ref.child_name} if it lasts"
    return Condition("Ready", "False", Reason.PENDING, f"no poller is running yet; {where}")


def _progressing(observed: Observed, state: str, problem: Problem | None) -> Condition:
    problem = problem or (trouble(observed) if observed.heartbeats else None)
    if problem is not None:
        return Condition("Progressing", "False", problem.reason, problem.message)
    if state in {"Enabled", "Disabled"}:
        return Condition("Progressing", "False", Reason.RECONCILED, "what runs is what the spec asks for")
    return Condition("Progressing", "True", Reason.ROLLING_OUT, "pollers are being brought to the newest spec")


def _dated(condition: Condition, previous: Body, generation: int, now: str) -> Body:
    before: dict[str, Any] = next(
        (each for each in previous.get("conditions") or () if each.get("type") == condition.type), {}
    )
    changed = before.get("status") != condition.status
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": str(condition.reason),
        "message": condition.message[:_LONGEST_MESSAGE],
        "lastTransitionTime": now if changed else before.get("lastTransitionTime", now),
        "observedGeneration": generation,
    }


def _last_result(observed: Observed, previous: Body) -> str:
    """The worst of what the pollers say, else what was said before them."""
    said = {beat.last_processing_result for beat in observed.heartbeats} - {None, NO_RECORDS}
    if not said:
        return str(previous.get("lastProcessingResult") or NO_RECORDS)
    return str(max(said, key=lambda result: (str(result) != "OK", str(result))))
