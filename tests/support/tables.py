"""DynamoDB tables for checkpoints on an emulator."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headrace.stream.aws import AwsAccess, AwsSettings
from tests.support import aws
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack


@dataclass
class Refusing:
    """An access to a table whose next requests are refused: error codes in order, by operation."""

    access: AwsAccess
    refusals: dict[str, list[str]] = field(default_factory=dict)

    async def client(self, service: str, region: str, stack: AsyncExitStack, *, read_timeout: float) -> Any:
        self.inner = await self.access.client(service, region, stack, read_timeout=read_timeout)
        return self

    def __getattr__(self, operation: str) -> Any:
        refusals = self.refusals.get(operation)
        if not refusals:
            return getattr(self.inner, operation)
        answer: Any = {"Error": {"Code": refusals.pop(0), "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}

        async def refused(**_: Any) -> None:
            raise ClientError(answer, operation)

        return refused


@asynccontextmanager
async def table(endpoint: str, name: str | None = None) -> AsyncIterator[tuple[str, AwsAccess]]:
    """A new table's name, and the access to it."""
    name = name or aws.unique("headrace")
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


def documented_queries(uid: str) -> list[dict[str, Any]]:
    """What the command in docs/alerts.md asks a table for, one query after the other."""
    (script,) = re.findall(r"```sh\n(ID=.*?)```", (ROOT / "docs" / "alerts.md").read_text(), re.DOTALL)
    (numbers,) = re.findall(r"^for N in ([\d ]+); do$", script, re.MULTILINE)
    told = dict(re.findall(r"--([\w-]+) '(.*?)'(?:\s|$)", script.replace("'$ID/$N'", "$ID/$N")))
    return [
        {
            "KeyConditionExpression": told["key-condition-expression"],
            "ExpressionAttributeNames": json.loads(told["expression-attribute-names"]),
            "ExpressionAttributeValues": json.loads(
                told["expression-attribute-values"].replace("$ID/$N", f"{uid}/{number}")
            ),
        }
        for number in numbers.split()
    ]
