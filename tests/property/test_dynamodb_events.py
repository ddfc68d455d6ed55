"""Events of DynamoDB Streams against an oracle: whatever attributes an item has, they come as they were (contract D.2)."""

from __future__ import annotations

import base64
import json
from typing import Any

import botocore.session
import orjson
from aiobotocore.parsers import AioResponseParserFactory
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.answers import RecordsParserFactory
from headrace.stream.sources.dynamodb import StreamFacts, key_of, to_records

OPERATION = botocore.session.get_session().get_service_model("dynamodbstreams").operation_model("GetRecords")
ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026-01-02T03:04:05.678"
FACTS = StreamFacts(ARN, "eu-west-1")

TEXT = st.text(max_size=20)
NUMBER = st.one_of(
    st.integers(-(10**37), 10**37).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20).map(str),
    st.sampled_from(["0", "1E+125", "-1E-130", "12345678901234567890.1234567890123456789", "007", "1.0"]),
)
BINARY = st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode())
LEAF = st.one_of(
    st.fixed_dictionaries({"S": TEXT}),
    st.fixed_dictionaries({"N": NUMBER}),
    st.fixed_dictionaries({"B": BINARY}),
    st.fixed_dictionaries({"BOOL": st.booleans()}),
    st.just({"NULL": True}),
    st.fixed_dictionaries({"SS": st.lists(TEXT, min_size=1, max_size=3, unique=True)}),
    st.fixed_dictionaries({"NS": st.lists(NUMBER, min_size=1, max_size=3, unique=True)}),
    st.fixed_dictionaries({"BS": st.lists(BINARY, min_size=1, max_size=3, unique=True)}),
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"L": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"M": st.dictionaries(TEXT, inner, max_size=3)}),
    ),
    max_leaves=8,
)
ITEM = st.dictionaries(st.text(min_size=1, max_size=10), VALUE, min_size=1, max_size=4)
KEYS = st.dictionaries(
    st.text(min_size=1, max_size=10),
    st.one_of(st.fixed_dictionaries({"S": TEXT}), st.fixed_dictionaries({"N": NUMBER}), st.fixed_dictionaries({"B": BINARY})),
    min_size=1,
    max_size=2,
)  # fmt: skip
CHANGE = st.fixed_dictionaries(
    {
        "ApproximateCreationDateTime": st.integers(0, 4_000_000_000),
        "Keys": KEYS,
        "SequenceNumber": st.integers(10**20, 10**40 - 1).map(str),
        "SizeBytes": st.integers(1, 400_000),
        "StreamViewType": st.sampled_from(["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]),
    },
    optional={"NewImage": ITEM, "OldImage": ITEM},
)
RECORD = st.fixed_dictionaries(
    {
        "eventID": st.binary(min_size=16, max_size=16).map(bytes.hex),
        "eventName": st.sampled_from(["INSERT", "MODIFY", "REMOVE"]),
        "eventVersion": st.just("1.1"),
        "eventSource": st.just("aws:dynamodb"),
        "awsRegion": st.just("eu-west-1"),
        "dynamodb": CHANGE,
    },
    optional={"userIdentity": st.just({"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"})},
)


async def parsed(factory: Any, body: bytes) -> Any:
    response = {"headers": {"x-amzn-requestid": "r"}, "status_code": 200, "body": body, "context": {}}
    return await factory.create_parser("json").parse(response, OPERATION.output_shape)


def expected(entry: dict[str, Any]) -> dict[str, Any]:
    """The oracle: the record's own words, beside the stream's ARN."""
    event = {**entry, "eventSourceARN": ARN}
    if "userIdentity" in event:
        event["userIdentity"] = {"principalId": "dynamodb.amazonaws.com", "type": "Service"}
    return event


@given(st.lists(RECORD, max_size=3))
async def test_the_event_holds_the_record_exactly_and_the_streams_arn(entries: list[dict[str, Any]]) -> None:
    answer = await parsed(RecordsParserFactory(), json.dumps({"Records": entries, "NextShardIterator": "i"}).encode())
    records = to_records(answer["Records"], FACTS)
    assert [json.loads(record.event) for record in records] == [expected(entry) for entry in entries]
    for record, entry in zip(records, entries, strict=True):
        change = entry["dynamodb"]
        assert (record.sequence_number, record.arrival) == (
            change["SequenceNumber"],
            change["ApproximateCreationDateTime"],
        )
        assert record.key == key_of(change["Keys"])


@given(st.lists(RECORD, max_size=3))
async def test_it_is_what_botocore_would_have_understood(entries: list[dict[str, Any]]) -> None:
    body = orjson.dumps({"Records": entries})
    theirs = await parsed(AioResponseParserFactory(), body)
    ours = await parsed(RecordsParserFactory(), body)
    for our, their in zip(ours["Records"], theirs["Records"], strict=True):
        same = _encoded(their["dynamodb"])
        same["ApproximateCreationDateTime"] = their["dynamodb"]["ApproximateCreationDateTime"].timestamp()
        assert our["dynamodb"] == same


def _encoded(value: Any) -> Any:
    """botocore's bytes as base64 again."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: _encoded(one) for name, one in value.items()}
        case list():
            return [_encoded(one) for one in value]
    return value


@given(KEYS)
def test_a_lanes_key_is_the_whole_primary_key_in_whatever_order_it_is_told(keys: dict[str, Any]) -> None:
    assert key_of(keys) == key_of(dict(reversed(keys.items())))
    assert json.loads(key_of(keys)) == keys


def test_what_is_null_or_unknown_in_a_change_is_not_in_its_event() -> None:
    """Contract D.2, and botocore: a member that is null is not there."""
    change = {
        "ApproximateCreationDateTime": 1.0,
        "Keys": {"pk": {"S": "k"}},
        "NewImage": None,
        "SequenceNumber": "1",
        "SizeBytes": 3,
        "StreamViewType": "KEYS_ONLY",
        "Invented": {},
    }
    entry = {"eventID": "e", "eventName": "INSERT", "eventVersion": "1.1", "dynamodb": change}
    (record,) = to_records([entry], FACTS)
    told = json.loads(record.event)["dynamodb"]
    assert told == {name: value for name, value in change.items() if name not in {"NewImage", "Invented"}}
