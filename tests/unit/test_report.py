"""The failure record (contract C.1)."""

from __future__ import annotations

import time
from dataclasses import replace

import orjson
import pytest

from headrace.records import Batch, Window
from headrace.stream import windows
from headrace.stream.classify import Failed, FailureKind
from headrace.stream.instants import instant, whole_instant
from headrace.stream.report import FailureRecord, Origin, failure_record
from headrace.stream.retry import Condition, Discard
from tests.support.records import record, records

NAME = "0b1c2d3e-0000-5111-8222-333344445555"
ORIGIN = Origin(
    "arn:aws:lambda:eu-west-1:123456789012:function:f", "arn:aws:kinesis:eu-west-1:123456789012:stream/s", "shardId-0"
)


def failure(batch: Batch, at: float = 1573691886.021) -> FailureRecord:
    discard = Discard(batch, Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, batch, at=at)
    return failure_record(ORIGIN, discard, "id-1", NAME)


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


def test_the_record_of_a_dynamodb_stream_has_its_own_name_and_whole_seconds() -> None:
    """Contract C.1; a second that has begun is told, not the nearest one."""
    origin = Origin("arn:f", "arn:s", "shardId-0", "DDBStreamBatchInfo", whole_seconds=True)
    batch = records(1, 2, arrival=1573691884.9)
    discard = Discard(batch, Condition.RETRY_ATTEMPTS_EXHAUSTED, 3, None, batch, at=1573691886.021)
    written = orjson.loads(failure_record(origin, discard, "id-1", NAME).message())
    assert "KinesisBatchInfo" not in written
    assert written["timestamp"] == "2019-11-14T00:38:06.021Z"
    assert written["DDBStreamBatchInfo"] == {
        "shardId": "shardId-0",
        "startSequenceNumber": "1",
        "endSequenceNumber": "2",
        "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04Z",
        "approximateArrivalOfLastRecord": "2019-11-14T00:38:04Z",
        "batchSize": 2,
        "streamArn": "arn:s",
    }


def test_a_partial_failure_has_a_null_function_error() -> None:
    written = document(Condition.RETRY_ATTEMPTS_EXHAUSTED, Failed(FailureKind.PARTIAL, None))
    assert written["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": None}


def test_what_was_not_answered_has_no_response_context() -> None:
    assert "responseContext" not in document(Condition.RECORD_AGE_EXCEEDED, None)


@pytest.mark.parametrize(("final", "early"), [(False, False), (True, False), (True, True)])
def test_the_record_tells_the_tumbling_window(final: bool, early: bool) -> None:
    """The final call has no records: its batch info holds the shard and the stream alone (contract B.7)."""
    window = Window(60, 120, "1", b'{"n":1}', final, early)
    batch = () if final else records(1)
    discard = Discard(batch, Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, batch, 130.0, window)
    handed = failure_record(ORIGIN, discard, "id-1", NAME)
    written = orjson.loads(handed.message())
    assert written["timeWindowInfo"] == {
        "window": {"start": "1970-01-01T00:01:00Z", "end": "1970-01-01T00:02:00Z"},
        "isFinalInvokeForWindow": final,
        "isWindowTerminatedEarly": early,
    }
    info = {"shardId": "shardId-0", "streamArn": ORIGIN.stream_arn}
    assert (written["KinesisBatchInfo"] == info) == final
    payload = orjson.loads(orjson.loads(handed.object_body())["payload"])
    assert payload == orjson.loads(windows.encoding(window, "shardId-0", ORIGIN.stream_arn).encode(batch))


def test_without_a_tumbling_window_the_record_tells_of_none() -> None:
    assert "timeWindowInfo" not in document(Condition.RECORD_AGE_EXCEEDED, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1573691885.0, "2019-11-14T00:38:05.000Z"), (0.9996, "1970-01-01T00:00:01.000Z")],
)
def test_instants_have_milliseconds(seconds: float, text: str) -> None:
    assert instant(seconds) == text


def test_instants_are_those_of_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert instant(0) == "1970-01-01T00:00:00.000Z"
        assert whole_instant(60) == "1970-01-01T00:01:00Z"
        assert failure(records(1), 0.0).object_key("uid-1").startswith("aws/lambda/uid-1/shardId-0/1970/01/01/")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_object_holds_the_document_and_the_event_as_an_escaped_string() -> None:
    handed = failure((record(1, event='{"data":"ä \\" \\u0000"}'.encode()), record(2)))
    stored = orjson.loads(handed.object_body())
    payload = stored.pop("payload")
    assert payload == '{"Records":[{"data":"ä \\" \\u0000"},{"n":2}]}'
    assert orjson.loads(payload)["Records"][0] == {"data": 'ä " \0'}
    assert stored == orjson.loads(handed.message())


@pytest.mark.parametrize(
    ("at", "when"),
    [
        (1573691886.021, "2019/11/14/2019-11-14T00.38.06"),
        (1573689599.9994, "2019/11/13/2019-11-13T23.59.59"),
        (1573689599.9996, "2019/11/14/2019-11-14T00.00.00"),
    ],
)
def test_an_objects_key_tells_the_instant_of_its_document(at: float, when: str) -> None:
    handed = failure(records(1), at)
    assert handed.object_key("uid-1") == f"aws/lambda/uid-1/shardId-0/{when}-{NAME}"
    timestamp = orjson.loads(handed.message())["timestamp"]
    assert timestamp.startswith(when.rpartition("/")[2].replace(".", ":"))


def test_a_message_over_the_limit_loses_its_payload_and_nothing_else() -> None:
    plain = failure(records(1))
    laden = replace(plain, document={**plain.document, "payload": "x" * 1000})
    full = laden.message()
    assert laden.message(len(full)) == full
    assert laden.message(len(full) - 1) == plain.message()
    assert plain.message(1) == plain.message()
