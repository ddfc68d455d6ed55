"""The failure record (contract C.1)."""

from __future__ import annotations

import orjson
import pytest

from headrace.stream.classify import Failed, FailureKind
from headrace.stream.report import Origin, failure_record, instant
from headrace.stream.retry import Condition, Discard
from tests.support.records import records

NAME = "0b1c2d3e-0000-5111-8222-333344445555"
ORIGIN = Origin(
    "arn:aws:lambda:eu-west-1:123456789012:function:f", "arn:aws:kinesis:eu-west-1:123456789012:stream/s", "shardId-0"
)


def document(condition: Condition, failure: Failed | None) -> dict[str, object]:
    batch = records(1, 2, arrival=1573691884.8354)
    discard = Discard(batch, condition, 3, failure, batch, at=1573691886.021)
    loaded = orjson.loads(failure_record(ORIGIN, discard, "id-1", NAME).message())
    assert isinstance(loaded, dict)
    return loaded


def test_the_record_is_the_one_aws_writes() -> None:
    failed = Failed(FailureKind.FUNCTION_ERROR, "Unhandled")
    assert document(Condition.RETRY_ATTEMPTS_EXHAUSTED, failed) == {
        "requestContext": {
            "requestId": "id-1",
            "functionArn": ORIGIN.function_arn,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2019-11-14T00:38:06.021Z",
        "KinesisBatchInfo": {
            "shardId": "shardId-0",
            "startSequenceNumber": "1",
            "endSequenceNumber": "2",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04.835Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:38:04.835Z",
            "batchSize": 2,
            "streamArn": ORIGIN.stream_arn,
        },
    }


def test_a_partial_failure_has_a_null_function_error() -> None:
    written = document(Condition.RETRY_ATTEMPTS_EXHAUSTED, Failed(FailureKind.PARTIAL, None))
    assert written["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": None}


def test_what_was_not_answered_has_no_response_context() -> None:
    assert "responseContext" not in document(Condition.RECORD_AGE_EXCEEDED, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1573691885.0, "2019-11-14T00:38:05.000Z"), (0.9996, "1970-01-01T00:00:01.000Z")],
)
def test_instants_have_milliseconds(seconds: float, text: str) -> None:
    assert instant(seconds) == text
