"""`protocol: cloudevents`: a batch as CloudEvents 1.0 in the batched content mode (contract J.3). Pure.

One event a record, in the order of the stream. What the Lambda event calls `itemIdentifier` is `sequencenumber` here;
the call itself and what its answer means are those of `protocol: http`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from headrace.stream.encodings import Encoding
from headrace.stream.instants import instant

if TYPE_CHECKING:
    from headrace.records import Record

CONTENT_TYPE = "application/cloudevents-batch+json"
TYPE = "aws.kinesis.record"
"""`type` of every event: what happened, a record in a stream. It changes when the event's shape does."""
CHANGE_TYPE = "aws.dynamodb.record"
"""The same for a change of an item."""
MESSAGE_TYPE = "aws.sqs.message"
"""The same for a message of a queue."""


def from_kinesis(record: Record) -> bytes:
    """The CloudEvent of a Kinesis record, made of the record's JSON in the Lambda event (contract D.1).

    `id` and `source` are the record's eventID and stream; together they are unique, and the same whenever the record
    comes again. `data_base64` holds the record's bytes untouched, JSON or not.
    """
    event = orjson.loads(record.event)
    kinesis = event["kinesis"]
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event["eventID"],
            "source": event["eventSourceARN"],
            "type": TYPE,
            "time": instant(record.arrival),
            "partitionkey": kinesis["partitionKey"],
            "sequencenumber": kinesis["sequenceNumber"],
            "datacontenttype": "application/octet-stream",
            "data_base64": kinesis["data"],
        }
    )


KINESIS_CLOUDEVENTS = Encoding(b"[", b"]", from_kinesis)
"""A JSON array of CloudEvents."""


def from_dynamodb(record: Record) -> bytes:
    """The CloudEvent of a change of a table's item, made of the record's JSON in the Lambda event (contract D.2).

    `partitionkey` is the item's primary key as JSON, `data` the whole of the record as the Lambda event has it.
    """
    event = orjson.loads(record.event)
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event["eventID"],
            "source": event["eventSourceARN"],
            "type": CHANGE_TYPE,
            "time": instant(record.arrival),
            "partitionkey": record.key,
            "sequencenumber": record.sequence_number,
            "datacontenttype": "application/json",
            "data": orjson.Fragment(record.event),
        }
    )


DYNAMODB_CLOUDEVENTS = Encoding(b"[", b"]", from_dynamodb)
"""A JSON array of CloudEvents."""


def from_sqs(record: Record) -> bytes:
    """The CloudEvent of a message, made of the message's JSON in the Lambda event (contract D.3), which is its `data`.

    `id` is the message's, the same at every receive, and its `itemIdentifier`.
    """
    event = orjson.loads(record.event)
    group = {"partitionkey": record.key} if record.key else {}
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": record.sequence_number,
            "source": event["eventSourceARN"],
            "type": MESSAGE_TYPE,
            "time": instant(record.arrival),
            **group,
            "datacontenttype": "application/json",
            "data": orjson.Fragment(record.event),
        }
    )


SQS_CLOUDEVENTS = Encoding(b"[", b"]", from_sqs)
"""A JSON array of CloudEvents."""
