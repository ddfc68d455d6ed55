"""The stream of the demo: orders of six customers, one of which no function can read.

After this: the stream, then `function.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.demo.board import Tell
    from headrace.stream.aws import Client

RATE = 10
"""Orders a second."""
POISON = "12,50"
"""An amount with a decimal comma: float() refuses it, today and at every retry."""
CUSTOMERS = ("ada", "hana", "bob", "ivo", "cleo", "june")
"""Partition keys; by their hash they fall on the two shards in turn."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many orders there will be, which one is the poison, and at which one the function gets busy."""

    total: int
    poison: int
    busy: int

    @classmethod
    def over(cls, seconds: int) -> Plan:
        """The plan for so many seconds (at least 3)."""
        total = seconds * RATE
        return cls(total, poison=total // 4, busy=total * 6 // 10)


def order(number: int, plan: Plan) -> dict[str, Any]:
    """Order `number`, counted from 1."""
    amount = POISON if number == plan.poison else f"{5 + number * 7 % 40}.{number * 25 % 100:02}"
    return {"order": number, "customer": CUSTOMERS[number % len(CUSTOMERS)], "amount": amount}


@dataclass(slots=True)
class Producer:
    """Writes orders and remembers each as the stream confirmed it."""

    stream: str
    kinesis: Client
    tell: Tell
    written: list[str] = field(default_factory=list)
    """`SHARD:SEQUENCE_NUMBER` of every record written, in order: the form of an event's `eventID`."""

    async def write(self, plan: Plan, on_busy: Callable[[], None]) -> None:
        """Writes every order of the plan at its time; raises one of `aws.FAILURES`."""
        clock = asyncio.get_running_loop().time
        began = clock()
        for number in range(1, plan.total + 1):
            await asyncio.sleep(began + number / RATE - clock())
            if number == plan.busy:
                on_busy()
            await self._put(order(number, plan))
            if number == plan.poison:
                shard = shard_name(self.written[-1].partition(":")[0])
                self.tell(
                    "producer", f'writes order {number} to {shard}, amount "{POISON}": the function cannot read it'
                )
        self.tell("producer", f"has written its {plan.total} orders")

    async def _put(self, body: dict[str, Any]) -> None:
        answer = await self.kinesis.call(
            "put_record", StreamName=self.stream, Data=orjson.dumps(body), PartitionKey=body["customer"]
        )
        self.written.append(f"{answer['ShardId']}:{answer['SequenceNumber']}")


def shard_name(shard_id: str) -> str:
    """`shard 1` for shardId-000000000001."""
    return f"shard {int(shard_id.rpartition('-')[2])}"
