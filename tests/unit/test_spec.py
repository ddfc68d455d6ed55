"""The resource: what a manifest says and means, and what is told when it is wrong."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.errors import InvalidMapping
from headrace.records import StartingPosition
from headrace.spec import Arn, EventSourceMapping, SourceKind, parse_arn, parse_mapping
from tests.support.mappings import CONSUMER, DEAD_LETTERS, KINESIS, SOURCES, filters, manifest, on_failure

INVOCATIONS = "/2015-03-31/functions/function/invocations"
SECRET = "hunter2-very-secret"


def told(document: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidMapping) as caught:
        parse_mapping(document)
    return caught.value.errors


def with_function(**function: Any) -> EventSourceMapping:
    return parse_mapping(manifest(function={"url": "http://f:8080/x"} | function))


# Values


def test_defaults_are_those_of_lambda_for_a_stream() -> None:
    spec = parse_mapping(manifest()).spec
    assert (spec.enabled, spec.resolved_batch_size, spec.resolved_batching_window) == (True, 100, 0.0)
    assert (spec.maximum_retries, spec.maximum_record_age) == (None, None)
    assert (spec.parallelization_factor, spec.tumbling_window_in_seconds) == (1, 0)
    assert (spec.bisect_batch_on_function_error, spec.function_response_types) == (False, ())
    assert (spec.on_failure, spec.filter_patterns) == (None, ())
    assert (spec.function.protocol, spec.function.timeout_seconds) == ("lambda", 30)
    assert (spec.retry_backoff.initial_seconds, spec.retry_backoff.maximum_seconds) == (1.0, 60.0)
    assert (spec.poller.min_replicas, spec.poller.max_replicas, spec.poller.shards_per_replica) == (1, 10, 16)


@pytest.mark.parametrize(("source", "size", "window"), [("sqs", 10, 0.0), ("fifo", 10, 0.0), ("msk", 100, 0.5)])
def test_defaults_of_batching_depend_on_the_source(source: str, size: int, window: float) -> None:
    spec = parse_mapping(manifest(source)).spec
    assert (spec.resolved_batch_size, spec.resolved_batching_window) == (size, window)


def test_zero_is_a_value_and_not_unset() -> None:
    spec = parse_mapping(manifest("mq", maximumBatchingWindowInSeconds=0)).spec
    assert spec.resolved_batching_window == 0.0
    assert parse_mapping(manifest(maximumRetryAttempts=0)).spec.maximum_retries == 0


def test_null_means_absent_as_to_the_api_server() -> None:
    document = manifest(enabled=None, batchSize=None, aws={"endpointUrl": None}, destinationConfig=None)
    spec = parse_mapping(document).spec
    assert (spec.enabled, spec.resolved_batch_size, spec.aws.endpoint_url, spec.on_failure) == (True, 100, None, None)


@pytest.mark.parametrize(
    ("given_time", "seconds"),
    [
        (1_700_000_000, 1_700_000_000.0),
        (1_700_000_000.5, 1_700_000_000.5),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14T23:13:20.250+01:00", 1_700_000_000.25),
        ("2023-11-14t22:13:20z", 1_700_000_000.0),
    ],
)
def test_a_starting_time_is_unix_seconds_or_rfc_3339(given_time: Any, seconds: float) -> None:
    spec = parse_mapping(manifest(startingPosition="AT_TIMESTAMP", startingPositionTimestamp=given_time)).spec
    assert spec.starting_position is StartingPosition.AT_TIMESTAMP
    assert spec.starting_position_timestamp == seconds


@pytest.mark.parametrize(
    "given_time",
    [
        "yesterday",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-99-14T22:13:20Z",
        "1700000000",
        True,
        -1,
        float("nan"),
        1e300,
    ],
)
def test_any_other_starting_time_is_refused(given_time: Any) -> None:
    errors = told(manifest(startingPosition="AT_TIMESTAMP", startingPositionTimestamp=given_time))
    assert len(errors) == 1
    assert errors[0].startswith("spec.startingPositionTimestamp: must be a time: unix seconds, or RFC 3339 such as")


def test_a_destination_blocks_unless_it_is_told_to_drop() -> None:
    found = parse_mapping(manifest(destinationConfig=on_failure(deliveryTimeoutSeconds=5))).spec.on_failure
    assert found is not None
    assert (found.destination, found.delivery_policy, found.delivery_timeout_seconds) == (DEAD_LETTERS, "Block", 5)


@pytest.mark.parametrize("config", [{}, {"onFailure": {}}, {"onFailure": {"destination": ""}}])
def test_an_empty_destination_is_none(config: dict[str, Any]) -> None:
    assert parse_mapping(manifest(destinationConfig=config)).spec.on_failure is None


# What is derived


KINDS = {
    "kinesis": SourceKind.KINESIS,
    "consumer": SourceKind.KINESIS_CONSUMER,
    "dynamodb": SourceKind.DYNAMODB,
    "sqs": SourceKind.SQS,
    "fifo": SourceKind.SQS_FIFO,
    "msk": SourceKind.MSK,
    "kafka": SourceKind.SELF_MANAGED_KAFKA,
    "mq": SourceKind.MQ,
    "documentdb": SourceKind.DOCUMENTDB,
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_arn_tells_the_kind_of_source(source: str) -> None:
    assert parse_mapping(manifest(source)).source_kind is KINDS[source]


def test_an_arn_is_taken_apart_and_put_together() -> None:
    arn = parse_arn(CONSUMER)
    assert arn == Arn("aws", "kinesis", "eu-west-1", "123456789012", "stream/orders/consumer/fast:1700000000")
    assert str(arn) == CONSUMER


@pytest.mark.parametrize("text", ["", "orders", "arn:aws:kinesis", "arn:gcp:x:eu-west-1:123456789012:y", f" {KINESIS}"])
def test_what_is_no_arn_is_not_taken_apart(text: str) -> None:
    with pytest.raises(ValueError, match="not an ARN"):
        parse_arn(text)


@pytest.mark.parametrize("source", ["kinesis", "consumer"])
def test_the_name_of_a_stream_is_that_of_kinesis(source: str) -> None:
    assert parse_mapping(manifest(source)).stream_name == "orders"


def test_a_url_is_used_exactly_as_given() -> None:
    assert with_function(url="http://F:1/a/?b=c#").function_url == "http://F:1/a/?b=c#"


@pytest.mark.parametrize(
    ("service", "protocol", "url"),
    [
        ({}, "lambda", f"http://f.shop.svc:80{INVOCATIONS}"),
        ({}, "http", "http://f.shop.svc:80/"),
        ({"path": "/x?y=1"}, "lambda", "http://f.shop.svc:80/x?y=1"),
        ({"namespace": "other"}, "http", "http://f.other.svc:80/"),
    ],
)
def test_a_service_is_reached_in_its_namespace_and_on_the_path_of_the_protocol(
    service: dict[str, Any], protocol: str, url: str
) -> None:
    document = manifest(function={"service": {"name": "f", "port": 80} | service, "protocol": protocol})
    assert parse_mapping(document).function_url == url


def test_the_function_arn_is_made_of_the_sources_place_and_the_names() -> None:
    assert with_function().function_arn == "arn:aws:lambda:eu-west-1:123456789012:function:orders"
    assert with_function(name="f:live").function_arn == "arn:aws:lambda:eu-west-1:123456789012:function:f:live"
    told_arn = "arn:aws-cn:lambda:cn-north-1:210987654321:function:g"
    assert with_function(name="f", arn=told_arn).function_arn == told_arn


def test_the_identity_of_calls_is_the_role_or_one_named_like_the_mapping() -> None:
    assert parse_mapping(manifest()).invoke_identity_arn == "arn:aws:iam::123456789012:role/orders"
    role = "arn:aws:iam::210987654321:role/reader"
    assert parse_mapping(manifest(aws={"roleArn": role})).invoke_identity_arn == role


def test_the_region_is_the_one_told_else_the_sources() -> None:
    assert parse_mapping(manifest()).region == "eu-west-1"
    assert parse_mapping(manifest(aws={"region": "us-east-1"})).region == "us-east-1"
    assert parse_mapping(manifest("kafka")).region == ""


def test_a_uid_is_used_and_without_one_the_name_makes_it() -> None:
    document = manifest()
    root = uuid.uuid5(uuid.NAMESPACE_DNS, "headrace.dev")
    assert parse_mapping(document).resolved_uid == str(uuid.uuid5(root, "shop/orders"))
    document["metadata"]["uid"] = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    assert parse_mapping(document).resolved_uid == "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    document["metadata"]["uid"] = "zzz"
    assert told(document) == ("metadata.uid: must be a UUID",)


@pytest.mark.parametrize("url", ["http://a..b/", f"http://{'x' * 64}.example/", "http:///path", "http://h:99999/"])
def test_a_url_without_a_usable_host_is_refused(url: str) -> None:
    (sentence,) = told(manifest(function={"url": url}))
    assert sentence.startswith("spec.function.url: must be an http:// or https:// URL")


def test_metadata_and_status_of_the_api_server_are_not_in_the_way() -> None:
    document = manifest() | {"status": {"state": "Enabled", "anything": 1}}
    document["metadata"] |= {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 3,
        "resourceVersion": "1",
        "managedFields": [{"manager": "kubectl"}],
        "labels": None,
    }
    metadata = parse_mapping(document).metadata
    assert metadata.generation == 3
    assert metadata.creation_timestamp is not None
    assert metadata.creation_timestamp.timestamp() == 1_767_225_600


def test_pieces_of_kubernetes_are_passed_on_as_they_are() -> None:
    affinity = {"nodeAffinity": {"x": [1, {"y": None}]}}
    poller = parse_mapping(manifest(poller={"affinity": affinity, "env": [{"name": "A", "value": "b"}]})).spec.poller
    assert poller.affinity == affinity
    assert poller.env == ({"name": "A", "value": "b"},)


# What is told


TABLE_NAME = "a table's name: 3 to 255 of a-z, A-Z, 0-9, _, . and -"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (manifest(batchsize=1), "spec.batchsize: is not a property of EventSourceMapping; did you mean batchSize?"),
        (manifest(batch_size=1), "spec.batch_size: is not a property of EventSourceMapping; did you mean batchSize?"),
        (
            manifest(function={"service": {"name": "f", "port": 1, "Path": "/"}}),
            "spec.function.service.Path: is not a property of spec.function.service; did you mean path?",
        ),
        (
            manifest(retryBackoff={"zzz": 1}),
            "spec.retryBackoff.zzz: is not a property of spec.retryBackoff; known are initialSeconds, maximumSeconds",
        ),
        (manifest() | {"sepc": {}}, "sepc: is not a property of EventSourceMapping; did you mean spec?"),
        (manifest(batchSize="100"), "spec.batchSize: must be a whole number from 1 to 10000"),
        (manifest(batchSize=True), "spec.batchSize: must be a whole number from 1 to 10000, got true"),
        (manifest(batchSize=1.5), "spec.batchSize: must be a whole number from 1 to 10000, got 1.5"),
        (manifest(enabled="yes"), "spec.enabled: must be true or false"),
        (manifest(enabled=1), "spec.enabled: must be true or false, got 1"),
        (manifest(function="f"), "spec.function: must be a mapping of names to values"),
        (manifest("kinesis", "function"), "spec.function: is required"),
        (manifest("msk", topics="orders"), "spec.topics: must be a list of exactly 1 entry"),
        (manifest("msk", topics=[]), "spec.topics: must be a list of exactly 1 entry"),
        (
            manifest(startingPosition="OLDEST"),
            "spec.startingPosition: must be TRIM_HORIZON, LATEST or AT_TIMESTAMP, got OLDEST",
        ),
        (
            manifest(functionResponseTypes=["All"]),
            "spec.functionResponseTypes[0]: must be ReportBatchItemFailures, got All",
        ),
        (
            manifest(eventSourceArn="orders"),
            "spec.eventSourceArn: must be an ARN such as arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
        ),
        (manifest(function={"url": "ftp://f"}), "spec.function.url: must be an http:// or https:// URL"),
        (manifest(function={"url": "f:8080"}), "spec.function.url: must be an http:// or https:// URL"),
        (
            manifest(function={"url": "http://f:99999/"}),
            "spec.function.url: must be an http:// or https:// URL with a host",
        ),
        (manifest(aws={"endpointUrl": "localhost"}), "spec.aws.endpointUrl: must be an http:// or https:// URL"),
        (
            manifest(filterCriteria=filters(*["{}"] * 6)),
            "spec.filterCriteria.filters: must be a list of at most 5 entries",
        ),
        (manifest(filterCriteria={"filters": [{}]}), "spec.filterCriteria.filters[0].pattern: is required"),
        (manifest(tags={"": "x"}), "spec.tags: must have names that are not empty"),
        (manifest(tags={"x" * 129: "x"}), "spec.tags: must have names of at most 128 characters"),
        (manifest(tags={1: "x"}), "spec.tags: must have texts as names"),
        *(
            (manifest(poller={"checkpointTable": name}), f"spec.poller.checkpointTable: must be {TABLE_NAME}")
            for name in ("x y", "ab", "t" * 256, "tâble")
        ),
        (manifest(tags={"x": "y" * 257}), "spec.tags.x: must be a text of at most 256 characters"),
        (
            manifest(tags={str(i): "" for i in range(51)}),
            "spec.tags: must be a mapping of names to values of at most 50 entries",
        ),
        (manifest() | {"kind": "Pod"}, "kind: must be EventSourceMapping, got Pod"),
        (manifest() | {"apiVersion": "v1"}, "apiVersion: must be headrace.dev/v1alpha1, got v1"),
        (
            manifest() | {"metadata": {"name": "Orders"}},
            "metadata.name: must be lower-case letters, digits, - and ., at most 253 characters (a DNS-1123 subdomain)",
        ),
        ([], "the document: must be a mapping of names to values"),
        (None, "the document: must be a mapping of names to values"),
    ],
)
def test_a_fault_is_told_with_its_path_and_what_is_allowed(document: Any, sentence: str) -> None:
    assert told(document) == (sentence,)


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"A": 1}, "spec.function.headers.A: must be a text of at most 8192 characters"),
        ({"A": f"{SECRET}\r\nB: c"}, "spec.function.headers: must have a value without line breaks"),
        ({"A b": SECRET}, "spec.function.headers: must have valid HTTP header names"),
        ({"Content-Length": SECRET}, "spec.function.headers: must not set Content-Length, which Headrace sets itself"),
        ({"headrace-shard": SECRET}, "spec.function.headers: must not set headrace-shard, which Headrace sets itself"),
        ({"A": SECRET, "a": SECRET}, "spec.function.headers: must name each header once"),
        ({"A": [SECRET]}, "spec.function.headers.A: must be a text"),
    ],
)
def test_headers_must_be_sendable_and_their_values_are_never_repeated(headers: Any, sentence: str) -> None:
    errors = told(manifest(function={"url": "http://f", "headers": headers}))
    assert len(errors) == 1
    assert errors[0].startswith(sentence)
    assert SECRET not in errors[0]


@pytest.mark.parametrize(
    "properties",
    [
        {"aws": {"credentials": {"secretRef": SECRET}}},
        {"aws": {"credentials": {"accessKey": SECRET}}},
        {"aws": {"endpointUrl": f"ftp://user:{SECRET}@host"}},
        {"poller": {"env": SECRET}},
        {"destinationConfig": {"onFailure": {"destination": SECRET * 30}}},
    ],
)
def test_texts_that_may_be_secret_are_never_repeated(properties: dict[str, Any]) -> None:
    assert all(SECRET not in error for error in told(manifest(**properties)))


def test_every_fault_is_told_at_once() -> None:
    errors = told(manifest(batchSize=0, enabled="no", parallelizationFactor=11) | {"metadata": {}})
    assert [error.partition(":")[0] for error in errors] == [
        "metadata.name",
        "spec.enabled",
        "spec.batchSize",
        "spec.parallelizationFactor",
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
PROPERTIES = sorted(EventSourceMapping.model_json_schema()["$defs"]["EventSourceMappingSpec"]["properties"])


@given(json_values)
def test_any_document_is_a_mapping_or_an_invalid_mapping(document: Any) -> None:
    told(document)


@given(
    st.sampled_from(sorted(SOURCES)),
    st.dictionaries(st.sampled_from(PROPERTIES), json_values, max_size=3),
    st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "spec", "status"]), json_values, max_size=1),
)
@example("kinesis", {"tags": {"\n": None}}, {})
def test_any_property_with_any_value_is_accepted_or_told_by_its_path(
    source: str, properties: dict[str, Any], top: dict[str, Any]
) -> None:
    for sentence in faults(manifest(source, **properties) | top):
        assert sentence.startswith(("spec", "metadata", "kind: ", "apiVersion: "))
        assert "Value error" not in sentence
        assert "\n" not in sentence


def faults(document: dict[str, Any]) -> tuple[str, ...]:
    try:
        parse_mapping(document)
    except InvalidMapping as error:
        return error.errors or ("an error without a sentence",)
    return ()
