"""Tables with a stream on an emulator: what is written to them comes out of their stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.support.aws import client, unique
from tests.support.items import image_of


@dataclass
class Table:
    """A DynamoDB table of the test's own, and its stream."""

    dynamodb: Any
    name: str
    arn: str
    """The stream's."""
    numbers: list[str] = field(default_factory=list)
    """Sequence numbers of what was put, in order, once `learn` has looked."""
    puts: int = 0

    async def put(self, *data: str, key: str = "k") -> None:
        """An item under a key is written anew with each; a number in it makes every one a change."""
        for text in data:
            self.puts += 1
            await self.put_item(image_of(text, key) | {"nth": {"N": str(self.puts)}})

    async def put_item(self, item: dict[str, Any]) -> None:
        await self.dynamodb.put_item(TableName=self.name, Item=item)

    async def learn(self, url: str) -> None:
        """Fills in `numbers`: nobody tells a writer what number its change has in the stream."""
        async with client("dynamodbstreams", url) as streams:
            described = await streams.describe_stream(StreamArn=self.arn)
            (shard,) = described["StreamDescription"]["Shards"]
            opened = await streams.get_shard_iterator(
                StreamArn=self.arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            iterator, self.numbers = opened["ShardIterator"], []
            while len(self.numbers) < self.puts:
                page = await streams.get_records(ShardIterator=iterator)
                self.numbers += [record["dynamodb"]["SequenceNumber"] for record in page["Records"]]
                iterator = page["NextShardIterator"]


async def make_table(dynamodb: Any, *ranges: str) -> Table:
    """A table with the hash key `pk`, and range keys of these names."""
    name = unique("table")
    keys = {"pk": "HASH", **dict.fromkeys(ranges, "RANGE")}
    made = await dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return Table(dynamodb, name, made["TableDescription"]["LatestStreamArn"])
