"""Two mappings of one source and function (contract A.3, V17): which of them is refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.control.pods import LAST_VALID
from headrace.control.trouble import NOT_FOLLOWED
from headrace.errors import InvalidMapping, Reason
from headrace.spec import parse_mapping
from headrace.spec_checks import conflict
from headrace.spec_fixed import last_valid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.cluster import Body
    from headrace.spec import EventSourceMapping


def is_settled(body: Body) -> bool:
    """Whether this spec was looked at before, and found to be nobody's twin: it need not be compared again."""
    status = body.get("status") or {}
    return status.get("observedGeneration") == body["metadata"]["generation"] and not was_refused(body)


def was_refused(body: Body) -> bool:
    """Whether the last look found a twin."""
    return refusal(body) is not None


def refusal(body: Body) -> str | None:
    """The sentence about its twin that a mapping's status has."""
    ready = _ready(body)
    return str(ready.get("message")) if ready.get("reason") == Reason.DUPLICATE_MAPPING else None


def is_followed(body: Body) -> bool:
    """Whether pods go by this spec, where there are any, and not by the last one that could be run."""
    if _ready(body).get("reason") in NOT_FOLLOWED:
        return False
    status = body.get("status") or {}
    return not status or status.get("observedGeneration") == body["metadata"]["generation"] or _parses(body)


def as_it_runs(body: Body, config_map: Body | None, deployment: Body | None) -> Body | None:
    """A mapping as its pods follow it while its own spec cannot be run; None: there are none to follow anything."""
    spec = last_valid(((config_map or {}).get("data") or {}).get(LAST_VALID))
    pods = ((deployment or {}).get("spec") or {}).get("replicas")
    return body | {"spec": spec} if spec is not None and pods else None


def twin(mapping: EventSourceMapping, body: Body, others: Iterable[Body]) -> str | None:
    """The sentence about another mapping that was there first, None when there is none.

    First is what was settled before, as on AWS, where the later call is refused; of two that are new, the older. The
    others are given as they run.
    """
    for other in others:
        if other["metadata"]["uid"] == body["metadata"]["uid"] or not _comparable(body, other):
            continue
        if was_refused(other) or not (is_settled(other) or _age(other) < _age(body)):
            continue
        try:
            sentence = conflict(mapping, parse_mapping(other))
        except InvalidMapping:
            continue
        if sentence is not None:
            return f"{sentence} ({other['metadata']['name']}); until then this one has no pods"
    return None


def _comparable(body: Body, other: Body) -> bool:
    """Whether they name one source; to parse every mapping of a namespace would take long."""
    specs = [each.get("spec") or {} for each in (body, other)]
    return bool(specs[0].get("eventSourceArn") == specs[1].get("eventSourceArn"))


def _ready(body: Body) -> Body:
    conditions: list[Body] = (body.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == "Ready"), {})


def _parses(body: Body) -> bool:
    try:
        parse_mapping(body)
    except InvalidMapping:
        return False
    return True


def _age(body: Body) -> tuple[str, str]:
    metadata = body["metadata"]
    return str(metadata.get("creationTimestamp") or ""), str(metadata["uid"])
