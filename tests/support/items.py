"""What a test's record is in a DynamoDB table: an item that holds its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def attribute(value: Any) -> dict[str, Any]:
    """A value of JSON as DynamoDB writes it."""
    match value:
        case bool():
            return {"BOOL": value}
        case None:
            return {"NULL": True}
        case str():
            return {"S": value}
        case int() | float():
            return {"N": str(value)}
        case list():
            return {"L": [attribute(one) for one in value]}
    return {"M": {name: attribute(one) for name, one in value.items()}}


def image_of(data: str, key: str) -> dict[str, Any]:
    """An item under a key: a JSON object becomes its attributes, any other text one of them."""
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    held = value if isinstance(value, dict) else {"data": data}
    return {"pk": {"S": key}} | {name: attribute(one) for name, one in held.items()}


def sequence_number(record: Mapping[str, Any]) -> str:
    """That of a record of either stream, as it stands in the event."""
    return str(record["dynamodb"]["SequenceNumber"] if "dynamodb" in record else record["kinesis"]["sequenceNumber"])
