"""What a function does with a queue's messages: an answer that names those it could not handle."""

from __future__ import annotations

import json
from typing import Any


def handle(event: dict[str, Any]) -> dict[str, Any]:
    """Takes each message; those that fail come again, the others do not."""
    failed = []
    for record in event["Records"]:
        try:
            work(json.loads(record["body"]))
        except Exception:  # noqa: BLE001 - whatever it was, it is told by the answer
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def work(order: dict[str, Any]) -> None:
    """Your work; here: an order needs a status."""
    print(order["status"])
