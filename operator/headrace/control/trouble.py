"""Why pollers are not running, from what the Deployment and the pods say. Pure. Before this: `observe.py`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from headrace.errors import Reason
from headrace.resources import DEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.cluster import Body
    from headrace.control.observe import Observed

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
NOT_FOLLOWED = frozenset({Reason.INVALID_SPEC, Reason.NOT_SUPPORTED_YET})
"""Why a spec cannot be run: pods go on with the last one that could."""
GRACE = 20.0
"""Seconds that a container may run before its silence is trouble: an ordinary start takes a few."""
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not as the mapping asks: a reason, and what to do about it."""

    reason: Reason
    message: str


def trouble(observed: Observed) -> Problem | None:
    """What keeps pollers from running, the plainest first; None: nothing that shows."""
    if observed.missing_account is not None:
        return Problem(
            Reason.SERVICE_ACCOUNT_MISSING,
            f"spec.poller.serviceAccountName: there is no ServiceAccount {observed.missing_account} in this namespace;"
            " make it, or name another",
        )
    found = [each for pod in observed.pods if (each := _of_pod(pod, observed.at)) is not None]
    return min(found, key=lambda each: _ORDER.index(each.reason)) if found else _refused(observed)


def look_again(observed: Observed) -> float | None:
    """In how many seconds a pod that is only starting now would be silent; None: none is. No event tells it."""
    containers = (each for pod in observed.pods for each in _containers(pod))
    left = [GRACE - age for each in containers if _is_silent(each) and _is_young(age := _age(each, observed.at))]
    return min(left, default=None)


_ORDER = (
    Reason.IMAGE_UNAVAILABLE,
    Reason.PODS_MISCONFIGURED,
    Reason.PODS_CRASHING,
    Reason.PODS_UNSCHEDULABLE,
    Reason.PODS_SILENT,
)


def _refused(observed: Observed) -> Problem | None:
    """The Deployment's own words where it cannot make pods: a quota, an admission rule."""
    deployment = observed.children.get(DEPLOYMENT) or {}
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            name = observed.ref.child_name
            return Problem(Reason.PODS_REFUSED, f"Deployment {name} may not make pods: {condition.get('message')}")
    return None


def _containers(pod: Body) -> Iterator[Body]:
    """Of a pod that is to stay."""
    if "deletionTimestamp" not in pod["metadata"]:
        yield from (pod.get("status") or {}).get("containerStatuses") or ()


def _of_pod(pod: Body, at: float) -> Problem | None:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return None
    for container in _containers(pod):
        problem = _of_container(name, container, at)
        if problem is not None:
            return problem
    for condition in status.get("conditions") or ():
        if (condition.get("type"), condition.get("reason")) == ("PodScheduled", "Unschedulable"):
            text = f"pod {name} finds no node: {condition.get('message')}; see spec.poller's resources and scheduling"
            return Problem(Reason.PODS_UNSCHEDULABLE, text)
    return None


def _of_container(pod: str, container: Body, at: float) -> Problem | None:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    why, words = waiting.get("reason"), waiting.get("message") or "no more is told"
    if why in _IMAGE:
        text = f"pod {pod}: image {container.get('image')} cannot be had ({why}): {words}; see spec.poller.image"
        return Problem(Reason.IMAGE_UNAVAILABLE, f"{text} and imagePullSecrets")
    if why in _CONFIG:
        text = f"pod {pod} cannot start ({why}): {words}; see what the spec names of Secrets, ConfigMaps and volumes"
        return Problem(Reason.PODS_MISCONFIGURED, text)
    last = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if last and not container.get("ready"):
        ended = f"{last.get('reason') or 'Ended'}, exit code {last.get('exitCode')}"
        times = container.get("restartCount") or 0
        text = f"pod {pod} ended ({ended}) and was restarted {times} times; see kubectl logs --previous {pod}"
        return Problem(Reason.PODS_CRASHING, text)
    if _is_silent(container) and not _is_young(_age(container, at)):
        text = f"pod {pod} runs but sends no heartbeat; its log says why: kubectl logs {pod}"
        return Problem(Reason.PODS_SILENT, text)
    return None


def _is_silent(container: Body) -> bool:
    return "running" in (container.get("state") or {}) and not container.get("ready")


def _age(container: Body, at: float) -> float:
    """Seconds since the kubelet has started it, by the operator's clock: a skew of theirs only moves a sentence."""
    started = container["state"]["running"].get("startedAt")
    return at - datetime.fromisoformat(started).timestamp() if started else GRACE


def _is_young(age: float) -> bool:
    """Clocks that differ by less than the grace lengthen it; beyond that nothing is known, and silence counts."""
    return abs(age) < GRACE
