"""Which records reach the function: decoding and format mismatches of contract E.1 and E.2, and K.7."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest

from headrace.filter_operators import InvalidPattern
from headrace.filter_patterns import DataKey
from headrace.spec import parse_mapping
from headrace.stream import filtering
from headrace.stream.events import FilterNeverMatches
from headrace.stream.filtering import compile_filters
from headrace.stream.settings import doubtful_filters
from headrace.stream.sources.kinesis import RecordFacts, to_records
from tests.support.mappings import filters, manifest

FACTS = RecordFacts("arn:aws:kinesis:eu-central-1:000000000000:stream/orders", "eu-central-1", "arn:aws:iam::0:role/r")


def kinesis(data: bytes, key: str = "k") -> bytes:
    """The record as the reader makes it."""
    entry = {
        "SequenceNumber": "49",
        "PartitionKey": key,
        "Data": base64.b64encode(data).decode(),
        "ApproximateArrivalTimestamp": 1767225600.0,
    }
    return to_records([entry], "shardId-000000000000", FACTS)[0].event


def dynamodb(image: dict[str, Any], name: str = "INSERT") -> bytes:
    return orjson.dumps(
        {
            "eventID": "0" * 32,
            "eventName": name,
            "eventSource": "aws:dynamodb",
            "dynamodb": {"ApproximateCreationDateTime": 1679000000.0, "NewImage": image, "SequenceNumber": "111"},
        }
    )


def sqs(body: str) -> bytes:
    return orjson.dumps({"messageId": "m", "body": body, "eventSource": "aws:sqs"})


def keeps(data_key: DataKey, event: bytes, *patterns: Any) -> bool:
    texts = [pattern if isinstance(pattern, str) else json.dumps(pattern) for pattern in patterns]
    kept = compile_filters(texts, data_key)
    assert kept is not None
    return kept.keeps(event)


# ---- Kinesis


def test_the_data_of_kinesis_are_seen_decoded_at_the_top_level() -> None:
    record = kinesis(b'{"kind":"order","n":300}')
    assert keeps(DataKey.KINESIS, record, {"data": {"kind": ["order"], "n": [300]}})
    assert not keeps(DataKey.KINESIS, record, {"data": {"kind": ["refund"]}})
    assert not keeps(DataKey.KINESIS, record, {"kinesis": {"data": {"kind": ["order"]}}})


def test_numbers_of_data_keep_their_text() -> None:
    assert not keeps(DataKey.KINESIS, kinesis(b'{"n":300.0}'), '{"data":{"n":[300]}}')
    assert keeps(DataKey.KINESIS, kinesis(b'{"n":300.0}'), '{"data":{"n":[300.0]}}')


@pytest.mark.parametrize(
    "pattern",
    [
        {"kinesis": {"partitionKey": ["p-1"]}},
        {"eventSource": ["aws:kinesis"]},
        {"eventID": [{"prefix": "shardId-000000000000:"}]},
        {"eventSourceARN": [{"suffix": "/orders"}]},
        {"kinesis": {"approximateArrivalTimestamp": [{"numeric": [">=", 1767225600]}]}},
        {"awsRegion": ["eu-central-1"], "eventName": ["aws:kinesis:record"]},
        {},
    ],
)
@pytest.mark.parametrize("data", [b'{"a":1}', b"plain", b"\xff", b""])
def test_a_pattern_without_data_looks_at_metadata_only(pattern: Any, data: bytes) -> None:  # E.2
    assert keeps(DataKey.KINESIS, kinesis(data, "p-1"), pattern)


def test_metadata_that_differ_drop_a_record() -> None:
    assert not keeps(DataKey.KINESIS, kinesis(b"{}", "p-2"), {"kinesis": {"partitionKey": ["p-1"]}})


def test_metadata_and_data_are_anded() -> None:
    pattern = {"kinesis": {"partitionKey": ["p-1"]}, "data": {"a": [1]}}
    assert keeps(DataKey.KINESIS, kinesis(b'{"a":1}', "p-1"), pattern)
    assert not keeps(DataKey.KINESIS, kinesis(b'{"a":1}', "p-2"), pattern)
    assert not keeps(DataKey.KINESIS, kinesis(b'{"a":2}', "p-1"), pattern)


UNFIT = [b"plain", b"", b"{", b"\xff\xfe", b'{"a":"\xff"}', b"\xff\xfe{\x00}\x00", b"NaN", b'\xef\xbb\xbf{"a":1}']


@pytest.mark.parametrize("data", [*UNFIT, b"[" * 100_000, b'{"a":' * 100_000])
@pytest.mark.parametrize(
    "pattern",
    [
        {"data": {"missing": [{"exists": False}]}},
        {"data": [{"exists": True}]},
        {"data": [{"prefix": ""}]},
        {"$or": [{"data": {"a": [1]}}, {"eventSource": ["aws:kinesis"]}]},
    ],
)
def test_data_that_are_not_json_are_dropped_by_every_pattern_on_data(pattern: Any, data: bytes) -> None:  # K70
    assert not keeps(DataKey.KINESIS, kinesis(data), pattern)


@pytest.mark.parametrize("data", UNFIT)
def test_data_that_are_not_json_pass_by_another_filter_on_metadata(data: bytes) -> None:
    assert keeps(DataKey.KINESIS, kinesis(data), {"data": {"a": [1]}}, {"eventSource": ["aws:kinesis"]})


@pytest.mark.parametrize(
    ("data", "pattern"), [(b"42", "[42]"), (b"null", "[null]"), (b"[1,2]", "[2]"), (b'"x"', '[{"prefix":"x"}]')]
)
def test_data_of_any_json_kind_are_evaluated(data: bytes, pattern: str) -> None:
    assert keeps(DataKey.KINESIS, kinesis(data), f'{{"data":{pattern}}}')


def test_exists_on_the_object_of_data_never_matches() -> None:  # K75
    assert not keeps(DataKey.KINESIS, kinesis(b'{"a":1}'), {"data": [{"exists": True}]})
    assert not keeps(DataKey.KINESIS, kinesis(b'{"a":{"b":1}}'), {"data": {"a": [{"exists": True}]}})


def test_two_and_four_of_five_match() -> None:  # K68
    records = [kinesis(b'{"n":%d}' % number) for number in range(1, 6)]
    kept = compile_filters(['{"data":{"n":[2,4]}}'], DataKey.KINESIS)
    assert kept is not None
    assert [kept.keeps(record) for record in records] == [False, True, False, True, False]


def test_none_matches() -> None:  # K69
    assert not keeps(DataKey.KINESIS, kinesis(b'{"n":1}'), {"data": {"n": [2]}}, {"data": {"m": [1]}})


def test_filters_are_ored_and_the_fields_of_one_anded() -> None:  # K71
    both = [{"data": {"a": [1], "b": [2]}}, {"data": {"c": [3]}}]
    assert keeps(DataKey.KINESIS, kinesis(b'{"a":1,"b":2}'), *both)
    assert keeps(DataKey.KINESIS, kinesis(b'{"c":3}'), *both)
    assert not keeps(DataKey.KINESIS, kinesis(b'{"a":1,"c":2}'), *both)


def test_a_field_named_as_the_data_key_within_the_data_is_another() -> None:
    assert keeps(DataKey.KINESIS, kinesis(b'{"data":"x"}'), {"data": {"data": ["x"]}})


# ---- DynamoDB

RECORDED = {"dynamodb": {"NewImage": {"numericFilter": {"N": [{"numeric": [">", 100]}, {"anything-but": "101"}]}}}}


def test_values_of_dynamodb_stay_typed_and_numbers_are_strings() -> None:
    assert keeps(DataKey.DYNAMODB, dynamodb({"numericFilter": {"N": "42"}}), RECORDED)
    assert not keeps(DataKey.DYNAMODB, dynamodb({"numericFilter": {"N": "101"}}), RECORDED)
    assert keeps(DataKey.DYNAMODB, dynamodb({"n": {"N": "1234"}}), {"dynamodb": {"NewImage": {"n": {"N": ["1234"]}}}})
    assert not keeps(DataKey.DYNAMODB, dynamodb({"n": {"N": "1234"}}), {"dynamodb": {"NewImage": {"n": {"N": [1234]}}}})


def test_metadata_of_dynamodb_can_be_filtered() -> None:
    assert keeps(DataKey.DYNAMODB, dynamodb({}, "REMOVE"), {"eventName": ["REMOVE"], "eventSource": ["aws:dynamodb"]})
    assert not keeps(DataKey.DYNAMODB, dynamodb({}, "INSERT"), {"eventName": ["REMOVE"]})
    times = {"dynamodb": {"ApproximateCreationDateTime": [{"numeric": [">", 1678999999]}]}}
    assert keeps(DataKey.DYNAMODB, dynamodb({}), times)


def test_an_attribute_of_dynamodb_exists_by_its_type_only() -> None:
    record = dynamodb({"present": {"S": "x"}})
    assert keeps(DataKey.DYNAMODB, record, {"dynamodb": {"NewImage": {"present": {"S": [{"exists": True}]}}}})
    assert not keeps(DataKey.DYNAMODB, record, {"dynamodb": {"NewImage": {"present": [{"exists": True}]}}})
    absent = {"dynamodb": {"NewImage": {"absent": {"S": [{"anything-but": ["x"]}, {"exists": False}]}}}}
    assert keeps(DataKey.DYNAMODB, record, absent)


# ---- SQS


@pytest.mark.parametrize(
    ("body", "pattern", "kept"),
    [
        ('{"a":1}', {"body": {"a": [1]}}, True),
        ('{"a":1}', {"body": {"a": [2]}}, False),
        ('{"a":1}', {"body": ["text"]}, False),
        ('"text"', {"body": ["text"]}, False),
        ("text", {"body": {"a": [{"exists": False}]}}, False),
        ("text", {"body": ["text"]}, True),
        ("text", {"body": [{"prefix": "te"}]}, True),
        ("text", {"body": ["other"]}, False),
        ("42", {"body": [42]}, True),
        ("text", {"messageId": ["m"]}, True),
        ("", {"body": [""]}, True),
        ("text", {"$or": [{"body": ["text"]}, {"body": {"a": [1]}}]}, True),
        ('{"a":1}', {"$or": [{"body": ["text"]}, {"body": {"a": [1]}}]}, True),
    ],
)
def test_the_body_of_sqs_is_json_where_it_can_be_read_as_such_else_text(body: str, pattern: Any, kept: bool) -> None:
    assert keeps(DataKey.SQS, sqs(body), pattern) is kept


@pytest.mark.parametrize(
    ("body", "pattern", "in_vain"),
    [
        ("text", {"body": {"a": [1]}}, True),
        ('{"a":2}', {"body": {"a": [1]}}, False),
        ("[" * 5000, {"body": {"a": [1]}}, True),
        ("text", {"body": ["other"]}, False),
        ("text", {"messageId": ["other"]}, False),
    ],
)
def test_a_body_that_is_no_json_is_asked_for_json_in_vain(body: str, pattern: Any, in_vain: bool) -> None:
    made = compile_filters([json.dumps(pattern)], DataKey.SQS)
    assert made is not None
    event = sqs(body)
    assert not made.keeps(event)
    assert made.asks_in_vain(event) is in_vain


# ---- the filter as a whole


def test_no_patterns_are_no_filter() -> None:
    assert compile_filters((), DataKey.KINESIS) is None


def test_a_pattern_that_is_none_makes_no_filter() -> None:
    with pytest.raises(InvalidPattern, match=r"^Invalid filter pattern definition\. a: must be"):
        compile_filters(["{}", '{"a":1}'], DataKey.KINESIS)
    with pytest.raises(InvalidPattern, match=r"^Invalid filter pattern definition\. data: must be"):
        compile_filters(['{"data":["text"]}'], DataKey.KINESIS)


def test_a_record_is_parsed_once_and_its_data_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str) -> Any:
        parsed.append(text)
        return json.loads(text)

    monkeypatch.setattr(filtering, "parse_json", parse)
    record = kinesis(b'{"a":"x"}')
    metadata = [{"eventSource": [name]} for name in ("a", "b", "c", "d")]
    assert not keeps(DataKey.KINESIS, record, *metadata)
    assert len(parsed) == 1
    data = [{"data": {"a": [name]}} for name in ("v", "w", "y", "z")]
    assert not keeps(DataKey.KINESIS, record, *data)
    assert len(parsed) == 3
    assert keeps(DataKey.KINESIS, record, *data, {"eventSource": ["aws:kinesis"]})
    assert len(parsed) == 4


def test_data_are_the_base64_of_the_delivered_record() -> None:
    record = kinesis(b'{"a":1}')
    before = bytes(record)
    assert keeps(DataKey.KINESIS, record, {"data": {"a": [1]}})
    assert record == before
    assert base64.b64decode(orjson.loads(record)["kinesis"]["data"]) == b'{"a":1}'


@pytest.mark.parametrize("event", [b"", b"{", b'{"a":NaN}', b"\xff"])
def test_what_cannot_be_read_as_json_is_kept_by_no_filter(event: bytes) -> None:
    assert not keeps(DataKey.KINESIS, event, {})


@pytest.mark.parametrize(
    ("source", "pattern", "field"),
    [
        ("sqs", {"data": {"a": [1]}}, "data"),
        ("sqs", {"body": {"a": [1]}, "Body": ["x"]}, "Body"),
        ("sqs", {"body": {"data": [1]}}, None),
        ("sqs", {"data": [{"exists": False}]}, None),
        ("sqs", {"data": {"a": [{"exists": False}]}}, None),
        ("sqs", {"$or": [{"data": [1]}, {"body": ["x"]}]}, None),
        ("sqs", {"$or": [{"data": [1]}, {"Body": ["x"]}]}, "data"),
        ("sqs", {"messageAttributes": {"kind": {"stringValue": ["x"]}}}, None),
        ("sqs", {"md5OfMessageAttributes": ["x"]}, None),
        ("kinesis", {"data": {"a": [1]}, "kinesis": {"partitionKey": ["x"]}}, None),
        ("kinesis", {"body": {"a": [1]}}, "body"),
        ("kinesis", {"dynamodb": {"a": [1]}}, "dynamodb"),
        ("dynamodb", {"dynamodb": {"a": [1]}, "userIdentity": {"type": ["Service"]}}, None),
        ("dynamodb", {"data": {"a": [1]}}, "data"),
    ],
)
def test_a_pattern_that_asks_for_a_field_that_no_record_has_is_found(
    source: str, pattern: Any, field: str | None
) -> None:
    mapping = parse_mapping(
        manifest(source, filterCriteria=filters(json.dumps({"eventID": [""]}), json.dumps(pattern)))
    )
    data = {"sqs": "body", "kinesis": "data", "dynamodb": "dynamodb"}[source]
    told = [FilterNeverMatches(1, field, data)] if field else []
    assert [one for one in doubtful_filters(mapping) if one.index == 1] == told
