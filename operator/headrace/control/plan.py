"""What to do so that the cluster has what is desired. Pure.

Before this: `observe.py`, `desired.py`. After this: `apply.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.cluster import Body
    from headrace.control.observe import Observed
    from headrace.resources import Kind

ANNOTATION_HASH = "headrace.dev/manifest-hash"
"""On every child: the hash of the manifest it was last made from, so that what is not wanted any more is noticed."""
ANNOTATION_OURS = "headrace.dev/annotations"
"""On a child with annotations of its mapping's: their names, so that they can be taken away again."""

_RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` writes into a template."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object."""

    kind: Kind
    body: Body


@dataclass(frozen=True, slots=True)
class Replace:
    """Replace an object; the body holds the version it was planned on."""

    kind: Kind
    body: Body


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object."""

    kind: Kind
    body: Body


Action = Create | Replace | Delete


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in order; `conflicts` names the objects that bear a child's name and belong to somebody else."""

    actions: tuple[Action, ...] = ()
    conflicts: tuple[str, ...] = ()


def plan(desired: Mapping[Kind, Body], observed: Observed) -> Plan:
    """Makes what is missing, replaces what differs, deletes what is not desired; never touches what another owns."""
    actions: list[Action] = []
    conflicts = []
    for kind, body in desired.items():
        actual = observed.children.get(kind)
        if actual is None:
            actions.append(Create(kind, body))
        elif not observed.ref.owns(actual):
            conflicts.append(f"{kind.kind} {actual['metadata']['name']}")
        elif not _covers(body, actual):
            actions.append(Replace(kind, _replaced(body, actual)))
    leftovers = [(kind, body) for kind, body in observed.children.items() if kind not in desired]
    actions += [Delete(kind, body) for kind, body in reversed(leftovers) if observed.ref.owns(body)]
    return Plan(tuple(actions), tuple(conflicts))


def _replaced(desired: Body, actual: Body) -> Body:
    """What we set is set anew as a whole; what others added beside it (labels, a token's name, status) stays."""
    theirs, ours = actual["metadata"], desired["metadata"]
    owners = [
        owner for owner in theirs.get("ownerReferences") or () if owner["uid"] != ours["ownerReferences"][0]["uid"]
    ]
    annotations = theirs.get("annotations") or {}
    former = {ANNOTATION_OURS, *str(annotations.get(ANNOTATION_OURS, "")).split(",")}
    kept = {name: value for name, value in annotations.items() if name not in former}
    metadata = {
        **theirs,
        "labels": {**(theirs.get("labels") or {}), **ours["labels"]},
        "annotations": {**kept, **ours["annotations"]},
        "ownerReferences": [*ours["ownerReferences"], *owners],
    }
    return {**actual, **_restarted(desired, actual), "metadata": metadata}


def _restarted(desired: Body, actual: Body) -> Body:
    """With the mark of a restart by hand kept: its loss would replace all pods once more."""
    theirs = ((actual.get("spec") or {}).get("template") or {}).get("metadata") or {}
    mark = (theirs.get("annotations") or {}).get(_RESTARTED)
    if mark is None:
        return desired
    spec = desired["spec"]
    ours = spec["template"]["metadata"]
    metadata = {**ours, "annotations": {_RESTARTED: mark, **ours["annotations"]}}
    return {**desired, "spec": {**spec, "template": {**spec["template"], "metadata": metadata}}}


def _covers(desired: Any, actual: Any, key: str = "") -> bool:
    """Whether everything desired is there; what the server or others add to objects does not matter, list items do."""
    if isinstance(desired, dict):
        there: Any = actual if isinstance(actual, dict) else {}
        return all(_covers(value, there.get(name), key if key in _AMOUNTS else name) for name, value in desired.items())
    if isinstance(desired, list):
        there = actual if isinstance(actual, list) else []
        if key == "ownerReferences":
            return all(any(_covers(wanted, owner) for owner in there) for wanted in desired)
        return len(desired) == len(there) and all(map(_covers, desired, there))
    if not desired:  # the server leaves out what is empty, 0 or false
        return not actual
    if key in _AMOUNTS:
        return bool(_amount(desired) == _amount(actual))
    return bool(desired == actual)


_AMOUNTS = frozenset({"limits", "requests", "sizeLimit"})
"""The server writes quantities in its own way: 0.5 comes back as 500m."""
_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?")
_SCALES = {
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{unit: Decimal(1000) ** -power for power, unit in enumerate("mun", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def _amount(quantity: Any) -> Any:
    """A Kubernetes quantity as a number; what is none stays as it is."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None or match[1].count(".") > 1 or not match[1].strip("+-."):
        return quantity
    return Decimal(match[1] + (match[2] or "")) * _SCALES.get(match[3], Decimal(1))
