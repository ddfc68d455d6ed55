"""Rules about which source has which property, about brokers and their pollers (contract A.1, A.3, G). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.arns import SourceKind
from headrace.spec_rule import (
    BROKERS,
    DOCUMENTDB,
    FUNCTION,
    KAFKA,
    PROVISIONED,
    QUEUES,
    STREAMS,
    Rule,
    filled,
    has,
    is_one_of,
    only_for,
    provisioned,
    provisioned_on_kafka,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.spec import EventSourceMappingSpec
    from headrace.spec_parts import AmazonManagedKafkaEventSourceConfig as KafkaConfig
    from headrace.spec_rule import Test

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
    filled("functionResponseTypes"),
)
_QUEUE_MODE = (
    "(has(self.selfManagedKafkaEventSourceConfig) && self.selfManagedKafkaEventSourceConfig.consumptionMode == 'Queue')"
)


def _in_queue_mode(spec: EventSourceMappingSpec) -> bool:
    config = spec.self_managed_kafka_event_source_config
    return config is not None and config.consumption_mode == "Queue"


def _registry_on_demand(path: str, config: Callable[[EventSourceMappingSpec], KafkaConfig | None]) -> Rule:
    def broken(spec: EventSourceMappingSpec) -> bool:
        found = config(spec)
        return found is not None and found.schema_registry_config is not None and not provisioned(spec)

    return Rule(
        f"{path}.schemaRegistryConfig",
        "applies only in provisioned mode; set provisionedPollerConfig",
        broken,
        f"!({has(f'{path}.schemaRegistryConfig')}) || {PROVISIONED}",
    )


_APPLICABILITY = (
    *(only_for(STREAMS | KAFKA, *row) for row in _RETRIES),
    only_for(STREAMS | QUEUES | KAFKA, *_RESPONSES),
    *(
        provisioned_on_kafka(path, given, cel if path != "maximumRetryAttempts" else f"{cel} && !{_QUEUE_MODE}")
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
    only_for(
        STREAMS, "parallelizationFactor", lambda spec: spec.parallelization_factor > 1, "self.parallelizationFactor > 1"
    ),
    only_for(
        STREAMS,
        "tumblingWindowInSeconds",
        lambda spec: spec.tumbling_window_in_seconds > 0,
        "self.tumblingWindowInSeconds > 0",
    ),
    only_for(
        STREAMS | QUEUES | BROKERS,
        "filterCriteria",
        lambda spec: bool(spec.filter_patterns),
        filled("filterCriteria.filters"),
    ),
    only_for(STREAMS | QUEUES | BROKERS, "kmsKeyArn", lambda spec: bool(spec.kms_key_arn), filled("kmsKeyArn")),
    only_for(
        STREAMS | QUEUES | KAFKA,
        "metricsConfig",
        lambda spec: spec.metrics_config is not None and bool(spec.metrics_config.metrics),
        filled("metricsConfig.metrics"),
    ),
    only_for(KAFKA, "loggingConfig", lambda spec: spec.logging_config is not None, has("loggingConfig")),
    only_for(
        QUEUES,
        "scalingConfig",
        lambda spec: spec.scaling_config is not None and spec.scaling_config.maximum_concurrency is not None,
        has("scalingConfig.maximumConcurrency"),
    ),
    only_for(QUEUES | KAFKA, "provisionedPollerConfig", provisioned, PROVISIONED),
    only_for(
        KAFKA,
        "provisionedPollerConfig.pollerGroupName",
        lambda spec: (
            spec.provisioned_poller_config is not None and bool(spec.provisioned_poller_config.poller_group_name)
        ),
        f"{has('provisionedPollerConfig.pollerGroupName')} && self.provisionedPollerConfig.pollerGroupName != ''",
    ),
    only_for(KAFKA, "topics", lambda spec: spec.topics is not None, has("topics")),
    only_for(frozenset({SourceKind.MQ}), "queues", lambda spec: spec.queues is not None, has("queues")),
    only_for(
        BROKERS | DOCUMENTDB,
        "sourceAccessConfigurations",
        lambda spec: bool(spec.source_access_configurations),
        filled("sourceAccessConfigurations"),
    ),
    only_for(
        frozenset({SourceKind.MSK}),
        "amazonManagedKafkaEventSourceConfig",
        lambda spec: spec.amazon_managed_kafka_event_source_config is not None,
        has("amazonManagedKafkaEventSourceConfig"),
    ),
    only_for(
        frozenset({SourceKind.SELF_MANAGED_KAFKA}),
        "selfManagedKafkaEventSourceConfig",
        lambda spec: spec.self_managed_kafka_event_source_config is not None,
        has("selfManagedKafkaEventSourceConfig"),
    ),
    only_for(
        DOCUMENTDB,
        "documentDBEventSourceConfig",
        lambda spec: spec.document_db_event_source_config is not None,
        has("documentDBEventSourceConfig"),
    ),
)

# Pollers

_POLLERS = "self.provisionedPollerConfig"
_HAS_MINIMUM, _HAS_MAXIMUM = (
    has("provisionedPollerConfig.minimumPollers"),
    has("provisionedPollerConfig.maximumPollers"),
)


def _range_broken(spec: EventSourceMappingSpec, least: int, most: int) -> bool:
    pollers = spec.provisioned_pollers
    return pollers is not None and not least <= pollers[0] <= pollers[1] <= most


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
            provisioned(spec)
            and spec.scaling_config is not None
            and spec.scaling_config.maximum_concurrency is not None
        ),
        f"!({has('scalingConfig.maximumConcurrency')}) || !{PROVISIONED}",
    ),
    Rule(
        "provisionedPollerConfig",
        "MinimumPollers should be between [2, 200] and MaximumPollers should be between [MinimumPollers, 10000]",  # V15
        lambda spec: spec.source_kind in QUEUES and _range_broken(spec, 2, 10_000),
        f"!{is_one_of(QUEUES)} || !{PROVISIONED} || {_range_kept(2, 10_000)}",
    ),
    Rule(
        "provisionedPollerConfig",
        "minimumPollers must be from 1 to 200 and maximumPollers from minimumPollers to 2000",
        lambda spec: spec.source_kind in KAFKA and _range_broken(spec, 1, 2_000),
        f"!{is_one_of(KAFKA)} || !{PROVISIONED} || {_range_kept(1, 2_000)}",
    ),
    Rule(
        "poller.minReplicas",
        "must not be more than maxReplicas",
        lambda spec: spec.poller.min_replicas > spec.poller.max_replicas,
        "self.poller.minReplicas <= self.poller.maxReplicas",
    ),
    Rule(
        "poller.serviceAccountAnnotations",
        "must not be given with serviceAccountName, whose annotations are its owner's",
        lambda spec: bool(spec.poller.service_account_annotations) and spec.poller.service_account_name is not None,
        f"!({filled('poller.serviceAccountAnnotations')}) || !({has('poller.serviceAccountName')})",
    ),
)

# Function and brokers

_SHARE_GROUP = "in consumptionMode Queue"
_BROKERS = (
    Rule(
        "function",
        "needs exactly one of url and service",
        lambda spec: (spec.function.url is None) == (spec.function.service is None),
        f"has({FUNCTION}.url) != has({FUNCTION}.service)",
    ),
    Rule(
        "aws.caBundle",
        "needs exactly one of configMapRef and secretRef",
        lambda spec: (
            spec.aws.ca_bundle is not None
            and (spec.aws.ca_bundle.config_map_ref is None) == (spec.aws.ca_bundle.secret_ref is None)
        ),
        f"!({has('aws.caBundle')}) || has(self.aws.caBundle.configMapRef) != has(self.aws.caBundle.secretRef)",
    ),
    Rule(
        "function.timeoutSeconds",
        "must be at most 840 for Kafka and Amazon MQ sources",  # V23
        lambda spec: spec.source_kind in BROKERS and spec.function.timeout_seconds > 840,  # noqa: PLR2004
        f"!{is_one_of(BROKERS)} || {FUNCTION}.timeoutSeconds <= 840",
    ),
    Rule(
        "topics",
        "is required for Kafka sources",
        lambda spec: spec.source_kind in KAFKA and not spec.topics,
        f"!{is_one_of(KAFKA)} || has(self.topics)",
    ),
    Rule(
        "queues",
        "is required for Amazon MQ sources",
        lambda spec: spec.source_kind is SourceKind.MQ and not spec.queues,
        f"!{is_one_of(frozenset({SourceKind.MQ}))} || has(self.queues)",
    ),
    Rule(
        "sourceAccessConfigurations",
        "Required 'sourceAccessConfigurations' parameter is missing.",  # V20
        lambda spec: spec.source_kind is SourceKind.SELF_MANAGED_KAFKA and not spec.source_access_configurations,
        f"!{is_one_of(frozenset({SourceKind.SELF_MANAGED_KAFKA}))} || {filled('sourceAccessConfigurations')}",
    ),
    Rule(
        "sourceAccessConfigurations",
        "must hold a BASIC_AUTH for Amazon MQ sources",
        lambda spec: (
            spec.source_kind is SourceKind.MQ
            and not any(one.type == "BASIC_AUTH" for one in spec.source_access_configurations)
        ),
        f"!{is_one_of(frozenset({SourceKind.MQ}))} || (has(self.sourceAccessConfigurations)"
        " && self.sourceAccessConfigurations.exists(c, c.type == 'BASIC_AUTH'))",
    ),
    Rule(
        "documentDBEventSourceConfig",
        "is required for DocumentDB sources",
        lambda spec: spec.source_kind is SourceKind.DOCUMENTDB and spec.document_db_event_source_config is None,
        f"!{is_one_of(DOCUMENTDB)} || has(self.documentDBEventSourceConfig)",
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
    _registry_on_demand(
        "amazonManagedKafkaEventSourceConfig", lambda spec: spec.amazon_managed_kafka_event_source_config
    ),
    _registry_on_demand("selfManagedKafkaEventSourceConfig", lambda spec: spec.self_managed_kafka_event_source_config),
)

SOURCE_RULES = (*_BROKERS, *_APPLICABILITY, *_SCALING)
