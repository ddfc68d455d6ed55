"""DynamoDB tables for checkpoints on an emulator."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from headrace.stream.aws import AwsAccess, AwsSettings
from tests.support import aws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def table(endpoint: str) -> AsyncIterator[tuple[str, AwsAccess]]:
    """A new table's name, and the access to it."""
    name = aws.unique("headrace")
    async with aws.client("dynamodb", endpoint) as client:
        await client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("mapping", "object")],
            KeySchema=[
                {"AttributeName": "mapping", "KeyType": "HASH"},
                {"AttributeName": "object", "KeyType": "RANGE"},
            ],
        )
        yield name, AwsAccess(AwsSettings(), endpoint)
