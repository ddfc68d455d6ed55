"""Two mappings of one source and function (contract A.3, V17): which of them is refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import InvalidMapping, Reason
from headrace.spec import parse_mapping
from headrace.spec_checks import conflict

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
    for condition in (body.get("status") or {}).get("conditions") or ():
        if (condition.get("type"), condition.get("reason")) == ("Ready", Reason.DUPLICATE_MAPPING):
            return str(condition.get("message"))
    return None


def twin(mapping: EventSourceMapping, body: Body, others: Iterable[Body]) -> str | None:
    """The sentence about another mapping that was there first, None when there is none.

    First is what was settled before, as on AWS, where the later call is refused; of two that are new, the older.
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


def _age(body: Body) -> tuple[str, str]:
    metadata = body["metadata"]
    return str(metadata.get("creationTimestamp") or ""), str(metadata["uid"])
