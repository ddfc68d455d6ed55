"""The rules between properties (contract A.3), each once: a test for Python, a CEL expression, one sentence.

Sentences marked [R] or [T] in the contract are AWS's own. A rule goes by what a property says, not by whether it was
written: the API server fills in defaults before it checks. Pure.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.arns import SOURCE_PATTERNS, TABLE_PATTERN, SourceKind, names_table, source_kind_of
from headrace.records import StartingPosition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.spec import EventSourceMappingSpec

    Test = Callable[[EventSourceMappingSpec], bool]

STREAMS = frozenset({SourceKind.KINESIS, SourceKind.KINESIS_CONSUMER, SourceKind.DYNAMODB})
QUEUES = frozenset({SourceKind.SQS, SourceKind.SQS_FIFO})
KAFKA = frozenset({SourceKind.MSK, SourceKind.SELF_MANAGED_KAFKA})
BROKERS = KAFKA | {SourceKind.MQ}
DOCUMENTDB = frozenset({SourceKind.DOCUMENTDB})

_SERVICES = {
    SourceKind.KINESIS: "kinesis",
    SourceKind.KINESIS_CONSUMER: "kinesis",
    SourceKind.DYNAMODB: "dynamodb",
    SourceKind.SQS: "sqs",
    SourceKind.SQS_FIFO: "sqs",
    SourceKind.MSK: "kafka",
    SourceKind.MQ: "mq",
    SourceKind.DOCUMENTDB: "rds",
}
_WORDS = {
    "kinesis": "Kinesis",
    "dynamodb": "DynamoDB",
    "sqs": "SQS",
    "kafka": "Amazon MSK",
    "mq": "Amazon MQ",
    "rds": "DocumentDB",
}

FIXED = (
    "eventSourceArn",
    "selfManagedEventSource",
    "startingPosition",
    "startingPositionTimestamp",
    "topics",
    "queues",
)
"""What cannot change once the mapping is made (contract A.1, C): the checkpoints were written for it."""
FIXED_SENTENCE = "cannot be changed; delete the mapping and make it anew"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule over the spec. `path` is below `spec`; `cel` holds when the rule is kept, with `self` being the spec.

    `{arn}` in the sentence stands for the source's ARN.
    """

    path: str
    sentence: str
    broken: Test
    cel: str

    @property
    def message(self) -> str:
        """The sentence as the API server says it, where it cannot name the ARN."""
        return f"spec.{self.path}: {self.sentence.removesuffix(': {arn}')}"


def broken_rules(spec: EventSourceMappingSpec) -> list[str]:
    """The sentences of all rules that a spec breaks, each beginning with the path below `spec`."""
    arn = spec.event_source_arn or ""
    told = [f"{rule.path}: {rule.sentence.replace('{arn}', arn)}" for rule in RULES if rule.broken(spec)]
    return told + list(_filter_faults(spec))


# What a filter pattern must look like (V16) is beyond CEL.


def _filter_faults(spec: EventSourceMappingSpec) -> Iterator[str]:
    for index, pattern in enumerate(spec.filter_patterns):
        if not _is_pattern_text(pattern):
            yield f"filterCriteria.filters[{index}].pattern: Invalid filter pattern definition."


def _is_pattern_text(text: str) -> bool:
    try:
        return _is_pattern(json.loads(text))
    except (ValueError, RecursionError):
        return False


def _is_pattern(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_condition(name, one) for name, one in value.items())


def _is_condition(name: str, value: Any) -> bool:
    if isinstance(value, dict):
        return _is_pattern(value)
    if name == "$or" and isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return all(_is_pattern(one) for one in value)
    return isinstance(value, list) and bool(value)


# How rules are made


def _is(kinds: frozenset[SourceKind]) -> str:
    """CEL: the source is one of these kinds."""
    services = "|".join(dict.fromkeys(_SERVICES[kind] for kind in SourceKind if kind in kinds and kind in _SERVICES))
    told = (
        [f"(has(self.eventSourceArn) && self.eventSourceArn.matches('^arn:[^:]+:({services}):'))"] if services else []
    )
    if SourceKind.SELF_MANAGED_KAFKA in kinds:
        told.append("has(self.selfManagedEventSource)")
    return f"({' || '.join(told)})"


def _named(kinds: frozenset[SourceKind]) -> str:
    names = [
        _WORDS[name] for name in dict.fromkeys(_SERVICES[kind] for kind in SourceKind if kind in kinds & set(_SERVICES))
    ]
    if SourceKind.SELF_MANAGED_KAFKA in kinds:
        names.append("self-managed Kafka")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _matches(pattern: str) -> str:
    return f"self.eventSourceArn.matches('{pattern}')"


def _set(path: str) -> str:
    """CEL: an optional property, however deep, is there."""
    steps = path.split(".")
    return " && ".join(f"has(self.{'.'.join(steps[: i + 1])})" for i in range(len(steps)))


def _filled(path: str) -> str:
    return f"{_set(path)} && self.{path}.size() > 0"


def _only_for(kinds: frozenset[SourceKind], path: str, given: Test, given_cel: str, sentence: str = "") -> Rule:
    """A property that only some kinds of sources have (contract A.1)."""
    return Rule(
        path,
        sentence or f"applies to {_named(kinds)} sources only",
        lambda spec: spec.source_kind is not None and spec.source_kind not in kinds and given(spec),
        f"!({given_cel}) || {_is(kinds)}",
    )


def _provisioned(spec: EventSourceMappingSpec) -> bool:
    config = spec.provisioned_poller_config
    return config is not None and config.model_copy(update={"poller_group_name": None}) != type(config)()


_PROVISIONED = (
    "(has(self.provisionedPollerConfig) && (has(self.provisionedPollerConfig.minimumPollers) ||"
    " has(self.provisionedPollerConfig.maximumPollers)))"
)


def _provisioned_on_kafka(path: str, given: Test, given_cel: str) -> Rule:
    return Rule(
        path,
        "applies to Kafka sources only in provisioned mode; set provisionedPollerConfig",
        lambda spec: spec.source_kind in KAFKA and given(spec) and not _provisioned(spec),
        f"!({given_cel}) || !{_is(KAFKA)} || {_PROVISIONED}",
    )


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
        "names a DynamoDB table; what is needed is its stream, an ARN that ends in /stream/LABEL",
        lambda spec: spec.event_source_arn is not None and names_table(spec.event_source_arn),
        f"!has(self.eventSourceArn) || !{_matches(TABLE_PATTERN)}",
    ),
    Rule(
        "eventSourceArn",
        _UNKNOWN,
        lambda spec: (
            spec.event_source_arn is not None
            and source_kind_of(spec.event_source_arn) is None
            and not names_table(spec.event_source_arn)
        ),
        f"!has(self.eventSourceArn) || {' || '.join(map(_matches, (*SOURCE_PATTERNS.values(), TABLE_PATTERN)))}",
    ),
)

# Batching

_FIFO = f"({_is(QUEUES)} && self.eventSourceArn.endsWith('.fifo'))"
_BATCHING = (
    Rule(
        "batchSize",
        "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",  # V1
        lambda spec: (
            spec.source_kind is SourceKind.SQS
            and spec.resolved_batch_size > 10  # noqa: PLR2004
            and not spec.maximum_batching_window_in_seconds
        ),
        f"!{_is(QUEUES)} || {_FIFO} || !has(self.batchSize) || self.batchSize <= 10"
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
        f"self.tumblingWindowInSeconds == 0 || !({_filled('filterCriteria.filters')})",
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
        f"!{_is(STREAMS | DOCUMENTDB)} || has(self.startingPosition)",
    ),
    Rule(
        "startingPosition",
        "Unsupported starting position for arn type: {arn}",  # V7
        lambda spec: (
            spec.source_kind is SourceKind.DYNAMODB and spec.starting_position is StartingPosition.AT_TIMESTAMP
        ),
        f"!{_is(frozenset({SourceKind.DYNAMODB}))} || !{_AT_TIMESTAMP}",
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
    _only_for(_STARTED, "startingPosition", lambda spec: spec.starting_position is not None, _set("startingPosition")),
)

# Failures and their destination

_DESTINATION = "destinationConfig.onFailure.destination"
_HAS_DESTINATION = f"{_set(_DESTINATION)} && self.{_DESTINATION} != ''"
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
_FAILURES = (
    Rule(
        "destinationConfig.onSuccess",
        _NOT_SUPPORTED,
        lambda spec: spec.destination_config is not None and spec.destination_config.on_success is not None,
        f"!({_set('destinationConfig.onSuccess')})",
    ),
    _only_for(
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
        lambda spec: _to_kafka(spec) and not (spec.source_kind in KAFKA and _provisioned(spec)),
        f"!{_TO_KAFKA} || ({_is(KAFKA)} && {_PROVISIONED})",
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
        "maximumRecordAgeInSeconds",
        "must be -1 (no limit) or a whole number from 60 to 604800",  # V12
        lambda spec: 0 <= spec.maximum_record_age_in_seconds < 60,  # noqa: PLR2004
        "self.maximumRecordAgeInSeconds == -1 || self.maximumRecordAgeInSeconds >= 60",
    ),
    Rule(
        "retryBackoff.maximumSeconds",
        "must not be less than initialSeconds",
        lambda spec: spec.retry_backoff.maximum_seconds < spec.retry_backoff.initial_seconds,
        "self.retryBackoff.maximumSeconds >= self.retryBackoff.initialSeconds",
    ),
)

# What streams have, and Kafka in provisioned mode

_RETRIES: tuple[tuple[str, Test, str], ...] = (
    (
        "maximumRecordAgeInSeconds",
        lambda spec: spec.maximum_record_age is not None,
        "self.maximumRecordAgeInSeconds != -1",
    ),
    ("maximumRetryAttempts", lambda spec: spec.maximum_retries is not None, "self.maximumRetryAttempts != -1"),
    (
        "bisectBatchOnFunctionError",
        lambda spec: spec.bisect_batch_on_function_error,
        "self.bisectBatchOnFunctionError",
    ),
)
_RESPONSES: tuple[str, Test, str] = (
    "functionResponseTypes",
    lambda spec: bool(spec.function_response_types),
    _filled("functionResponseTypes"),
)
_QUEUE_MODE = (
    "(has(self.selfManagedKafkaEventSourceConfig) && self.selfManagedKafkaEventSourceConfig.consumptionMode == 'Queue')"
)


def _in_queue_mode(spec: EventSourceMappingSpec) -> bool:
    config = spec.self_managed_kafka_event_source_config
    return config is not None and config.consumption_mode == "Queue"


def _has_registry(spec: EventSourceMappingSpec) -> bool:
    configs = (spec.amazon_managed_kafka_event_source_config, spec.self_managed_kafka_event_source_config)
    return any(config is not None and config.schema_registry_config is not None for config in configs)


_APPLICABILITY = (
    *(_only_for(STREAMS | KAFKA, *row) for row in _RETRIES),
    _only_for(STREAMS | QUEUES | KAFKA, *_RESPONSES),
    *(
        _provisioned_on_kafka(path, given, cel if path != "maximumRetryAttempts" else f"{cel} && !{_QUEUE_MODE}")
        for path, given, cel in (
            *(row for row in _RETRIES if row[0] != "maximumRetryAttempts"),
            (
                "maximumRetryAttempts",
                lambda spec: spec.maximum_retries is not None and not _in_queue_mode(spec),
                _RETRIES[1][2],
            ),
            _RESPONSES,
        )
    ),
    _only_for(
        STREAMS, "parallelizationFactor", lambda spec: spec.parallelization_factor > 1, "self.parallelizationFactor > 1"
    ),
    _only_for(
        STREAMS,
        "tumblingWindowInSeconds",
        lambda spec: spec.tumbling_window_in_seconds > 0,
        "self.tumblingWindowInSeconds > 0",
    ),
    _only_for(
        STREAMS | QUEUES | BROKERS,
        "filterCriteria",
        lambda spec: bool(spec.filter_patterns),
        _filled("filterCriteria.filters"),
    ),
    _only_for(STREAMS | QUEUES | BROKERS, "kmsKeyArn", lambda spec: bool(spec.kms_key_arn), _set("kmsKeyArn")),
    _only_for(
        STREAMS | QUEUES | KAFKA,
        "metricsConfig",
        lambda spec: spec.metrics_config is not None and bool(spec.metrics_config.metrics),
        _filled("metricsConfig.metrics"),
    ),
    _only_for(KAFKA, "loggingConfig", lambda spec: spec.logging_config is not None, _set("loggingConfig")),
    _only_for(
        QUEUES,
        "scalingConfig",
        lambda spec: spec.scaling_config is not None and spec.scaling_config.maximum_concurrency is not None,
        _set("scalingConfig.maximumConcurrency"),
    ),
    _only_for(QUEUES | KAFKA, "provisionedPollerConfig", _provisioned, _PROVISIONED),
    _only_for(
        KAFKA,
        "provisionedPollerConfig.pollerGroupName",
        lambda spec: (
            spec.provisioned_poller_config is not None and bool(spec.provisioned_poller_config.poller_group_name)
        ),
        f"{_set('provisionedPollerConfig.pollerGroupName')} && self.provisionedPollerConfig.pollerGroupName != ''",
    ),
    _only_for(KAFKA, "topics", lambda spec: spec.topics is not None, _set("topics")),
    _only_for(frozenset({SourceKind.MQ}), "queues", lambda spec: spec.queues is not None, _set("queues")),
    _only_for(
        BROKERS | DOCUMENTDB,
        "sourceAccessConfigurations",
        lambda spec: bool(spec.source_access_configurations),
        _filled("sourceAccessConfigurations"),
    ),
    _only_for(
        frozenset({SourceKind.MSK}),
        "amazonManagedKafkaEventSourceConfig",
        lambda spec: spec.amazon_managed_kafka_event_source_config is not None,
        _set("amazonManagedKafkaEventSourceConfig"),
    ),
    _only_for(
        frozenset({SourceKind.SELF_MANAGED_KAFKA}),
        "selfManagedKafkaEventSourceConfig",
        lambda spec: spec.self_managed_kafka_event_source_config is not None,
        _set("selfManagedKafkaEventSourceConfig"),
    ),
    _only_for(
        DOCUMENTDB,
        "documentDBEventSourceConfig",
        lambda spec: spec.document_db_event_source_config is not None,
        _set("documentDBEventSourceConfig"),
    ),
)

# Pollers

_POLLERS = "self.provisionedPollerConfig"
_HAS_MINIMUM, _HAS_MAXIMUM = (
    _set("provisionedPollerConfig.minimumPollers"),
    _set("provisionedPollerConfig.maximumPollers"),
)


def _range_of_pollers(spec: EventSourceMappingSpec, least: int) -> tuple[int, int]:
    """MinimumPollers and MaximumPollers with Lambda's defaults."""
    config = spec.provisioned_poller_config
    if config is None:
        return least, 200
    lowest = least if config.minimum_pollers is None else config.minimum_pollers
    return lowest, 200 if config.maximum_pollers is None else config.maximum_pollers


def _range_broken(spec: EventSourceMappingSpec, least: int, most: int) -> bool:
    lowest, highest = _range_of_pollers(spec, least)
    return _provisioned(spec) and not least <= lowest <= highest <= most


def _range_kept(least: int, most: int) -> str:
    lowest = f"({_HAS_MINIMUM} ? {_POLLERS}.minimumPollers : {least})"
    highest = f"({_HAS_MAXIMUM} ? {_POLLERS}.maximumPollers : 200)"
    return f"({lowest} >= {least} && {lowest} <= {highest} && {highest} <= {most})"


_SCALING = (
    Rule(
        "scalingConfig",
        "Provisioned mode for SQS ESM does not support maximum concurrency feature. Use MaximumPollers as the control"
        " mechanism and remove maximum concurrency.",  # V14
        lambda spec: (
            _provisioned(spec)
            and spec.scaling_config is not None
            and spec.scaling_config.maximum_concurrency is not None
        ),
        f"!({_set('scalingConfig.maximumConcurrency')}) || !{_PROVISIONED}",
    ),
    Rule(
        "provisionedPollerConfig",
        "MinimumPollers should be between [2, 200] and MaximumPollers should be between [MinimumPollers, 10000]",  # V15
        lambda spec: spec.source_kind in QUEUES and _range_broken(spec, 2, 10_000),
        f"!{_is(QUEUES)} || !{_PROVISIONED} || {_range_kept(2, 10_000)}",
    ),
    Rule(
        "provisionedPollerConfig",
        "minimumPollers must be from 1 to 200 and maximumPollers from minimumPollers to 2000",
        lambda spec: spec.source_kind in KAFKA and _range_broken(spec, 1, 2_000),
        f"!{_is(KAFKA)} || !{_PROVISIONED} || {_range_kept(1, 2_000)}",
    ),
    Rule(
        "poller.minReplicas",
        "must not be more than maxReplicas",
        lambda spec: spec.poller.min_replicas > spec.poller.max_replicas,
        "self.poller.minReplicas <= self.poller.maxReplicas",
    ),
)

# Function and brokers

_SHARE_GROUP = "in consumptionMode Queue"
_BROKERS = (
    Rule(
        "function",
        "needs exactly one of url and service",
        lambda spec: (spec.function.url is None) == (spec.function.service is None),
        "has(self.function.url) != has(self.function.service)",
    ),
    Rule(
        "function.timeoutSeconds",
        "must be at most 840 for Kafka and Amazon MQ sources",  # V23
        lambda spec: spec.source_kind in BROKERS and spec.function.timeout_seconds > 840,  # noqa: PLR2004
        f"!{_is(BROKERS)} || self.function.timeoutSeconds <= 840",
    ),
    Rule(
        "topics",
        "is required for Kafka sources",
        lambda spec: spec.source_kind in KAFKA and not spec.topics,
        f"!{_is(KAFKA)} || has(self.topics)",
    ),
    Rule(
        "queues",
        "is required for Amazon MQ sources",
        lambda spec: spec.source_kind is SourceKind.MQ and not spec.queues,
        f"!{_is(frozenset({SourceKind.MQ}))} || has(self.queues)",
    ),
    Rule(
        "sourceAccessConfigurations",
        "Required 'sourceAccessConfigurations' parameter is missing.",  # V20
        lambda spec: spec.source_kind is SourceKind.SELF_MANAGED_KAFKA and not spec.source_access_configurations,
        f"!has(self.selfManagedEventSource) || {_filled('sourceAccessConfigurations')}",
    ),
    Rule(
        "sourceAccessConfigurations",
        "must hold a BASIC_AUTH for Amazon MQ sources",
        lambda spec: (
            spec.source_kind is SourceKind.MQ
            and not any(one.type == "BASIC_AUTH" for one in spec.source_access_configurations)
        ),
        f"!{_is(frozenset({SourceKind.MQ}))} || (has(self.sourceAccessConfigurations)"
        " && self.sourceAccessConfigurations.exists(c, c.type == 'BASIC_AUTH'))",
    ),
    Rule(
        "documentDBEventSourceConfig",
        "is required for DocumentDB sources",
        lambda spec: spec.source_kind is SourceKind.DOCUMENTDB and spec.document_db_event_source_config is None,
        f"!{_is(DOCUMENTDB)} || has(self.documentDBEventSourceConfig)",
    ),
    Rule(
        "startingPosition",
        f"is not allowed {_SHARE_GROUP}",  # V26
        lambda spec: _in_queue_mode(spec) and spec.starting_position is not None,
        f"!{_QUEUE_MODE} || !has(self.startingPosition)",
    ),
    Rule(
        "maximumBatchingWindowInSeconds",
        f"is not allowed {_SHARE_GROUP}",  # V26
        lambda spec: _in_queue_mode(spec) and spec.maximum_batching_window_in_seconds is not None,
        f"!{_QUEUE_MODE} || !has(self.maximumBatchingWindowInSeconds)",
    ),
    Rule(
        "maximumRetryAttempts",
        f"must be 0 or more {_SHARE_GROUP}",  # V26
        lambda spec: _in_queue_mode(spec) and spec.maximum_retries is None,
        f"!{_QUEUE_MODE} || self.maximumRetryAttempts >= 0",
    ),
    Rule(
        "amazonManagedKafkaEventSourceConfig.schemaRegistryConfig",
        "applies only in provisioned mode; set provisionedPollerConfig",
        lambda spec: (
            spec.amazon_managed_kafka_event_source_config is not None and _has_registry(spec) and not _provisioned(spec)
        ),
        f"!({_set('amazonManagedKafkaEventSourceConfig.schemaRegistryConfig')}) || {_PROVISIONED}",
    ),
    Rule(
        "selfManagedKafkaEventSourceConfig.schemaRegistryConfig",
        "applies only in provisioned mode; set provisionedPollerConfig",
        lambda spec: (
            spec.self_managed_kafka_event_source_config is not None and _has_registry(spec) and not _provisioned(spec)
        ),
        f"!({_set('selfManagedKafkaEventSourceConfig.schemaRegistryConfig')}) || {_PROVISIONED}",
    ),
)

RULES = (*_SOURCE, *_BROKERS, *_BATCHING, *_STARTING, *_FAILURES, *_APPLICABILITY, *_SCALING)
