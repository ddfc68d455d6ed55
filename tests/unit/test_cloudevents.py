"""`protocol: cloudevents`: what a function gets (contract J.3), and that limits are those of what is sent."""

from __future__ import annotations

import base64
import itertools

import orjson
from hypothesis import given
from hypothesis import strategies as st

from headrace.records import Record
from headrace.spec import parse_mapping
from headrace.stream.batching import EVENT_LIMIT, BatchLimits, Buffer
from headrace.stream.encodings import LAMBDA_EVENT
from headrace.stream.functions.cloudevents import DYNAMODB_CLOUDEVENTS, KINESIS_CLOUDEVENTS, from_kinesis
from headrace.stream.settings import delivery_of
from headrace.stream.sources import dynamodb
from headrace.stream.sources.kinesis import RecordFacts, to_records
from tests.support.mappings import manifest

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"
FACTS = RecordFacts(ARN, "eu-west-1", "arn:aws:iam::123456789012:role/r")


def kinesis_record(number: int, data: bytes = b"x", key: str = "k", at: float = 1573691884.835) -> Record:
    entry = {
        "SequenceNumber": str(number),
        "PartitionKey": key,
        "Data": base64.b64encode(data).decode(),
        "ApproximateArrivalTimestamp": at,
    }
    return to_records([entry], "shardId-0", FACTS)[0]


def test_a_record_becomes_one_event() -> None:
    assert orjson.loads(from_kinesis(kinesis_record(7, b"\x00\xff", "the key"))) == {
        "specversion": "1.0",
        "id": "shardId-0:7",
        "source": ARN,
        "type": "aws.kinesis.record",
        "time": "2019-11-14T00:38:04.835Z",
        "partitionkey": "the key",
        "sequencenumber": "7",
        "datacontenttype": "application/octet-stream",
        "data_base64": base64.b64encode(b"\x00\xff").decode(),
    }


def test_attribute_names_are_those_the_specification_allows() -> None:
    names = set(orjson.loads(from_kinesis(kinesis_record(7)))) - {"data_base64"}
    assert all(name.isascii() and name.isalnum() and name.islower() for name in names)


def test_json_is_delivered_as_bytes_too() -> None:
    event = orjson.loads(from_kinesis(kinesis_record(1, b'{"a": 1}')))
    assert base64.b64decode(event["data_base64"]) == b'{"a": 1}'


def test_a_batch_is_an_array_in_the_order_of_the_stream() -> None:
    body = orjson.loads(KINESIS_CLOUDEVENTS.encode((kinesis_record(1), kinesis_record(2))))
    assert [event["sequencenumber"] for event in body] == ["1", "2"]


def test_a_change_of_an_item_becomes_one_event_that_holds_all_of_it() -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026-01-02T03:04:05.678"
    change = {"ApproximateCreationDateTime": 1573691884.0, "Keys": {"id": {"N": "7"}}, "SequenceNumber": "42"}
    entry = {"eventID": "e", "eventName": "REMOVE", "eventVersion": "1.1", "awsRegion": "eu-west-1", "dynamodb": change}
    (record,) = dynamodb.to_records([entry], dynamodb.StreamFacts(arn, "eu-west-1"))
    (event,) = orjson.loads(DYNAMODB_CLOUDEVENTS.encode((record,)))
    assert event == {
        "specversion": "1.0",
        "id": "e",
        "source": arn,
        "type": "aws.dynamodb.record",
        "time": "2019-11-14T00:38:04.000Z",
        "partitionkey": '{"id":{"N":"7"}}',
        "sequencenumber": "42",
        "datacontenttype": "application/json",
        "data": orjson.loads(record.event),
    }


def test_the_protocol_decides_how_a_batch_is_sent() -> None:
    def encoding_of(protocol: str, source: str = "kinesis") -> object:
        mapping = parse_mapping(manifest(source, function={"url": "http://f", "protocol": protocol}))
        return delivery_of(mapping).limits.encoding

    assert encoding_of("cloudevents") is KINESIS_CLOUDEVENTS
    assert encoding_of("cloudevents", "dynamodb") is DYNAMODB_CLOUDEVENTS
    assert encoding_of("lambda") is encoding_of("http") is LAMBDA_EVENT


def test_the_plain_protocols_rules_judge_the_answers() -> None:
    mapping = parse_mapping(manifest(function={"url": "http://f", "protocol": "cloudevents"}))
    assert not delivery_of(mapping).lambda_protocol


payloads = st.lists(st.tuples(st.binary(max_size=60), st.text(min_size=1, max_size=20)), min_size=1, max_size=8)


@given(payloads, st.integers(200, 1500))
def test_the_limit_is_that_of_the_body_sent(made: list[tuple[bytes, str]], limit: int) -> None:
    """No batch of several is over the limit, and none closes for its size while the next record would have fitted."""
    held = [kinesis_record(number, data, key) for number, (data, key) in enumerate(made)]
    buffer = Buffer(BatchLimits(100, event_limit=limit, encoding=KINESIS_CLOUDEVENTS), now=0.0)
    buffer.add(tuple(held), 0.0)
    batches = []
    while batch := buffer.take(0.0):
        batches.append(batch)
    assert [one for batch in batches for one in batch] == held
    encode_events = KINESIS_CLOUDEVENTS.encode
    assert all(len(encode_events(batch)) <= limit or len(batch) == 1 for batch in batches)
    for batch, following in itertools.pairwise(batches):
        assert len(encode_events((*batch, following[0]))) > limit


def test_a_record_too_large_for_lambdas_event_is_not_refused_where_its_own_body_fits() -> None:
    largest = kinesis_record(1, b"x" * (EVENT_LIMIT * 3 // 4 - 250))
    assert len(KINESIS_CLOUDEVENTS.encode((largest,))) < EVENT_LIMIT < len(LAMBDA_EVENT.encode((largest,)))
