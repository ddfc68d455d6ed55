"""A Lambda handler, as it runs in AWS. A record that is no JSON object is its poison."""

from __future__ import annotations

import base64
import json
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Works on record after record and reports the first that fails: from it on the batch is sent again."""
    for record in event["Records"]:
        try:
            work(record)
        except (ValueError, TypeError) as error:
            print(f"{record['eventID']} failed: {error}")
            return {"batchItemFailures": [{"itemIdentifier": record["kinesis"]["sequenceNumber"]}]}
    return {"batchItemFailures": []}


def work(record: dict[str, Any]) -> None:
    """What the function is for; raises on a record it cannot use."""
    order = json.loads(base64.b64decode(record["kinesis"]["data"]))
    if not isinstance(order, dict):
        raise TypeError("an order is an object")
