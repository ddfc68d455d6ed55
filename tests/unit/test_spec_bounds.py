"""Bounds of every bounded property: just inside is accepted, just outside is told."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import InvalidMapping
from headrace.spec import parse_mapping
from tests.support.mappings import BASIC_AUTH, DEAD_LETTERS, PROVISIONED, SOURCES, manifest, on_failure

URL = {"url": "http://f"}
IN_QUEUE_MODE = {"selfManagedKafkaEventSourceConfig": {"consumptionMode": "Queue"}}


def registry(**config: Any) -> dict[str, Any]:
    return {
        "amazonManagedKafkaEventSourceConfig": {"schemaRegistryConfig": {"schemaRegistryURI": "https://r"} | config},
        "provisionedPollerConfig": PROVISIONED,
    }


def servers(*addresses: str) -> dict[str, Any]:
    return {"selfManagedEventSource": {"endpoints": {"kafkaBootstrapServers": list(addresses)}}}


def nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


NUMBERS: list[tuple[str, str, float, float, dict[str, Any]]] = [
    ("kinesis", "batchSize", 1, 10_000, {}),
    ("kinesis", "maximumBatchingWindowInSeconds", 0, 300, {}),
    ("kinesis", "parallelizationFactor", 1, 10, {}),
    ("kinesis", "tumblingWindowInSeconds", 0, 900, {}),
    ("kinesis", "maximumRecordAgeInSeconds", -1, 604_800, {}),
    ("kinesis", "maximumRetryAttempts", -1, 10_000, {}),
    ("kafka", "maximumRetryAttempts", 0, 10_000, IN_QUEUE_MODE | {"provisionedPollerConfig": PROVISIONED}),
    ("sqs", "scalingConfig.maximumConcurrency", 2, 1000, {}),
    ("sqs", "provisionedPollerConfig.minimumPollers", 2, 200, {}),
    ("sqs", "provisionedPollerConfig.maximumPollers", 2, 10_000, {}),
    ("msk", "provisionedPollerConfig.minimumPollers", 1, 200, {}),
    ("msk", "provisionedPollerConfig.maximumPollers", 1, 2_000, {}),
    ("kinesis", "function.timeoutSeconds", 1, 900, {"function": URL}),
    ("kinesis", "retryBackoff.initialSeconds", 0.01, 60, {}),
    ("kinesis", "retryBackoff.maximumSeconds", 1, 3600, {}),
    ("kinesis", "poller.minReplicas", 1, 10, {}),
    ("kinesis", "poller.maxReplicas", 1, 1000, {}),
    ("kinesis", "poller.shardsPerReplica", 1, 1000, {}),
]


def numbered(source: str, path: str, value: float, more: dict[str, Any]) -> dict[str, Any]:
    properties = nested(path, value)
    for name, extra in more.items():
        properties[name] = extra | properties.get(name, {})
    return manifest(source, **properties)


@pytest.mark.parametrize(
    ("source", "path", "lowest", "highest", "more"), NUMBERS, ids=[f"{r[0]} {r[1]}" for r in NUMBERS]
)
def test_a_number_is_accepted_within_its_bounds_and_told_outside(
    source: str, path: str, lowest: float, highest: float, more: dict[str, Any]
) -> None:
    step = 1 if lowest == int(lowest) else 0.001
    for value in (lowest, highest):
        parse_mapping(numbered(source, path, value, more))
    for value in (lowest - step, highest + 1):
        with pytest.raises(InvalidMapping) as caught:
            parse_mapping(numbered(source, path, value, more))
        assert len(caught.value.errors) == 1
        assert caught.value.errors[0].startswith(f"spec.{path.partition('.')[0]}")


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("five filters", manifest(filterCriteria={"filters": [{"pattern": "{}"}] * 5})),
    ("longest pattern", manifest(filterCriteria={"filters": [{"pattern": '{"a":["' + "x" * 4085 + '"]}'}]})),
    ("three metrics", manifest(metricsConfig={"metrics": ["EventCount", "ErrorCount", "KafkaMetrics"]})),
    ("longest topic", manifest("msk", topics=["x" * 249])),
    ("shortest topic", manifest("msk", topics=["x"])),
    ("longest queue", manifest("mq", queues=["x" * 1000])),
    ("all accesses", manifest("kafka", sourceAccessConfigurations=[BASIC_AUTH] * 23)),
    ("longest access", manifest("mq", sourceAccessConfigurations=[{"type": "BASIC_AUTH", "uri": "x" * 200}])),
    ("ten servers", manifest("kafka", **servers(*["h:1"] * 10))),
    ("longest server", manifest("kafka", **servers("h" * 298 + ":1"))),
    ("longest group", manifest("msk", amazonManagedKafkaEventSourceConfig={"consumerGroupId": "x" * 200})),
    ("longest registry", manifest("msk", **registry(schemaRegistryURI="x" * 10_000))),
    ("registry", manifest("msk", **registry(schemaValidationConfigs=[{"attribute": "KEY"}, {"attribute": "VALUE"}]))),
    ("poller group", manifest("msk", provisionedPollerConfig=PROVISIONED | {"pollerGroupName": "x" * 128})),
    ("database", manifest("documentdb", documentDBEventSourceConfig={"databaseName": "x" * 63, "collectionName": "c"})),
    (
        "longest destination",
        manifest(destinationConfig=on_failure(DEAD_LETTERS + "x" * (350 - len(DEAD_LETTERS)))),
    ),
    ("longest tag", manifest(tags={"x" * 128: "y" * 256})),
    ("fifty tags", manifest(tags={str(n): "" for n in range(50)})),
    ("first port", manifest(function={"service": {"name": "f", "port": 1}})),
    ("last port", manifest(function={"service": {"name": "f", "port": 65_535}})),
    ("qualified name", manifest(function=URL | {"name": "f" * 64 + ":$LATEST"})),
]

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("six filters", manifest(filterCriteria={"filters": [{"pattern": "{}"}] * 6}), "filterCriteria.filters"),
    (
        "long pattern",
        manifest(filterCriteria={"filters": [{"pattern": "x" * 4097}]}),
        "filterCriteria.filters[0].pattern",
    ),
    ("four metrics", manifest(metricsConfig={"metrics": ["EventCount"] * 4}), "metricsConfig.metrics"),
    ("unknown metric", manifest(metricsConfig={"metrics": ["All"]}), "metricsConfig.metrics[0]"),
    ("log level", manifest("msk", loggingConfig={"systemLogLevel": "ERROR"}), "loggingConfig.systemLogLevel"),
    ("no topic", manifest("msk", topics=[]), "topics"),
    ("two topics", manifest("msk", topics=["a", "b"]), "topics"),
    ("long topic", manifest("msk", topics=["x" * 250]), "topics[0]"),
    ("dotted topic", manifest("msk", topics=[".x"]), "topics[0]"),
    ("two queues", manifest("mq", queues=["a", "b"]), "queues"),
    ("long queue", manifest("mq", queues=["x" * 1001]), "queues[0]"),
    ("accesses", manifest("kafka", sourceAccessConfigurations=[BASIC_AUTH] * 24), "sourceAccessConfigurations"),
    ("access", manifest("mq", sourceAccessConfigurations=[{"type": "TOKEN"}]), "sourceAccessConfigurations[0].type"),
    (
        "long access",
        manifest("mq", sourceAccessConfigurations=[BASIC_AUTH | {"uri": "x" * 201}]),
        "sourceAccessConfigurations[0].uri",
    ),
    ("no server", manifest("kafka", **servers()), "selfManagedEventSource.endpoints.kafkaBootstrapServers"),
    (
        "eleven servers",
        manifest("kafka", **servers(*["h:1"] * 11)),
        "selfManagedEventSource.endpoints.kafkaBootstrapServers",
    ),
    ("portless", manifest("kafka", **servers("h")), "selfManagedEventSource.endpoints.kafkaBootstrapServers[0]"),
    (
        "long group",
        manifest("msk", amazonManagedKafkaEventSourceConfig={"consumerGroupId": "x" * 201}),
        "amazonManagedKafkaEventSourceConfig.consumerGroupId",
    ),
    (
        "poller group",
        manifest("msk", provisionedPollerConfig=PROVISIONED | {"pollerGroupName": "a b"}),
        "provisionedPollerConfig.pollerGroupName",
    ),
    (
        "long database",
        manifest("documentdb", documentDBEventSourceConfig={"databaseName": "x" * 64}),
        "documentDBEventSourceConfig.databaseName",
    ),
    (
        "dotted database",
        manifest("documentdb", documentDBEventSourceConfig={"databaseName": "a.b"}),
        "documentDBEventSourceConfig.databaseName",
    ),
    (
        "system collection",
        manifest("documentdb", documentDBEventSourceConfig={"databaseName": "a", "collectionName": "system.x"}),
        "documentDBEventSourceConfig.collectionName",
    ),
    (
        "long destination",
        manifest(destinationConfig=on_failure("x" * 351)),
        "destinationConfig.onFailure.destination",
    ),
    (
        "no time to deliver",
        manifest(destinationConfig=on_failure(deliveryTimeoutSeconds=0)),
        "destinationConfig.onFailure.deliveryTimeoutSeconds",
    ),
    ("port 0", manifest(function={"service": {"name": "f", "port": 0}}), "function.service.port"),
    ("port 65536", manifest(function={"service": {"name": "f", "port": 65_536}}), "function.service.port"),
    ("service", manifest(function={"service": {"name": "F", "port": 1}}), "function.service.name"),
    ("path", manifest(function={"service": {"name": "f", "port": 1, "path": "x"}}), "function.service.path"),
    ("protocol", manifest(function=URL | {"protocol": "grpc"}), "function.protocol"),
    ("function's name", manifest(function=URL | {"name": "f g"}), "function.name"),
    ("function's arn", manifest(function=URL | {"arn": "f"}), "function.arn"),
    ("region", manifest(aws={"region": "Ireland"}), "aws.region"),
    ("role", manifest(aws={"roleArn": "admin"}), "aws.roleArn"),
    ("secret", manifest(aws={"credentials": {"secretRef": {}}}), "aws.credentials.secretRef.name"),
    ("service account", manifest(poller={"serviceAccountName": "A"}), "poller.serviceAccountName"),
]


@pytest.mark.parametrize("document", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_the_longest_and_most_are_accepted(document: dict[str, Any]) -> None:
    assert parse_mapping(document).key == "shop/orders"


@pytest.mark.parametrize(("document", "path"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_longer_and_more_and_other_is_told_by_its_path(document: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidMapping) as caught:
        parse_mapping(document)
    (sentence,) = caught.value.errors
    assert sentence.startswith(f"spec.{path}: ")


@pytest.mark.parametrize("value", ["1", 1.0, True, [1], {"a": 1}])
@pytest.mark.parametrize("path", ["batchSize", "maximumRetryAttempts", "poller.maxReplicas"])
def test_a_whole_number_is_nothing_else(path: str, value: Any) -> None:
    with pytest.raises(InvalidMapping, match=rf"spec\.{path}: must be .*a whole number from"):
        parse_mapping(manifest(**nested(path, value)))


@pytest.mark.parametrize(
    ("name", "namespace", "valid"),
    [
        ("a", "b", True),
        ("a.b-c", "b-1", True),
        ("x" * 253, "y" * 63, True),
        ("x" * 254, "y", False),
        ("x", "y" * 64, False),
        ("-a", "b", False),
        ("a", "b.c", False),
        ("a\n", "b", False),
        ("", "b", False),
    ],
)
def test_names_are_those_of_kubernetes(name: str, namespace: str, valid: bool) -> None:
    document = manifest() | {"metadata": {"name": name, "namespace": namespace}}
    if valid:
        assert parse_mapping(document).key == f"{namespace}/{name}"
    else:
        with pytest.raises(InvalidMapping, match=r"^metadata\.name(space)?: must be lower-case letters"):
            parse_mapping(document)


def test_every_source_has_a_least_manifest() -> None:
    assert {parse_mapping(manifest(source)).key for source in SOURCES} == {"shop/orders"}
