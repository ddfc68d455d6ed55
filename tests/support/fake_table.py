"""A DynamoDB table in memory, as far as checkpoints ask for one: what it is asked is noted."""

from __future__ import annotations

import copy
import math
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from headrace.stream.stores.table_rows import Item


@dataclass
class FakeTable:
    """Stands for the access to AWS, and for its client of DynamoDB; a page of a query holds `page` rows.

    `refusals` maps an operation to the error code that it ends in.
    """

    page: int = 1000
    rows: dict[tuple[str, str], Item] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)

    async def client(self, service: str, region: str, stack: AsyncExitStack, *, read_timeout: float) -> FakeTable:
        assert service == "dynamodb"
        return self

    async def get_item(self, **arguments: Any) -> Any:
        self._note("get_item", arguments)
        assert arguments["ConsistentRead"]
        found = self.rows.get(_key(arguments["Key"]))
        return {"Item": copy.deepcopy(found)} if found is not None else {}

    async def put_item(self, **arguments: Any) -> Any:
        self._note("put_item", arguments)
        item, values = arguments["Item"], arguments.get("ExpressionAttributeValues")
        there = self.rows.get(_key(item))
        if values is None:
            assert arguments["ConditionExpression"] == "attribute_not_exists(#object)"
            holds = there is None
        else:
            assert arguments["ConditionExpression"] == "#version = :version"
            holds = there is not None and there["version"] == values[":version"]
        if not holds:
            raise _refused("ConditionalCheckFailedException", "put_item")
        self.rows[_key(item)] = copy.deepcopy(item)
        return {}

    async def delete_item(self, **arguments: Any) -> Any:
        self._note("delete_item", arguments)
        self.rows.pop(_key(arguments["Key"]), None)
        return {}

    async def query(self, **arguments: Any) -> Any:
        self._note("query", arguments)
        assert arguments["ConsistentRead"]
        values = arguments["ExpressionAttributeValues"]
        partition, prefix = values[":mapping"]["S"], values[":prefix"]["S"]
        after = arguments.get("ExclusiveStartKey", {}).get("object", {}).get("S", "")
        names = sorted(name for where, name in self.rows if where == partition and name.startswith(prefix))
        names = [name for name in names if name > after]
        found = [copy.deepcopy(self.rows[partition, name]) for name in names[: self.page]]
        last = {key: found[-1][key] for key in ("mapping", "object")} if len(names) > self.page else None
        return {"Items": found} | ({"LastEvaluatedKey": last} if last else {})

    def written(self) -> list[Item]:
        """The rows of all writes so far, refused ones among them."""
        return [arguments["Item"] for operation, arguments in self.asked if operation == "put_item"]

    def _note(self, operation: str, arguments: dict[str, Any]) -> None:
        self.asked.append((operation, copy.deepcopy(arguments)))
        if operation in self.refusals:
            raise _refused(self.refusals[operation], operation)


def _key(item: Item) -> tuple[str, str]:
    return item["mapping"]["S"], item["object"]["S"]


def _refused(code: str, operation: str) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, operation)


def row_bytes(row: Item) -> int:
    """As DynamoDB counts: names and values in UTF-8; a number takes a byte per two digits and one more."""
    total = 0
    for name, value in row.items():
        total += len(name) + (len(value["S"].encode()) if "S" in value else math.ceil(len(value["N"]) / 2) + 1)
    return total
