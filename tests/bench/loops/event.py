"""What all loops are told, and the Lambda event that they all send: its bytes may differ in spaces only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping


def options_of(parser: ArgumentParser, arguments: list[str] | None = None) -> Namespace:
    """The options that every loop has."""
    parser.add_argument("--endpoint", required=True, help="Kinesis's address")
    parser.add_argument("--arn", required=True, help="the stream's ARN")
    parser.add_argument("--function", required=True, help="the function's address")
    parser.add_argument("--identity", required=True, help="invokeIdentityArn")
    parser.add_argument("--batch", type=int, default=100, help="records of one call at most")
    parser.add_argument("--parallel", type=int, default=1, help="calls at a time for a shard")
    parser.add_argument("--read-every", type=int, default=200, help="milliseconds between two reads of a shard")
    options = parser.parse_args(arguments)
    options.region = options.arn.split(":")[3]
    return options


def event_of(record: Mapping[str, Any], shard_id: str, options: Namespace) -> dict[str, Any]:
    """One record of Lambda's event, from one of GetRecords whose `Data` is the base64 text still."""
    number = record["SequenceNumber"]
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": number,
            "data": record["Data"],
            "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"],
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard_id}:{number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": options.identity,
        "awsRegion": options.region,
        "eventSourceARN": options.arn,
    }
