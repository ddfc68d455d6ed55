"""Tables with a stream on an emulator: what is written to them comes out of their stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.aws import unique


@dataclass
class Table:
    """A DynamoDB table of the test's own, and its stream."""

    dynamodb: Any
    name: str
    arn: str
    """The stream's."""

    async def put(self, *data: str, key: str = "k") -> None:
        """Items of one partition, each named by what it holds."""
        for text in data:
            await self.put_item({"pk": {"S": key}, "sk": {"S": text}, "data": {"S": text}})

    async def put_item(self, item: dict[str, Any]) -> None:
        await self.dynamodb.put_item(TableName=self.name, Item=item)


async def make_table(dynamodb: Any, view: str = "NEW_AND_OLD_IMAGES") -> Table:
    """A table with the keys `pk` and `sk`."""
    name = unique("table")
    made = await dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
    )
    return Table(dynamodb, name, made["TableDescription"]["LatestStreamArn"])
