"""What a function does with the changes of a table's items: an answer that names the first one it could not handle."""

from __future__ import annotations

import base64
from typing import Any


def handle(event: dict[str, Any]) -> dict[str, Any]:
    """Takes the changes in order and stops at the first that fails: it and everything behind it come again."""
    for record in event["Records"]:
        change = record["dynamodb"]
        try:
            work(record["eventName"], plain(change.get("NewImage") or change["Keys"]))
        except Exception:  # noqa: BLE001 - whatever it was, it is told by the answer
            return {"batchItemFailures": [{"itemIdentifier": change["SequenceNumber"]}]}
    return {"batchItemFailures": []}


def work(what: str, item: dict[str, Any]) -> None:
    """Your work; here: an order needs a status."""
    print(what, item["status"])


def plain(attributes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """DynamoDB's attribute values as Python's own; numbers stay text, which holds every digit."""
    return {name: _value(value) for name, value in attributes.items()}


def _value(attribute: dict[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    match kind:
        case "M":
            return plain(value)
        case "L":
            return [_value(one) for one in value]
        case "B":
            return base64.b64decode(value)
        case "BS":
            return [base64.b64decode(one) for one in value]
        case "NULL":
            return None
    return value
