"""The failure record that an on-failure destination gets, and where S3 keeps it (contract C.1, C.2). Pure.

Before this: `retry.py`. After this: `destinations/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from headrace.stream import windows
from headrace.stream.encodings import LAMBDA_EVENT
from headrace.stream.instants import instant, moment, whole_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.records import Batch, Record, Window
    from headrace.stream.encodings import Encoding
    from headrace.stream.retry import Discard


@dataclass(frozen=True, slots=True)
class Origin:
    """Where failed records came from: the mapping's function and stream, and the shard."""

    function_arn: str
    stream_arn: str
    shard_id: str
    batch_info: str = "KinesisBatchInfo"
    whole_seconds: bool = False
    """Whether arrivals are told in whole seconds, as DynamoDB has them, or in milliseconds."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """What a destination is handed; each takes the form it has a use for.

    `document` is that of C.1, `records` are the discarded ones, `at` is its `timestamp` in epoch seconds, `name` a
    UUID that stands for these records; `encoding` makes them the Lambda event that they would have been called with.
    """

    document: Mapping[str, Any]
    shard_id: str
    records: Batch
    at: float
    name: str
    encoding: Encoding = LAMBDA_EVENT

    def message(self, limit: int | None = None) -> bytes:
        """The document as JSON, for queues and topics; over `limit` bytes it loses its payload, if it has one (C.6)."""
        body = orjson.dumps(self.document)
        if limit is None or len(body) <= limit:
            return body
        return orjson.dumps({name: value for name, value in self.document.items() if name != "payload"})

    def object_body(self) -> bytes:
        """The document with the discarded records' Lambda event, escaped as a string, whatever the protocol (C.2)."""
        return orjson.dumps({**self.document, "payload": self.encoding.encode(self.records).decode()})

    def object_key(self, mapping_uid: str) -> str:
        """Where S3 keeps it (C.2).

        AWS ends the key with a random UUID. Here it is `name`, so that a publish that is repeated because its answer
        was lost overwrites the object instead of adding one. After a crash between publish and checkpoint the records
        are discarded anew, at another instant: that is a second object, known by the same ending.
        """
        when = f"{moment(self.at):%Y/%m/%d/%Y-%m-%dT%H.%M.%S}"
        return f"aws/lambda/{mapping_uid}/{self.shard_id}/{when}-{self.name}"


def failure_record(origin: Origin, discard: Discard, request_id: str, name: str) -> FailureRecord:
    """The failure record of a discard; `request_id` is the last call's, `name` the UUID of the discarded records."""
    encoding = windows.encoding(discard.window, origin.shard_id, origin.stream_arn)
    document = _document(origin, discard, request_id)
    return FailureRecord(document, origin.shard_id, discard.records, discard.at, name, encoding)


def _document(origin: Origin, discard: Discard, request_id: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": origin.function_arn,
            "condition": discard.condition.value,
            "approximateInvokeCount": discard.invocations,
        },
    }
    if discard.failure is not None:
        document["responseContext"] = {
            "statusCode": discard.failure.status,
            "executedVersion": discard.failure.executed_version,
            "functionError": discard.failure.function_error,
        }
    document |= {
        "version": "1.0",
        "timestamp": instant(discard.at),
        origin.batch_info: {
            "shardId": origin.shard_id,
            **_extent(origin, discard.records),
            "streamArn": origin.stream_arn,
        },
    }
    if discard.window is not None:
        document["timeWindowInfo"] = _window_info(discard.window)
    return document


def _extent(origin: Origin, records: Batch) -> dict[str, Any]:
    """From which record to which; the final call of a tumbling window has none (B.7)."""
    if not records:
        return {}
    first, last = records[0], records[-1]
    return {
        "startSequenceNumber": first.sequence_number,
        "endSequenceNumber": last.sequence_number,
        "approximateArrivalOfFirstRecord": _arrival(origin, first),
        "approximateArrivalOfLastRecord": _arrival(origin, last),
        "batchSize": len(records),
    }


def _arrival(origin: Origin, record: Record) -> str:
    return whole_instant(int(record.arrival)) if origin.whole_seconds else instant(record.arrival)


def _window_info(window: Window) -> dict[str, Any]:
    return {
        "window": windows.bounds(window),
        "isFinalInvokeForWindow": window.final,
        "isWindowTerminatedEarly": window.early,
    }
