"""The failure record that an on-failure destination gets (contract C.1). Pure.

Before this: `retry.py`. After this: `destinations/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from headrace.stream.retry import Discard


@dataclass(frozen=True, slots=True)
class Origin:
    """Where failed records came from: the mapping's function and stream, and the shard."""

    function_arn: str
    stream_arn: str
    shard_id: str
    batch_info: str = "KinesisBatchInfo"


def failure_record(origin: Origin, discard: Discard, request_id: str) -> bytes:
    """The document, as JSON."""
    first, last = discard.records[0], discard.records[-1]
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
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": instant(first.arrival),
            "approximateArrivalOfLastRecord": instant(last.arrival),
            "batchSize": len(discard.records),
            "streamArn": origin.stream_arn,
        },
    }
    return orjson.dumps(document)


def instant(epoch_seconds: float) -> str:
    """A time as AWS writes it: UTC, milliseconds, Z."""
    moment = datetime.fromtimestamp(round(epoch_seconds * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
