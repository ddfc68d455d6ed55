"""ShardLeases and WindowStates as rows of a DynamoDB table: for more shards than an API server should carry.

The store is the same as for Kubernetes (`kubernetes.py`); this does for it by conditional writes what the API server
does by resource versions. The table has the partition key `mapping` and the sort key `object`, both texts. The `body`
of a row is the object as JSON, its `version` a number that every write raises.
"""

from __future__ import annotations

import asyncio
import uuid
import zlib
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import ClientError

from headrace.cluster import ClusterError, Conflict
from headrace.errors import Reason
from headrace.resources import LABEL_SHARD_LEASE
from headrace.stream.aws import FAILURES, Client, reason_of

if TYPE_CHECKING:
    from headrace.cluster import Body
    from headrace.resources import Kind, MappingRef
    from headrace.stream.aws import AwsAccess

READ_TIMEOUT = 10.0
"""Seconds for one request."""
BUCKETS = 8
"""Partition keys of one mapping: a partition takes 1,000 writes of 1 KB a second, and every shard may write once."""
PIECE = 280_000
"""Compressed bytes of a window's state in one row: as base64 and with its key below DynamoDB's 400 KB."""
_CONDITION_FAILED = "ConditionalCheckFailedException"
_KEYS = "with the partition key `mapping` and the sort key `object`, both strings"
_ADVICE = {
    Reason.NOT_FOUND: f"make the table, {_KEYS}, or correct spec.poller.checkpointTable",
    Reason.ACCESS_DENIED: "allow dynamodb:GetItem, PutItem, DeleteItem and Query on it",
    Reason.INVALID_CREDENTIALS: "give the poller valid AWS credentials",
    Reason.UNREACHABLE: "check the network and the endpoint",
    Reason.REJECTED: f"the table needs to be one {_KEYS}",
}


class DynamoDBTable:
    """The objects of one mapping in a table; raises ClusterError as an API server's client does."""

    def __init__(self, table: str, mapping: MappingRef, access: AwsAccess, region: str) -> None:
        self._table = table
        self._mapping = mapping
        self._client = Client(access, "dynamodb", region, read_timeout=READ_TIMEOUT)

    async def find(self, kind: Kind, _namespace: str, name: str) -> Body | None:
        """One object as it is now, None when it is not there."""
        answer = await self._call("get_item", Key=self._key(kind, name), ConsistentRead=True)
        return _body(answer["Item"]) if answer.get("Item") else None

    async def select(self, kind: Kind, _namespace: str | None, selector: str = "") -> list[Body]:
        """The mapping's objects of a kind as they are now; of one ShardLease, where the selector names one."""
        labels = dict(part.split("=", 1) for part in selector.split(",") if part)
        prefix = f"{kind.plural}/{labels[LABEL_SHARD_LEASE]}-" if LABEL_SHARD_LEASE in labels else f"{kind.plural}/"
        pages = await asyncio.gather(
            *(self._query(f"{self._mapping.uid}/{number}", prefix) for number in range(BUCKETS))
        )
        return [body for bodies in pages for body in bodies]

    async def _query(self, partition: str, prefix: str) -> list[Body]:
        query: dict[str, Any] = {
            "KeyConditionExpression": "#mapping = :mapping AND begins_with(#object, :prefix)",
            "ExpressionAttributeNames": {"#mapping": "mapping", "#object": "object"},
            "ExpressionAttributeValues": {":mapping": {"S": partition}, ":prefix": {"S": prefix}},
            "ConsistentRead": True,
        }
        found: list[Body] = []
        while True:
            page = await self._call("query", **query)
            found += map(_body, page["Items"])
            if not page.get("LastEvaluatedKey"):
                return found
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def create(self, kind: Kind, body: Body) -> Body:
        """Raises Conflict when an object of that name is there."""
        made = body | {"metadata": body["metadata"] | {"uid": str(uuid.uuid4())}}
        return await self._put(kind, made, 1, "attribute_not_exists(#object)", {"#object": "object"}, {})

    async def replace(self, kind: Kind, body: Body) -> Body:
        """Raises Conflict unless the version is the one that the body was read at."""
        version = int(body["metadata"]["resourceVersion"])
        return await self._put(
            kind, body, version + 1, "#version = :version", {"#version": "version"}, {":version": {"N": str(version)}}
        )

    async def delete(self, kind: Kind, body: Body) -> None:
        """Names are never used again, so there is nothing to compare; nothing to do is no error."""
        await self._call("delete_item", Key=self._key(kind, body["metadata"]["name"]))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def _key(self, kind: Kind, name: str) -> dict[str, Any]:
        partition = f"{self._mapping.uid}/{zlib.crc32(name.encode()) % BUCKETS}"
        return {"mapping": {"S": partition}, "object": {"S": f"{kind.plural}/{name}"}}

    async def _put(
        self, kind: Kind, body: Body, version: int, condition: str, names: dict[str, str], values: dict[str, Any]
    ) -> Body:
        written = body | {"metadata": body["metadata"] | {"resourceVersion": str(version)}}
        item = self._key(kind, body["metadata"]["name"]) | {
            "version": {"N": str(version)},
            "body": {"S": orjson.dumps(written).decode()},
        }
        arguments = {"Item": item, "ConditionExpression": condition, "ExpressionAttributeNames": names}
        await self._call("put_item", **arguments, **({"ExpressionAttributeValues": values} if values else {}))
        return written

    async def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return await self._client.call(operation, TableName=self._table, **arguments)
        except FAILURES as error:
            raise self._refusal(operation, error) from error

    def _refusal(self, operation: str, error: BaseException) -> ClusterError:
        code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
        if code == _CONDITION_FAILED:
            return Conflict(f"somebody else changed the row of {self._table}", 409)
        reason, words = reason_of(error)
        advice = _ADVICE.get(reason, "it is tried again")
        status = 400 if isinstance(error, ClientError) and reason is not Reason.SERVICE_ERROR else 0
        return ClusterError(f"DynamoDB table {self._table}, {operation}: {words}; {advice}", status)


def _body(item: dict[str, Any]) -> Body:
    body: Body = orjson.loads(item["body"]["S"])
    return body
