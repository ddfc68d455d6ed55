"""What a mapping's spec means for its data plane."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec import parse_mapping
from headrace.stream.encodings import LAMBDA_EVENT
from headrace.stream.report import Origin
from headrace.stream.retry import RetryPolicy
from headrace.stream.settings import Delivery, delivery_of, read_limit
from tests.support.mappings import ACCOUNT, DYNAMODB, KINESIS, filters, manifest, on_failure


def delivery(**properties: Any) -> Delivery:
    return delivery_of(parse_mapping(manifest("kinesis", **properties)))


def test_a_mapping_that_says_nothing_is_handled_with_lambdas_defaults() -> None:
    least = delivery()
    assert (least.limits.size, least.limits.window, least.limits.maximum_age) == (100, 0.0, None)
    assert (least.limits.tumbling, least.limits.encoding) == (0, LAMBDA_EVENT)
    assert least.policy == RetryPolicy()
    assert (least.lambda_protocol, least.report_failures, least.factor, least.filter) == (True, False, 1, None)


def test_batches_close_as_the_mapping_says() -> None:
    limits = delivery(batchSize=7, maximumBatchingWindowInSeconds=20, maximumRecordAgeInSeconds=90).limits
    assert (limits.size, limits.window, limits.maximum_age) == (7, 20.0, 90.0)
    assert delivery(tumblingWindowInSeconds=30).limits.tumbling == 30


def test_failing_batches_are_handled_as_the_mapping_says() -> None:
    policy = delivery(
        maximumRetryAttempts=0,
        maximumRecordAgeInSeconds=90,
        bisectBatchOnFunctionError=True,
        retryBackoff={"initialSeconds": 2, "maximumSeconds": 30},
    ).policy
    assert policy == RetryPolicy(
        maximum_retries=0, maximum_age=90.0, split=True, initial_backoff=2.0, maximum_backoff=30.0
    )


@pytest.mark.parametrize(
    ("terms", "patience"),
    [
        ({}, None),
        ({"deliveryPolicy": "Block"}, None),
        ({"deliveryPolicy": "Block", "deliveryTimeoutSeconds": 300}, 300),
        ({"deliveryPolicy": "Drop"}, 10.0),
    ],
)
def test_a_destination_is_waited_for_as_its_terms_say(terms: dict[str, Any], patience: float | None) -> None:
    policy = delivery(destinationConfig=on_failure(**terms)).policy
    assert (policy.has_destination, policy.delivery_patience) == (True, patience)


@pytest.mark.parametrize(("source", "seconds"), [("kinesis", 1.0), ("dynamodb", 0.25)])
def test_a_shards_tip_is_read_as_often_as_lambda_does(source: str, seconds: float) -> None:
    """Contract B.1."""
    assert delivery_of(parse_mapping(manifest(source))).poll_interval == seconds


def test_failure_records_of_a_dynamodb_stream_are_its_own() -> None:
    origin = delivery_of(parse_mapping(manifest("dynamodb"))).origin
    assert (origin.stream_arn, origin.batch_info, origin.whole_seconds) == (DYNAMODB, "DDBStreamBatchInfo", True)


def test_failure_records_tell_the_functions_arn_and_the_stream() -> None:
    assert delivery().origin == Origin(f"arn:aws:lambda:{ACCOUNT}:function:orders", KINESIS, "")
    uid = "0b1c2d3e-0000-1111-2222-333344445555"
    named = delivery_of(parse_mapping(manifest() | {"metadata": {"name": "a", "namespace": "b", "uid": uid}}))
    assert named.mapping_uid == uid


@pytest.mark.parametrize(("protocol", "speaks_lambda"), [("lambda", True), ("http", False)])
def test_the_protocol_says_whose_answers_are_judged(protocol: str, speaks_lambda: bool) -> None:
    assert delivery(function={"url": "http://f", "protocol": protocol}).lambda_protocol is speaks_lambda


def test_partial_responses_count_only_where_the_mapping_asks_for_them() -> None:
    assert delivery(functionResponseTypes=["ReportBatchItemFailures"]).report_failures
    assert not delivery(functionResponseTypes=[]).report_failures


def test_a_shard_has_as_many_lanes_as_the_factor_says() -> None:
    assert delivery(parallelizationFactor=10).factor == 10


def test_filters_are_those_of_a_kinesis_stream() -> None:
    pattern = '{"data":{"kind":["order"]}}'
    kept = delivery(filterCriteria=filters(pattern)).filter
    assert kept is not None
    event = b'{"kinesis":{"data":"eyJraW5kIjoib3JkZXIifQ=="}}'
    assert kept.keeps(event)
    assert not kept.keeps(b'{"kinesis":{"data":"e30="}}')


def test_filters_of_a_dynamodb_stream_ask_for_attributes_and_for_what_happened() -> None:
    wanted = '{"eventName":["MODIFY"],"dynamodb":{"NewImage":{"n":{"N":["101"]}}}}'
    kept = delivery_of(parse_mapping(manifest("dynamodb", filterCriteria=filters(wanted)))).filter
    assert kept is not None
    assert kept.keeps(b'{"eventName":"MODIFY","dynamodb":{"NewImage":{"n":{"N":"101"}}}}')
    assert not kept.keeps(b'{"eventName":"MODIFY","dynamodb":{"NewImage":{"n":{"N":"102"}}}}')
    assert not kept.keeps(b'{"eventName":"INSERT","dynamodb":{"NewImage":{"n":{"N":"101"}}}}')


@pytest.mark.parametrize(
    ("batch_size", "asked"), [(1, 1000), (500, 1000), (501, 1002), (5000, 10_000), (5001, 10_000), (10_000, 10_000)]
)
def test_one_read_asks_for_two_batches_from_a_thousand_to_ten_thousand(batch_size: int, asked: int) -> None:
    assert read_limit(batch_size) == asked
