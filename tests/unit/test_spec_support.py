"""What no code serves yet, and what a mapping must not share with the clock and with others."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec import EventSourceMapping, parse_mapping, unsupported
from headrace.spec_checks import conflict, starts_in_future
from tests.support.mappings import KINESIS, SOURCES, manifest, on_failure

# What is not served yet


@pytest.mark.parametrize(
    "source", [source for source in SOURCES if source not in {"kinesis", "dynamodb", "sqs", "fifo"}]
)
def test_other_sources_are_not_served_yet(source: str) -> None:
    (sentence,) = unsupported(parse_mapping(manifest(source)))
    path = "selfManagedEventSource" if source == "kafka" else "eventSourceArn"
    assert sentence.startswith(f"spec.{path}: NotSupportedYet: ")
    served = "only Kinesis streams, DynamoDB streams, SQS queues and SQS FIFO queues are served in this version"
    assert sentence.endswith(served)


@pytest.mark.parametrize(
    ("properties", "path"),
    [
        ({"kmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/k"}, "kmsKeyArn"),
        ({"metricsConfig": {"metrics": ["EventCount"]}}, "metricsConfig"),
        ({"tags": {"a": "b"}}, "tags"),
    ],
)
def test_what_no_code_serves_yet_is_told_and_never_ignored(properties: dict[str, Any], path: str) -> None:
    (sentence,) = unsupported(parse_mapping(manifest(**properties)))
    assert sentence.startswith(f"spec.{path}: NotSupportedYet: ")
    assert "served" in sentence


def test_what_is_served_is_not_complained_about() -> None:
    document = manifest(
        enabled=False,
        batchSize=7,
        maximumBatchingWindowInSeconds=3,
        maximumRetryAttempts=0,
        maximumRecordAgeInSeconds=60,
        bisectBatchOnFunctionError=True,
        functionResponseTypes=["ReportBatchItemFailures"],
        filterCriteria={"filters": []},
        destinationConfig=on_failure(deliveryPolicy="Drop"),
        function={"url": "http://f", "protocol": "http", "headers": {"A": "b"}},
        retryBackoff={"initialSeconds": 0.01},
        aws={"region": "us-east-1", "endpointUrl": "http://localhost:1", "roleArn": "arn:aws:iam::123456789012:role/r"},
        poller={"minReplicas": 2, "maxReplicas": 3, "resources": {"limits": {"cpu": 1}}},
        kmsKeyArn="",
    )
    assert unsupported(parse_mapping(document)) == ()


def test_dynamodb_streams_are_served_with_every_protocol() -> None:
    for protocol in ("lambda", "http", "cloudevents"):
        assert (
            unsupported(parse_mapping(manifest("dynamodb", function={"url": "http://f", "protocol": protocol}))) == ()
        )


# Beside the clock and beside others


def test_a_start_in_the_future_is_refused() -> None:
    mapping = parse_mapping(manifest(startingPosition="AT_TIMESTAMP", startingPositionTimestamp=100))
    assert starts_in_future(mapping, 99.0) == ("spec.startingPositionTimestamp: must not be in the future",)
    assert starts_in_future(mapping, 100.0) == ()
    assert starts_in_future(parse_mapping(manifest()), 0.0) == ()


def named(name: str, source: str = "kinesis", **properties: Any) -> EventSourceMapping:
    document = manifest(source, **({"function": {"url": "http://f"}} | properties))
    document["metadata"]["name"] = name
    return parse_mapping(document)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("kinesis", f'spec.eventSourceArn: The event source arn (" {KINESIS} ") and function ("'),
        ("sqs", 'spec.eventSourceArn: An event source mapping with SQS arn (" arn:aws:sqs:'),
        (
            "kafka",
            'spec.selfManagedEventSource: An event source mapping with event source ("a.example:9092"), function',
        ),
    ],
)
def test_the_same_source_and_function_are_mapped_once(source: str, sentence: str) -> None:
    told_conflict = conflict(named("b", source), named("a", source))
    assert told_conflict is not None
    assert told_conflict.startswith(sentence)
    assert told_conflict.endswith(f"with UUID {named('a').resolved_uid}")


def test_another_qualifier_or_function_or_source_is_another_target() -> None:
    here = named("a")
    for other in (
        named("b", function={"url": "http://f", "name": "f:live"}),
        named("b", function={"url": "http://g"}),
        named("b", eventSourceArn=f"{KINESIS}-2"),
        named("b", "kafka"),
    ):
        assert conflict(other, here) is None
    assert conflict(named("b", "kafka", topics=["other"]), named("a", "kafka")) is None


def test_a_name_is_used_once() -> None:
    assert conflict(named("a", "sqs"), named("a")) == "metadata.name: shop/a is defined twice"
