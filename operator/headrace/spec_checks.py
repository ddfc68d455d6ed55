"""What shows only beside the clock or beside other mappings (contract A.3, V8 and V17). Pure: both are arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.spec_rule import QUEUES

if TYPE_CHECKING:
    from headrace.spec import EventSourceMapping, EventSourceMappingSpec


def starts_in_future(mapping: EventSourceMapping, now: float) -> tuple[str, ...]:
    """The sentence for a starting time after `now` in epoch seconds (contract A.3, V8); what is past stays past."""
    start = mapping.spec.starting_position_timestamp
    if start is None or start <= now:
        return ()
    return ("spec.startingPositionTimestamp: must not be in the future",)


def conflict(mapping: EventSourceMapping, other: EventSourceMapping) -> str | None:
    """The sentence for two mappings that exclude each other: same name, or same source and function (V17)."""
    if mapping.key == other.key:
        return f"metadata.name: {mapping.key} is defined twice"
    spec, function = mapping.spec, mapping.spec.function
    arn = spec.event_source_arn
    there = other.spec.function
    # Names and ARNs stand for qualifiers, which make different targets of one function.
    if (arn, mapping.function_url, function.name, function.arn) != (
        other.spec.event_source_arn,
        other.function_url,
        there.name,
        there.arn,
    ):
        return None
    advice = f"Please update or delete the existing mapping with UUID {other.resolved_uid}"
    if arn is None:
        return _kafka_conflict(mapping, other, advice)
    pair = f'arn (" {arn} ") and function (" {other.function_arn} ")'
    if mapping.source_kind in QUEUES:
        head = f"An event source mapping with SQS {pair} already exists."
    else:
        head = f"The event source {pair} provided mapping already exists."
    return f"spec.eventSourceArn: {head} {advice}"


def _kafka_conflict(mapping: EventSourceMapping, other: EventSourceMapping, advice: str) -> str | None:
    """Self-managed Kafka: any shared bootstrap server and the same topic."""
    here, there = _servers(mapping.spec), _servers(other.spec)
    if not set(here) & set(there) or mapping.spec.topics != other.spec.topics:
        return None
    topics = ",".join(mapping.spec.topics or ())
    return (
        f'spec.selfManagedEventSource: An event source mapping with event source ("{",".join(here)}"),'
        f' function ("{other.function_arn}"), topics ("{topics}") already exists. {advice}'
    )


def _servers(spec: EventSourceMappingSpec) -> tuple[str, ...]:
    source = spec.self_managed_event_source
    return source.endpoints.kafka_bootstrap_servers if source is not None else ()
