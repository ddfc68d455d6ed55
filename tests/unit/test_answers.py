"""What carries records is decoded as botocore decodes it, and anything else by botocore."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import botocore.session
import orjson
import pytest
from aiobotocore.parsers import AioResponseParserFactory
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.answers import RecordsParserFactory, is_plain
from headrace.stream.sources.kinesis import RecordFacts, to_records

KINESIS = botocore.session.get_session().get_service_model("kinesis")
FACTS = RecordFacts("arn:aws:kinesis:eu-west-1:123456789012:stream/s", "eu-west-1", "arn:aws:iam::123456789012:role/r")
RECORDED = orjson.dumps(
    {
        "Records": [
            {
                "SequenceNumber": "49545115243490985018280067714973144582180062593244200961",
                "ApproximateArrivalTimestamp": 1.441215410867e9,
                "Data": "XzxkYXRhPl8w",
                "PartitionKey": "partitionKey",
                "EncryptionType": "KMS",
            }
        ],
        "NextShardIterator": "AAAAAAAAAAHsW8zCWf9164uy8Epue6WS3w6wmj4a4USt",
        "MillisBehindLatest": 2100,
        "ChildShards": [
            {
                "ShardId": "shardId-000000000001",
                "ParentShards": ["shardId-000000000000"],
                "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
            }
        ],
    }
)
"""As the API reference of GetRecords shows one."""
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "SequenceNumber": st.integers(0, 2**186).map(str),
            "ApproximateArrivalTimestamp": st.integers(0, 4_000_000_000_000).map(lambda number: number / 1000),
            "Data": st.binary(max_size=100).map(lambda data: base64.b64encode(data).decode()),
            "PartitionKey": st.text(min_size=1, max_size=256),
        },
        optional={"EncryptionType": st.sampled_from(["NONE", "KMS"])},
    ),
    max_size=5,
)


async def parsed(factory: Any, body: bytes, operation: str = "GetRecords", status: int = 200) -> Any:
    response = {"headers": {"x-amzn-requestid": "r"}, "status_code": status, "body": body, "context": {}}
    return await factory.create_parser("json").parse(response, KINESIS.operation_model(operation).output_shape)


def as_botocore_has_it(answer: Any) -> Any:
    """Its blobs and times as they were in the answer."""
    for record in answer["Records"]:
        record["Data"] = base64.b64encode(record["Data"]).decode()
        record["ApproximateArrivalTimestamp"] = round(record["ApproximateArrivalTimestamp"].timestamp(), 3)
    return answer


async def test_a_recorded_answer_is_the_same_from_both_decoders() -> None:
    ours = await parsed(RecordsParserFactory(), RECORDED)
    assert ours == as_botocore_has_it(await parsed(AioResponseParserFactory(), RECORDED))
    assert ours["Records"][0]["Data"] == "XzxkYXRhPl8w"


@given(RECORDS, st.integers(0, 10**9))
async def test_records_are_the_same_from_both_decoders(records: list[dict[str, Any]], behind: int) -> None:
    body = orjson.dumps({"Records": records, "MillisBehindLatest": behind, "NextShardIterator": "i"})
    ours = await parsed(RecordsParserFactory(), body)
    theirs = as_botocore_has_it(await parsed(AioResponseParserFactory(), body))
    assert ours == theirs
    assert to_records(ours["Records"], "s", FACTS) == to_records(theirs["Records"], "s", FACTS)


async def test_every_other_answer_and_every_error_is_botocores() -> None:
    listed = orjson.dumps({"Shards": [], "NextToken": "t"})
    refused = orjson.dumps({"__type": "ExpiredIteratorException", "message": "m"})
    for body, operation, status in ((listed, "ListShards", 200), (refused, "GetRecords", 400)):
        ours = await parsed(RecordsParserFactory(), body, operation, status)
        assert ours == await parsed(AioResponseParserFactory(), body, operation, status)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"Records":'])
async def test_what_is_no_object_of_json_is_refused(body: bytes) -> None:
    with pytest.raises(ResponseParserError):
        await parsed(RecordsParserFactory(), body)


ESCAPED = st.text(st.sampled_from(list('ab/"\\\n\u00fc\u2028\u0000\U0001f600')), max_size=20)
"""What JSON writes in more than one way, or must escape."""


@given(
    st.lists(st.tuples(ESCAPED, ESCAPED), min_size=1, max_size=3),
    st.sampled_from([orjson.dumps, lambda answer: json.dumps(answer).encode()]),
    st.booleans(),
)
async def test_an_event_is_the_same_however_the_answer_wrote_its_texts(
    texts: list[tuple[str, str]], dumps: Callable[[Any], bytes], slashes: bool
) -> None:
    """With nothing escaped texts go between quotes as they came, else they are written anew."""
    records = [
        {"SequenceNumber": "1", "ApproximateArrivalTimestamp": 1.5, "Data": data, "PartitionKey": key or "k"}
        for data, key in texts
    ]
    body = dumps({"Records": records})
    answer = await parsed(RecordsParserFactory(), body.replace(b"/", b"\\/") if slashes else body)
    made = to_records(answer["Records"], "s", FACTS, plain=is_plain(answer))
    assert made == to_records(records, "s", FACTS, plain=False)
    for record, told in zip(made, records, strict=True):
        event = orjson.loads(record.event)["kinesis"]
        assert (event["data"], event["partitionKey"]) == (told["Data"], told["PartitionKey"])
