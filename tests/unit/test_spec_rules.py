"""The rules between properties: one row per way to break one; every sentence is the one the API server says too."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import InvalidMapping
from headrace.spec import parse_mapping
from headrace.spec_rules import RULES
from tests.support.mappings import (
    BASIC_AUTH,
    DEAD_LETTERS,
    DYNAMODB,
    KINESIS,
    MSK,
    PROVISIONED,
    SOURCES,
    TABLE,
    filters,
    manifest,
    on_failure,
)

NOT_SUPPORTED = "Unsupported DestinationConfig parameter for given event source mapping type."
NULL_POSITION = (
    "spec.startingPosition: 1 validation error detected: Value null at 'startingPosition' failed to satisfy"
    " constraint: Member must not be null."
)
SQS_POLLERS = (
    "spec.provisionedPollerConfig: MinimumPollers should be between [2, 200] and MaximumPollers should be between"
    " [MinimumPollers, 10000]"
)
KAFKA_POLLERS = (
    "spec.provisionedPollerConfig: minimumPollers must be from 1 to 200 and maximumPollers from minimumPollers to 2000"
)
WINDOW = (
    "spec.batchSize: Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
)
REGISTRY = {"schemaRegistryConfig": {"schemaRegistryURI": "https://registry.example"}}
AGE = "spec.maximumRecordAgeInSeconds: must be -1 (no limit) or a whole number from 60 to 604800"
QUEUE_MODE = {"consumptionMode": "Queue"}
TO = "spec.destinationConfig.onFailure.destination: "
NO_SOURCE = "spec.eventSourceArn: Unrecognized event source."


def kafka_only(path: str) -> str:
    return f"spec.{path}: applies to Amazon MSK and self-managed Kafka sources only"


def streams_only(path: str) -> str:
    return f"spec.{path}: applies to Kinesis and DynamoDB sources only"


def streams_and_kafka(path: str) -> str:
    return f"spec.{path}: applies to Kinesis, DynamoDB, Amazon MSK and self-managed Kafka sources only"


def provisioned_only(path: str) -> str:
    return f"spec.{path}: applies to Kafka sources only in provisioned mode; set provisionedPollerConfig"


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("V1", manifest("sqs", batchSize=11), WINDOW),
    ("V1 zero window", manifest("sqs", batchSize=10_000, maximumBatchingWindowInSeconds=0), WINDOW),
    ("V3", manifest("fifo", batchSize=11), "spec.batchSize: Batch size must not exceed 10 for FIFO queues"),
    (
        "V4",
        manifest("fifo", maximumBatchingWindowInSeconds=1),
        "spec.maximumBatchingWindowInSeconds: Batching window is not supported for FIFO queues",
    ),
    ("V5 kinesis", manifest("kinesis", "startingPosition"), NULL_POSITION),
    ("V5 dynamodb", manifest("dynamodb", "startingPosition"), NULL_POSITION),
    ("V5 documentdb", manifest("documentdb", "startingPosition"), NULL_POSITION),
    (
        "V7",
        manifest("dynamodb", startingPosition="AT_TIMESTAMP", startingPositionTimestamp=1),
        f"spec.startingPosition: Unsupported starting position for arn type: {DYNAMODB}",
    ),
    (
        "V8 no timestamp",
        manifest(startingPosition="AT_TIMESTAMP"),
        "spec.startingPositionTimestamp: is required with startingPosition AT_TIMESTAMP",
    ),
    (
        "V8 zero is a timestamp",
        manifest(startingPositionTimestamp=0),
        "spec.startingPositionTimestamp: applies to startingPosition AT_TIMESTAMP only",
    ),
    ("V9", manifest(destinationConfig={"onSuccess": {}}), f"spec.destinationConfig.onSuccess: {NOT_SUPPORTED}"),
    ("V10 sqs", manifest("sqs", destinationConfig=on_failure()), f"spec.destinationConfig: {NOT_SUPPORTED}"),
    ("V10 mq", manifest("mq", destinationConfig=on_failure()), f"spec.destinationConfig: {NOT_SUPPORTED}"),
    (
        "V10 documentdb",
        manifest("documentdb", destinationConfig=on_failure()),
        f"spec.destinationConfig: {NOT_SUPPORTED}",
    ),
    ("V10 retries", manifest("sqs", maximumRetryAttempts=0), streams_and_kafka("maximumRetryAttempts")),
    ("V10 age", manifest("mq", maximumRecordAgeInSeconds=60), streams_and_kafka("maximumRecordAgeInSeconds")),
    ("V10 bisect", manifest("sqs", bisectBatchOnFunctionError=True), streams_and_kafka("bisectBatchOnFunctionError")),
    ("V10 lanes", manifest("sqs", parallelizationFactor=2), streams_only("parallelizationFactor")),
    ("V10 tumbling", manifest("documentdb", tumblingWindowInSeconds=1), streams_only("tumblingWindowInSeconds")),
    (
        "V11 queue",
        manifest(destinationConfig=on_failure(f"{DEAD_LETTERS}.fifo")),
        f"{TO}must not be a FIFO queue or topic",
    ),
    (
        "V11 topic",
        manifest(destinationConfig=on_failure("arn:aws:sns:eu-west-1:123456789012:failed.fifo")),
        f"{TO}must not be a FIFO queue or topic",
    ),
    ("V12 zero", manifest(maximumRecordAgeInSeconds=0), AGE),
    ("V12 59", manifest(maximumRecordAgeInSeconds=59), AGE),
    (
        "V13 lanes",
        manifest(tumblingWindowInSeconds=1, parallelizationFactor=2),
        "spec.tumblingWindowInSeconds: cannot be combined with parallelizationFactor above 1",
    ),
    (
        "V13 filters",
        manifest(tumblingWindowInSeconds=1, filterCriteria=filters('{"data":{"a":[1]}}')),
        "spec.tumblingWindowInSeconds: cannot be combined with filterCriteria",
    ),
    (
        "windows as CloudEvents",
        manifest(tumblingWindowInSeconds=1, function={"url": "http://f", "protocol": "cloudevents"}),
        "spec.tumblingWindowInSeconds: cannot be combined with function.protocol cloudevents, which has no place for a window's state",
    ),
    (
        "V14",
        manifest("sqs", scalingConfig={"maximumConcurrency": 2}, provisionedPollerConfig=PROVISIONED),
        (
            "spec.scalingConfig: Provisioned mode for SQS ESM does not support maximum concurrency feature. Use"
            " MaximumPollers as the control mechanism and remove maximum concurrency."
        ),
    ),
    ("V15 least", manifest("sqs", provisionedPollerConfig={"minimumPollers": 1}), SQS_POLLERS),
    ("V15 most", manifest("sqs", provisionedPollerConfig={"maximumPollers": 1}), SQS_POLLERS),
    ("V15 order", manifest("sqs", provisionedPollerConfig={"minimumPollers": 9, "maximumPollers": 8}), SQS_POLLERS),
    ("kafka pollers", manifest("msk", provisionedPollerConfig={"maximumPollers": 2001}), KAFKA_POLLERS),
    (
        "poller group",
        manifest("sqs", provisionedPollerConfig=PROVISIONED | {"pollerGroupName": "group"}),
        kafka_only("provisionedPollerConfig.pollerGroupName"),
    ),
    (
        "V20",
        manifest("kafka", "sourceAccessConfigurations"),
        "spec.sourceAccessConfigurations: Required 'sourceAccessConfigurations' parameter is missing.",
    ),
    *(
        (
            f"V23 {source}",
            manifest(source, function={"url": "http://f", "timeoutSeconds": 841}),
            "spec.function.timeoutSeconds: must be at most 840 for Kafka and Amazon MQ sources",
        )
        for source in ("msk", "kafka", "mq")
    ),
    (
        "V25 same topic",
        manifest("msk", destinationConfig=on_failure("kafka://orders"), provisionedPollerConfig=PROVISIONED),
        f"{TO}must not be the topic that is read",
    ),
    *(
        (
            f"V25 {source} on demand",
            manifest(source, destinationConfig=on_failure("kafka://failed")),
            f"{TO}can be a Kafka topic only for Kafka sources in provisioned mode; set provisionedPollerConfig",
        )
        for source in ("msk", "kafka", "kinesis")
    ),
    (
        "V26 position",
        manifest(
            "kafka",
            selfManagedKafkaEventSourceConfig=QUEUE_MODE,
            startingPosition="LATEST",
            maximumRetryAttempts=0,
            provisionedPollerConfig=PROVISIONED,
        ),
        "spec.startingPosition: is not allowed in consumptionMode Queue",
    ),
    (
        "V26 window",
        manifest(
            "kafka",
            selfManagedKafkaEventSourceConfig=QUEUE_MODE,
            maximumBatchingWindowInSeconds=0,
            maximumRetryAttempts=0,
        ),
        "spec.maximumBatchingWindowInSeconds: is not allowed in consumptionMode Queue",
    ),
    (
        "V26 retries",
        manifest("kafka", selfManagedKafkaEventSourceConfig=QUEUE_MODE),
        "spec.maximumRetryAttempts: must be 0 or more in consumptionMode Queue",
    ),
    ("no source", manifest("kinesis", "eventSourceArn"), NO_SOURCE),
    (
        "two sources",
        manifest("kafka", eventSourceArn=MSK),
        "spec.selfManagedEventSource: excludes eventSourceArn",
    ),
    (
        "table",
        manifest(eventSourceArn=TABLE),
        "spec.eventSourceArn: names a DynamoDB table; what is needed is its stream, its LatestStreamArn, which ends in /stream/LABEL",
    ),
    (
        "bucket",
        manifest(eventSourceArn="arn:aws:s3:::orders"),
        (
            f"{NO_SOURCE} It must be the ARN of a Kinesis stream or consumer, DynamoDB stream, SQS queue, MSK cluster,"
            " MQ broker or DocumentDB cluster"
        ),
    ),
    (
        "lambda as destination",
        manifest(destinationConfig=on_failure("arn:aws:lambda:eu-west-1:123456789012:function:f")),
        f"{TO}must be the ARN of an SQS queue, an SNS topic or an S3 bucket, or kafka://TOPIC",
    ),
    (
        "timeout of Drop",
        manifest(destinationConfig=on_failure(deliveryPolicy="Drop", deliveryTimeoutSeconds=1)),
        "spec.destinationConfig.onFailure.deliveryTimeoutSeconds: applies to deliveryPolicy Block only",
    ),
    (
        "timeout without a destination",
        manifest(destinationConfig={"onFailure": {"deliveryTimeoutSeconds": 5}}),
        "spec.destinationConfig.onFailure.deliveryTimeoutSeconds: needs a destination",
    ),
    (
        "back-off",
        manifest(retryBackoff={"initialSeconds": 2, "maximumSeconds": 1}),
        "spec.retryBackoff.maximumSeconds: must not be less than initialSeconds",
    ),
    (
        "replicas",
        manifest(poller={"minReplicas": 11}),
        "spec.poller.minReplicas: must not be more than maxReplicas",
    ),
    (
        "annotations of another's account",
        manifest(poller={"serviceAccountName": "theirs", "serviceAccountAnnotations": {"a": "b"}}),
        "spec.poller.serviceAccountAnnotations: must not be given with serviceAccountName",
    ),
    ("no authority", manifest(aws={"caBundle": {}}), "spec.aws.caBundle: needs exactly one of configMapRef and"),
    (
        "two authorities",
        manifest(aws={"caBundle": {"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}}),
        "spec.aws.caBundle: needs exactly one of configMapRef and secretRef",
    ),
    ("no function", manifest(function={}), "spec.function: needs exactly one of url and service"),
    (
        "two functions",
        manifest(function={"url": "http://f", "service": {"name": "f", "port": 80}}),
        "spec.function: needs exactly one of url and service",
    ),
    ("position of a queue", manifest("sqs", startingPosition="LATEST"), "spec.startingPosition: applies to Kinesis,"),
    (
        "filters of documentdb",
        manifest("documentdb", filterCriteria=filters('{"a":[1]}')),
        "spec.filterCriteria: applies",
    ),
    ("key of documentdb", manifest("documentdb", kmsKeyArn=KINESIS), "spec.kmsKeyArn: applies to Kinesis,"),
    (
        "responses of mq",
        manifest("mq", functionResponseTypes=["ReportBatchItemFailures"]),
        "spec.functionResponseTypes: ",
    ),
    (
        "metrics of mq",
        manifest("mq", metricsConfig={"metrics": ["EventCount"]}),
        "spec.metricsConfig: applies to Kinesis",
    ),
    ("logging of kinesis", manifest(loggingConfig={"systemLogLevel": "INFO"}), kafka_only("loggingConfig")),
    (
        "concurrency of kinesis",
        manifest(scalingConfig={"maximumConcurrency": 2}),
        "spec.scalingConfig: applies to SQS sources only",
    ),
    (
        "pollers of kinesis",
        manifest(provisionedPollerConfig=PROVISIONED),
        "spec.provisionedPollerConfig: applies to SQS, Amazon MSK and self-managed Kafka sources only",
    ),
    ("topics of kinesis", manifest(topics=["orders"]), kafka_only("topics")),
    ("queues of kinesis", manifest(queues=["orders"]), "spec.queues: applies to Amazon MQ sources only"),
    (
        "access of kinesis",
        manifest(sourceAccessConfigurations=[BASIC_AUTH]),
        "spec.sourceAccessConfigurations: applies to Amazon MSK, Amazon MQ, DocumentDB and self-managed Kafka sources",
    ),
    (
        "msk settings of kinesis",
        manifest(amazonManagedKafkaEventSourceConfig={}),
        "spec.amazonManagedKafkaEventSourceConfig: applies to Amazon MSK sources only",
    ),
    (
        "kafka settings of msk",
        manifest("msk", selfManagedKafkaEventSourceConfig={}),
        "spec.selfManagedKafkaEventSourceConfig: applies to self-managed Kafka sources only",
    ),
    (
        "documentdb settings of kinesis",
        manifest(documentDBEventSourceConfig={"databaseName": "shop"}),
        "spec.documentDBEventSourceConfig: applies to DocumentDB sources only",
    ),
    ("topics missing", manifest("msk", "topics"), "spec.topics: is required for Kafka sources"),
    ("queues missing", manifest("mq", "queues"), "spec.queues: is required for Amazon MQ sources"),
    (
        "broker user missing",
        manifest("mq", "sourceAccessConfigurations"),
        "spec.sourceAccessConfigurations: must hold a BASIC_AUTH for Amazon MQ sources",
    ),
    (
        "database missing",
        manifest("documentdb", "documentDBEventSourceConfig"),
        "spec.documentDBEventSourceConfig: is required for DocumentDB sources",
    ),
    ("retries on demand", manifest("msk", maximumRetryAttempts=1), provisioned_only("maximumRetryAttempts")),
    ("age on demand", manifest("kafka", maximumRecordAgeInSeconds=60), provisioned_only("maximumRecordAgeInSeconds")),
    (
        "bisect on demand",
        manifest("msk", bisectBatchOnFunctionError=True),
        provisioned_only("bisectBatchOnFunctionError"),
    ),
    (
        "responses on demand",
        manifest("kafka", functionResponseTypes=["ReportBatchItemFailures"]),
        provisioned_only("functionResponseTypes"),
    ),
    (
        "registry on demand, msk",
        manifest("msk", amazonManagedKafkaEventSourceConfig=REGISTRY),
        "spec.amazonManagedKafkaEventSourceConfig.schemaRegistryConfig: applies only in provisioned mode",
    ),
    (
        "registry on demand, kafka",
        manifest("kafka", selfManagedKafkaEventSourceConfig=REGISTRY),
        "spec.selfManagedKafkaEventSourceConfig.schemaRegistryConfig: applies only in provisioned mode",
    ),
]

KEPT: list[tuple[str, dict[str, Any]]] = [
    *((f"least {source}", manifest(source)) for source in SOURCES),
    ("V1 kept", manifest("sqs", batchSize=11, maximumBatchingWindowInSeconds=1)),
    ("V1 at 10", manifest("sqs", batchSize=10)),
    ("V2", manifest(batchSize=101, maximumBatchingWindowInSeconds=0)),
    ("V3 at 10", manifest("fifo", batchSize=10)),
    ("V4 at 0", manifest("fifo", maximumBatchingWindowInSeconds=0)),
    ("V8 kept", manifest(startingPosition="AT_TIMESTAMP", startingPositionTimestamp=0)),
    ("V10 defaults of a queue", manifest("sqs", maximumRetryAttempts=-1, parallelizationFactor=1)),
    ("V10 empty destination", manifest("sqs", destinationConfig={"onFailure": {}})),
    ("V12 at 60", manifest(maximumRecordAgeInSeconds=60)),
    ("V13 empty criteria", manifest(tumblingWindowInSeconds=1, filterCriteria={})),
    ("V13 empty list", manifest(tumblingWindowInSeconds=1, filterCriteria={"filters": []})),
    ("V15 kept", manifest("sqs", provisionedPollerConfig={"minimumPollers": 2, "maximumPollers": 10_000})),
    ("provisioned mode off", manifest("sqs", provisionedPollerConfig={}, scalingConfig={"maximumConcurrency": 2})),
    ("V23 at 840", manifest("msk", function={"url": "http://f", "timeoutSeconds": 840})),
    (
        "V25 kept",
        manifest("msk", destinationConfig=on_failure("kafka://failed.fifo"), provisionedPollerConfig=PROVISIONED),
    ),
    ("V26 kept", manifest("kafka", selfManagedKafkaEventSourceConfig=QUEUE_MODE, maximumRetryAttempts=0)),
    ("bucket", manifest(destinationConfig=on_failure("arn:aws:s3:::orders-failed"))),
    ("topic", manifest(destinationConfig=on_failure("arn:aws:sns:eu-west-1:123456789012:failed"))),
    ("equal back-off", manifest(retryBackoff={"initialSeconds": 1, "maximumSeconds": 1})),
    ("registry", manifest("msk", amazonManagedKafkaEventSourceConfig=REGISTRY, provisionedPollerConfig=PROVISIONED)),
]


def told(document: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidMapping) as caught:
        parse_mapping(document)
    return caught.value.errors


@pytest.mark.parametrize(("document", "sentence"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_rule_is_told_alone_and_in_its_sentence(document: dict[str, Any], sentence: str) -> None:
    errors = told(document)
    assert len(errors) == 1, errors
    assert errors[0].startswith(sentence)


@pytest.mark.parametrize("document", [row[1] for row in KEPT], ids=[row[0] for row in KEPT])
def test_what_keeps_the_rules_is_accepted(document: dict[str, Any]) -> None:
    assert parse_mapping(document).key == "shop/orders"


def test_every_rule_has_a_row_that_breaks_it() -> None:
    sentences = {sentence for _, document, _ in BROKEN for sentence in told(document)}
    # The bound of initialSeconds is told by its type; the rule stands for API servers, which round it.
    rules = {rule.message for rule in RULES if rule.path != "retryBackoff.initialSeconds"}
    assert {message for message in rules if not any(one.startswith(message) for one in sentences)} == set()


def test_all_broken_rules_are_told_at_once() -> None:
    errors = told(manifest(function={}, maximumRecordAgeInSeconds=1, retryBackoff={"maximumSeconds": 0.5}))
    assert [error.partition(":")[0] for error in errors] == [
        "spec.maximumRecordAgeInSeconds",
        "spec.retryBackoff.maximumSeconds",
        "spec.function",
    ]


@pytest.mark.parametrize(
    "pattern", ["null", '"x"', "", "[1]", '{"a":"b"}', '{"a":[]}', '{"a":{"b":1}}', '{"a":', "{", '{"$or":[{"a":1}]}']
)
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:  # V16
    document = manifest(filterCriteria=filters('{"data":{"a":["b"]}}', pattern))
    (sentence,) = told(document)
    assert sentence.startswith("spec.filterCriteria.filters[1].pattern: Invalid filter pattern definition.")


@pytest.mark.parametrize("pattern", ['{"a":[null]}', '{"a":{"b":[{"exists":true}]}}', '{"$or":[{"a":[1]},{"b":[2]}]}'])
def test_a_pattern_with_lists_as_leaves_is_accepted(pattern: str) -> None:
    assert parse_mapping(manifest(filterCriteria=filters(pattern))).spec.filter_patterns == (pattern,)


def test_a_pattern_nested_beyond_reason_is_refused() -> None:
    errors = told(manifest(filterCriteria=filters('{"a":' * 800)))
    (sentence,) = errors
    assert sentence.startswith("spec.filterCriteria.filters[0].pattern: Invalid filter pattern definition.")
