"""DynamoDB Streams as the API reference describes it, with what no emulator does: shards that rotate and are trimmed.

Only the four operations that a consumer needs. Faults are queued by operation: each answers one request.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.answering import answering
from tests.support.aws import REGION

ACCOUNT = "000000000000"
ITERATOR_LIFE = 900.0


@dataclass
class FakeShard:
    """A shard, its records, and how many of them retention has let go."""

    shard_id: str
    parent: str | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False
    trimmed: int = 0

    def described(self) -> dict[str, Any]:
        numbers = [record["dynamodb"]["SequenceNumber"] for record in self.records]
        extent = {"StartingSequenceNumber": numbers[0] if numbers else "1"}
        if self.closed:
            extent["EndingSequenceNumber"] = numbers[-1] if numbers else "1"
        parent = {"ParentShardId": self.parent} if self.parent else {}
        return {"ShardId": self.shard_id, "SequenceNumberRange": extent, **parent}


class Refused(Exception):
    """A request that is refused with a code."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


@dataclass
class FakeTable:
    """A table with a stream; `put` changes an item, `rotate` closes a shard and opens its child."""

    name: str = "orders"
    label: str = "2026-01-02T03:04:05.678"
    page: int = 100
    """Shards that one DescribeStream gives."""
    page_of_records: int = 1000
    """Records that one GetRecords gives, whatever is asked for."""
    shards: dict[str, FakeShard] = field(default_factory=dict)
    faults: dict[str, list[Refused]] = field(default_factory=lambda: defaultdict(list))
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    late: float = 0.0
    """Seconds by which the clock of iterators is ahead: 900 make every one expire."""
    empty_pages: int = 0
    """GetRecords that find nothing yet although there is something."""
    url: str = ""
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        if not self.shards:
            self.open()

    @property
    def arn(self) -> str:
        return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{self.name}/stream/{self.label}"

    def open(self, parent: str | None = None) -> FakeShard:
        number = len(self.shards)
        shard = FakeShard(f"shardId-{1_700_000_000_000 + number:020}-{number:08x}", parent)
        self.shards[shard.shard_id] = shard
        return shard

    def shard(self, index: int) -> FakeShard:
        return list(self.shards.values())[index]

    def put(self, *data: str, key: str = "k", shard: int = -1, at: float | None = None, **more: Any) -> list[str]:
        """Changes that hold these texts; gives their sequence numbers, which grow in length too."""
        put = []
        for text in data:
            # The nth number is longer the later it comes: as integers they are in order, as text they are not.
            number = str(10**20 + next(self._numbers) * 7 * 10**19)
            keys = {"pk": {"S": key}}
            change = {
                "ApproximateCreationDateTime": float(int(time.time() if at is None else at)),
                "Keys": keys,
                "NewImage": {**keys, "data": {"S": text}},
                "SequenceNumber": number,
                "SizeBytes": len(text),
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            }
            record = {
                "eventID": f"{int(number):032x}"[-32:],
                "eventName": "INSERT",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": REGION,
                "dynamodb": change,
                **more,
            }
            self.shard(shard).records.append(record)
            put.append(number)
        return put

    def rotate(self, shard: int = -1, children: int = 1) -> list[FakeShard]:
        """Closes a shard and opens those that go on from it."""
        parent = self.shard(shard)
        parent.closed = True
        return [self.open(parent.shard_id) for _ in range(children)]

    def trim(self, shard: int, count: int | None = None) -> None:
        """Retention lets go of the oldest records; with None of the whole shard."""
        found = self.shard(shard)
        if count is None:
            del self.shards[found.shard_id]
        else:
            found.trimmed = count

    # ---- the service

    async def handle(self, request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        arguments = orjson.loads(await request.read())
        self.calls.append((operation, arguments))
        try:
            if self.faults[operation]:
                raise self.faults[operation].pop(0)
            answer = getattr(self, f"_{operation}")(**arguments)
        except Refused as refused:
            body = {"__type": f"com.amazonaws.dynamodb.v20120810#{refused.code}", "message": "refused"}
            return web.json_response(body, status=refused.status, content_type="application/x-amz-json-1.0")
        return web.Response(body=orjson.dumps(answer), content_type="application/x-amz-json-1.0")

    def _known(self, arn: str) -> None:
        if arn != self.arn:
            raise Refused("ResourceNotFoundException")

    def _DescribeStream(  # noqa: N802 - as the service names it
        self,
        StreamArn: str,  # noqa: N803
        Limit: int = 100,  # noqa: N803
        ExclusiveStartShardId: str | None = None,  # noqa: N803
        ShardFilter: dict[str, str] | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        self._known(StreamArn)
        found = list(self.shards.values())
        if ShardFilter:
            found = [shard for shard in found if shard.parent == ShardFilter["ShardId"]]
        if ExclusiveStartShardId:
            names = [shard.shard_id for shard in found]
            found = found[names.index(ExclusiveStartShardId) + 1 :]
        page = found[: min(Limit, self.page)]
        more = {"LastEvaluatedShardId": page[-1].shard_id} if len(page) < len(found) else {}
        description = {"StreamArn": self.arn, "StreamStatus": "ENABLED", "Shards": [one.described() for one in page]}
        return {"StreamDescription": {**description, **more}}

    def _GetShardIterator(  # noqa: N802
        self,
        StreamArn: str,  # noqa: N803
        ShardId: str,  # noqa: N803
        ShardIteratorType: str,  # noqa: N803
        SequenceNumber: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        self._known(StreamArn)
        if ShardId not in self.shards:
            raise Refused("ResourceNotFoundException")
        shard = self.shards[ShardId]
        match ShardIteratorType:
            case "TRIM_HORIZON":
                place = shard.trimmed
            case "LATEST":
                place = len(shard.records)
            case "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER":
                numbers = [record["dynamodb"]["SequenceNumber"] for record in shard.records]
                if SequenceNumber not in numbers:
                    raise Refused("ValidationException")
                place = numbers.index(SequenceNumber) + (ShardIteratorType == "AFTER_SEQUENCE_NUMBER")
                if place < shard.trimmed:
                    raise Refused("TrimmedDataAccessException")
            case _:
                raise Refused("ValidationException")
        return {"ShardIterator": self._iterator(ShardId, place)}

    def _GetRecords(self, ShardIterator: str, Limit: int = 1000) -> dict[str, Any]:  # noqa: N802, N803
        _, shard_id, text, born = ShardIterator.split("|")
        place = int(text)
        if time.time() + self.late - float(born) > ITERATOR_LIFE:
            raise Refused("ExpiredIteratorException")
        if shard_id not in self.shards:
            raise Refused("ResourceNotFoundException")
        shard = self.shards[shard_id]
        if place < shard.trimmed:
            raise Refused("TrimmedDataAccessException")
        if not 1 <= Limit <= 1000:
            raise Refused("ValidationException")
        if self.empty_pages:
            self.empty_pages -= 1
            return {"Records": [], "NextShardIterator": self._iterator(shard_id, place)}
        found = shard.records[place : place + min(Limit, self.page_of_records)]
        after = place + len(found)
        over = shard.closed and after == len(shard.records)
        return {"Records": found} | ({} if over else {"NextShardIterator": self._iterator(shard_id, after)})

    def _iterator(self, shard_id: str, place: int) -> str:
        return f"{self.arn}|{shard_id}|{place}|{time.time()}"


@asynccontextmanager
async def serving(table: FakeTable) -> AsyncIterator[FakeTable]:
    """Serves a table's stream on a free port: `url`."""
    async with answering(table.handle) as table.url:
        yield table
