"""A queue in a process of its own that costs little: ReceiveMessage, DeleteMessageBatch, ChangeMessageVisibilityBatch.

It holds so many messages of 1 KB, and forgets no visibility; `GET /_bench/left` tells how many are not deleted.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from argparse import ArgumentParser
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.bench.wire import Connection, listen

BODY = "x" * 1024


@dataclass
class Queue:
    """What is visible, in order, and what was received until when."""

    visible: deque[str] = field(default_factory=deque)
    hidden: dict[str, float] = field(default_factory=dict)

    def receive(self, most: int, seconds: float) -> list[str]:
        now = time.monotonic()
        if not self.visible:
            self.visible += [one for one, until in self.hidden.items() if until <= now]
            for one in self.visible:
                del self.hidden[one]
        taken = [self.visible.popleft() for _ in range(min(most, len(self.visible)))]
        self.hidden |= dict.fromkeys(taken, now + seconds)
        return taken


class Call(Connection):
    """One connection of a consumer, or of who asks."""

    queue: Queue

    def __init__(self) -> None:
        super().__init__()
        self._body = bytearray()

    def received(self, buffer: bytearray, start: int, end: int) -> None:
        self._body += memoryview(buffer)[start:end]

    def respond(self) -> None:
        asked, self._body = bytes(self._body), bytearray()
        if self.request.split(" ", 2)[1].startswith("/_bench/"):
            told: Any = len(self.queue.visible) + len(self.queue.hidden)
        else:
            told = self._told(self.headers["x-amz-target"].partition(".")[2], json.loads(asked))
        self.answer(json.dumps(told).encode())

    def _told(self, operation: str, asked: dict[str, Any]) -> Any:
        queue = self.queue
        match operation:
            case "GetQueueUrl":
                return {"QueueUrl": f"http://stub/{asked['QueueName']}"}
            case "GetQueueAttributes":
                backlog = str(len(queue.visible))
                return {"Attributes": {"VisibilityTimeout": "30", "ApproximateNumberOfMessages": backlog}}
            case "ReceiveMessage":
                taken = queue.receive(asked.get("MaxNumberOfMessages", 1), asked.get("VisibilityTimeout", 30))
                return {"Messages": [_message(one) for one in taken]} if taken else {}
            case "DeleteMessageBatch":
                for entry in asked["Entries"]:
                    queue.hidden.pop(entry["ReceiptHandle"], None)
            case "ChangeMessageVisibilityBatch":
                for entry in asked["Entries"]:
                    queue.hidden[entry["ReceiptHandle"]] = time.monotonic() + entry["VisibilityTimeout"]
        return {"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]], "Failed": []}


_DIGEST = hashlib.md5(BODY.encode(), usedforsecurity=False).hexdigest()
_SENT = str(int(time.time() * 1000))


def _message(receipt: str) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": _SENT, "SenderId": "stub"}
    return {
        "MessageId": receipt,
        "ReceiptHandle": receipt,
        "MD5OfBody": _DIGEST,
        "Body": BODY,
        "Attributes": attributes | {"ApproximateFirstReceiveTimestamp": _SENT},
    }


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    options = parser.parse_args()
    Call.queue = Queue(deque(str(uuid.uuid4()) for _ in range(options.messages)))
    listen(Call)


if __name__ == "__main__":
    main()
