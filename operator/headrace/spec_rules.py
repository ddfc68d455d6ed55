"""The rules between properties (contract A.3), each once: a test for Python, a CEL expression, one sentence.

Sentences marked [R] or [T] in the contract are AWS's own. A rule goes by what a property says, not by whether it was
written: the API server fills in defaults before it checks. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.arns import SOURCE_PATTERNS, TABLE_PATTERN, SourceKind, names_table, source_kind_of
from headrace.filter_operators import InvalidPattern
from headrace.filter_patterns import DataKey, compile_pattern
from headrace.records import StartingPosition
from headrace.spec_rule import (
    DOCUMENTDB,
    FUNCTION,
    KAFKA,
    PROVISIONED,
    QUEUES,
    STREAMS,
    Rule,
    arn_matches,
    filled,
    has,
    is_one_of,
    only_for,
    provisioned,
)
from headrace.spec_rules_sources import SOURCE_RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.spec import EventSourceMappingSpec


# Which source it is

_UNKNOWN = (
    "Unrecognized event source. It must be the ARN of a Kinesis stream or consumer, DynamoDB stream, SQS queue,"
    " MSK cluster, MQ broker or DocumentDB cluster"
)
_SOURCE = (
    Rule(
        "eventSourceArn",
        "Unrecognized event source.",
        lambda spec: spec.event_source_arn is None and spec.self_managed_event_source is None,
        "has(self.eventSourceArn) || has(self.selfManagedEventSource)",
    ),
    Rule(
        "selfManagedEventSource",
        "excludes eventSourceArn",
        lambda spec: spec.event_source_arn is not None and spec.self_managed_event_source is not None,
        "!has(self.eventSourceArn) || !has(self.selfManagedEventSource)",
    ),
    Rule(
        "eventSourceArn",
        "names a DynamoDB table; what is needed is its stream, its LatestStreamArn, which ends in /stream/LABEL",
        lambda spec: spec.event_source_arn is not None and names_table(spec.event_source_arn),
        f"!has(self.eventSourceArn) || !{arn_matches(TABLE_PATTERN)}",
    ),
    Rule(
        "eventSourceArn",
        _UNKNOWN,
        lambda spec: (
            spec.event_source_arn is not None
            and source_kind_of(spec.event_source_arn) is None
            and not names_table(spec.event_source_arn)
        ),
        f"!has(self.eventSourceArn) || {' || '.join(map(arn_matches, (*SOURCE_PATTERNS.values(), TABLE_PATTERN)))}",
    ),
)

# Batching

_FIFO = f"({is_one_of(QUEUES)} && self.eventSourceArn.endsWith('.fifo'))"
_BATCHING = (
    Rule(
        "batchSize",
        "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",  # V1
        lambda spec: (
            spec.source_kind is SourceKind.SQS
            and spec.resolved_batch_size > 10  # noqa: PLR2004
            and not spec.maximum_batching_window_in_seconds
        ),
        f"!{is_one_of(QUEUES)} || {_FIFO} || !has(self.batchSize) || self.batchSize <= 10"
        " || (has(self.maximumBatchingWindowInSeconds) && self.maximumBatchingWindowInSeconds > 0)",
    ),
    Rule(
        "batchSize",
        "Batch size must not exceed 10 for FIFO queues",  # V3
        lambda spec: spec.source_kind is SourceKind.SQS_FIFO and spec.resolved_batch_size > 10,  # noqa: PLR2004
        f"!{_FIFO} || !has(self.batchSize) || self.batchSize <= 10",
    ),
    Rule(
        "maximumBatchingWindowInSeconds",
        "Batching window is not supported for FIFO queues",  # V4
        lambda spec: spec.source_kind is SourceKind.SQS_FIFO and bool(spec.maximum_batching_window_in_seconds),
        f"!{_FIFO} || !has(self.maximumBatchingWindowInSeconds) || self.maximumBatchingWindowInSeconds == 0",
    ),
    Rule(
        "tumblingWindowInSeconds",
        "cannot be combined with parallelizationFactor above 1",  # V13
        lambda spec: spec.tumbling_window_in_seconds > 0 and spec.parallelization_factor > 1,
        "self.tumblingWindowInSeconds == 0 || self.parallelizationFactor == 1",
    ),
    Rule(
        "tumblingWindowInSeconds",
        "cannot be combined with filterCriteria",  # V13
        lambda spec: spec.tumbling_window_in_seconds > 0 and bool(spec.filter_patterns),
        f"self.tumblingWindowInSeconds == 0 || !({filled('filterCriteria.filters')})",
    ),
    Rule(
        "tumblingWindowInSeconds",
        "cannot be combined with function.protocol cloudevents, which has no place for a window's state",
        lambda spec: spec.tumbling_window_in_seconds > 0 and spec.function.protocol == "cloudevents",
        f"self.tumblingWindowInSeconds == 0 || {FUNCTION}.protocol != 'cloudevents'",
    ),
)

# Where reading begins

_STARTED = STREAMS | KAFKA | DOCUMENTDB
_AT_TIMESTAMP = "(has(self.startingPosition) && self.startingPosition == 'AT_TIMESTAMP')"
_STARTING = (
    Rule(
        "startingPosition",
        "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint:"
        " Member must not be null.",  # V5
        lambda spec: spec.source_kind in STREAMS | DOCUMENTDB and spec.starting_position is None,
        f"!{is_one_of(STREAMS | DOCUMENTDB)} || has(self.startingPosition)",
    ),
    Rule(
        "startingPosition",
        "Unsupported starting position for arn type: {arn}",  # V7
        lambda spec: (
            spec.source_kind is SourceKind.DYNAMODB and spec.starting_position is StartingPosition.AT_TIMESTAMP
        ),
        f"!{is_one_of(frozenset({SourceKind.DYNAMODB}))} || !{_AT_TIMESTAMP}",
    ),
    Rule(
        "startingPositionTimestamp",
        "is required with startingPosition AT_TIMESTAMP",  # V8
        lambda spec: (
            spec.starting_position is StartingPosition.AT_TIMESTAMP and spec.starting_position_timestamp is None
        ),
        f"!{_AT_TIMESTAMP} || has(self.startingPositionTimestamp)",
    ),
    Rule(
        "startingPositionTimestamp",
        "applies to startingPosition AT_TIMESTAMP only",  # V8
        lambda spec: (
            spec.starting_position is not StartingPosition.AT_TIMESTAMP and spec.starting_position_timestamp is not None
        ),
        f"!has(self.startingPositionTimestamp) || {_AT_TIMESTAMP}",
    ),
    only_for(_STARTED, "startingPosition", lambda spec: spec.starting_position is not None, has("startingPosition")),
)

# Failures and their destination

_DESTINATION = "destinationConfig.onFailure.destination"
_HAS_DESTINATION = f"{has(_DESTINATION)} && self.{_DESTINATION} != ''"
_DESTINATION_PATTERN = (
    "^(arn:aws[a-zA-Z0-9-]*:(sqs|sns):[a-z0-9-]+:[0-9]{12}:[a-zA-Z0-9_-]+([.]fifo)?"
    "|arn:aws[a-zA-Z0-9-]*:s3:::[a-z0-9][a-z0-9.-]*|kafka://[^.][a-zA-Z0-9_.-]*)$"
)
_IS_DESTINATION = re.compile(_DESTINATION_PATTERN)
_NOT_SUPPORTED = "Unsupported DestinationConfig parameter for given event source mapping type."  # V9, V10


def destination_of(spec: EventSourceMappingSpec) -> str:
    """The on-failure destination; empty without one."""
    return spec.on_failure.destination if spec.on_failure is not None else ""


def _to_kafka(spec: EventSourceMappingSpec) -> bool:
    return destination_of(spec).startswith("kafka://")


_TO_KAFKA = f"({_HAS_DESTINATION} && self.{_DESTINATION}.startsWith('kafka://'))"
_ON_SUCCESS = Rule(
    "destinationConfig.onSuccess",
    _NOT_SUPPORTED,
    lambda spec: spec.destination_config is not None and spec.destination_config.on_success is not None,
    f"!({has('destinationConfig.onSuccess')})",
)
_FAILURES = (
    only_for(
        STREAMS | KAFKA,
        "destinationConfig",
        lambda spec: spec.on_failure is not None,
        _HAS_DESTINATION,
        _NOT_SUPPORTED,
    ),
    Rule(
        _DESTINATION,
        "must be the ARN of an SQS queue, an SNS topic or an S3 bucket, or kafka://TOPIC",
        lambda spec: spec.on_failure is not None and _IS_DESTINATION.fullmatch(destination_of(spec)) is None,
        f"!({_HAS_DESTINATION}) || self.{_DESTINATION}.matches('{_DESTINATION_PATTERN}')",
    ),
    Rule(
        _DESTINATION,
        "must not be a FIFO queue or topic",  # V11
        lambda spec: destination_of(spec).endswith(".fifo") and not _to_kafka(spec),
        f"!({_HAS_DESTINATION}) || {_TO_KAFKA} || !self.{_DESTINATION}.endsWith('.fifo')",
    ),
    Rule(
        _DESTINATION,
        "can be a Kafka topic only for Kafka sources in provisioned mode; set provisionedPollerConfig",  # V25
        lambda spec: _to_kafka(spec) and not (spec.source_kind in KAFKA and provisioned(spec)),
        f"!{_TO_KAFKA} || ({is_one_of(KAFKA)} && {PROVISIONED})",
    ),
    Rule(
        _DESTINATION,
        "must not be the topic that is read",  # V25
        lambda spec: _to_kafka(spec) and destination_of(spec).removeprefix("kafka://") in (spec.topics or ()),
        f"!{_TO_KAFKA} || !has(self.topics) || !self.topics.exists(t, self.{_DESTINATION} == 'kafka://' + t)",
    ),
    Rule(
        "destinationConfig.onFailure.deliveryTimeoutSeconds",
        "applies to deliveryPolicy Block only",
        lambda spec: (
            spec.on_failure is not None
            and spec.on_failure.delivery_policy == "Drop"
            and spec.on_failure.delivery_timeout_seconds is not None
        ),
        f"!({_HAS_DESTINATION}) || self.destinationConfig.onFailure.deliveryPolicy != 'Drop'"
        " || !has(self.destinationConfig.onFailure.deliveryTimeoutSeconds)",
    ),
    Rule(
        "destinationConfig.onFailure.deliveryTimeoutSeconds",
        "needs a destination",
        lambda spec: (
            spec.on_failure is None
            and spec.destination_config is not None
            and spec.destination_config.on_failure is not None
            and spec.destination_config.on_failure.delivery_timeout_seconds is not None
        ),
        f"({_HAS_DESTINATION}) || !({has('destinationConfig.onFailure.deliveryTimeoutSeconds')})",
    ),
    Rule(
        "maximumRecordAgeInSeconds",
        "must be -1 (no limit) or a whole number from 60 to 604800",  # V12
        lambda spec: 0 <= spec.maximum_record_age_in_seconds < 60,  # noqa: PLR2004
        "self.maximumRecordAgeInSeconds == -1 || self.maximumRecordAgeInSeconds >= 60",
    ),
    Rule(
        "retryBackoff.initialSeconds",
        "must be a number from 0.01 to 3600",  # the API server's own check of a whole number rounds the bound to 0
        lambda spec: spec.retry_backoff.initial_seconds < 0.01,  # noqa: PLR2004
        "self.retryBackoff.initialSeconds >= 0.01",
    ),
    Rule(
        "retryBackoff.maximumSeconds",
        "must not be less than initialSeconds",
        lambda spec: spec.retry_backoff.maximum_seconds < spec.retry_backoff.initial_seconds,
        "self.retryBackoff.maximumSeconds >= self.retryBackoff.initialSeconds",
    ),
)

# In the order of AWS's own checks (V28)
RULES = (_ON_SUCCESS, *_SOURCE, *_BATCHING, *_STARTING, *_FAILURES, *SOURCE_RULES)


def broken_rules(spec: EventSourceMappingSpec) -> list[str]:
    """The sentences of all rules that a spec breaks, each beginning with the path below `spec`."""
    arn = spec.event_source_arn or ""
    told = [f"{rule.path}: {rule.sentence.replace('{arn}', arn)}" for rule in RULES if rule.broken(spec)]
    return told + list(_filter_faults(spec))


# What a filter pattern must look like (V16) is beyond CEL.


def _filter_faults(spec: EventSourceMappingSpec) -> Iterator[str]:
    for index, pattern in enumerate(spec.filter_patterns):
        try:
            compile_pattern(pattern, _DATA_KEYS.get(spec.source_kind) if spec.source_kind else None)
        except InvalidPattern as error:
            yield f"filterCriteria.filters[{index}].pattern: {error}"


_DATA_KEYS = {
    SourceKind.KINESIS: DataKey.KINESIS,
    SourceKind.KINESIS_CONSUMER: DataKey.KINESIS,
    SourceKind.DYNAMODB: DataKey.DYNAMODB,
    SourceKind.SQS: DataKey.SQS,
    SourceKind.SQS_FIFO: DataKey.SQS,
}
