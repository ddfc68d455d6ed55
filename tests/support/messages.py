"""Messages of a queue for tests: number n is message n, sent at second n."""

from __future__ import annotations

from headrace.stream.queues.messages import Message
from tests.support.records import record


def message(number: int, group: str = "", *, receipt: str = "", received: float = 0.0, expires: float = 1e9) -> Message:
    return Message(record(number, key=group), receipt or f"r{number}", received, expires)


def ids(batch: object) -> list[int]:
    return [int(one.message_id) for one in batch]  # type: ignore[attr-defined]
