"""ShardLeases and WindowStates as rows of a DynamoDB table: for more shards than an API server should carry.

The store is the same as for Kubernetes (`kubernetes.py`); this does for it by conditional writes what the API server
does by resource versions. `table_rows.py` says what a row is.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headrace.cluster import ClusterError, Conflict
from headrace.errors import Reason
from headrace.stream.aws import FAILURES, Client, reason_of
from headrace.stream.stores import MENDING, BrokenObject
from headrace.stream.stores import table_rows as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.cluster import Body
    from headrace.resources import Kind, MappingRef
    from headrace.stream.aws import AwsAccess
    from headrace.stream.stores.table_rows import Item

READ_TIMEOUT = 10.0
"""Seconds for one request."""
RENEWED_AT_ONCE = 16
"""Rows that one read renews at most, side by side: a thousand are renewed within an hour of reads."""
RENEWAL_PATIENCE = 2.0
"""Seconds for which a read waits for that."""
PIECE = 280_000
"""Compressed bytes of a window's state in one row: as base64 and with its key below DynamoDB's 400 KB."""
_UNLIKELY = 128 - 48
"""Bits of a UUID that a row's first version leaves out: 48 are hardly ever met again when a row is made anew."""
_CONDITION_FAILED = "ConditionalCheckFailedException"
_KEYS = "with the partition key `mapping` and the sort key `object`, both strings"
_ADVICE = {
    Reason.NOT_FOUND: f"make the table, {_KEYS}, or the mapping anew with another spec.poller.checkpointTable",
    Reason.ACCESS_DENIED: "allow dynamodb:GetItem, PutItem, DeleteItem and Query on it",
    Reason.INVALID_CREDENTIALS: "give the poller valid AWS credentials",
    Reason.UNREACHABLE: "check the network and the endpoint",
    Reason.REJECTED: f"the table needs to be one {_KEYS}",
}


class DynamoDBTable:
    """The objects of one mapping in a table; raises ClusterError as an API server's client does."""

    def __init__(
        self,
        table: str,
        mapping: MappingRef,
        access: AwsAccess,
        region: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._mapping = mapping
        self._client = Client(access, "dynamodb", region, read_timeout=READ_TIMEOUT)
        self._clock = clock

    async def find(self, kind: Kind, _namespace: str, name: str) -> Body | None:
        """One object as it is now, None when it is not there."""
        key = rows.key(self._mapping.uid, kind, name)
        answer = await self._call("get_item", Key=key, ConsistentRead=True)
        if not answer.get("Item"):
            return None
        body = self._judged(kind, answer["Item"])
        if isinstance(body, BrokenObject):
            raise body
        return body

    async def select(self, kind: Kind, _namespace: str | None, selector: str = "") -> list[Body | BrokenObject]:
        """The mapping's objects of a kind as they are now; of one ShardLease, where the selector names one."""
        prefix = rows.prefix(kind, selector)
        pages = await asyncio.gather(*(self._query(one, prefix) for one in rows.partitions(self._mapping.uid)))
        found = [(item, self._judged(kind, item)) for items in pages for item in items]
        whole = [item for item, body in found if not isinstance(body, BrokenObject)]
        await self._renew([item for item in whole if rows.is_aged(item, self._clock())])
        return [body for _, body in found]

    async def _query(self, partition: str, prefix: str) -> list[Item]:
        query: dict[str, Any] = {
            "KeyConditionExpression": "#mapping = :mapping AND begins_with(#object, :prefix)",
            "ExpressionAttributeNames": {"#mapping": "mapping", "#object": "object"},
            "ExpressionAttributeValues": {":mapping": {"S": partition}, ":prefix": {"S": prefix}},
            "ConsistentRead": True,
        }
        found: list[Item] = []
        while True:
            page = await self._call("query", **query)
            if "Items" not in page:  # no rows are a list too; without one every lease would seem to be gone
                raise ClusterError(f"DynamoDB table {self._table}, query: the answer lists no rows; it is tried again")
            found += page["Items"]
            if not page.get("LastEvaluatedKey"):
                return found
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def _renew(self, items: Sequence[Item]) -> None:
        """Puts off the end of some rows that nobody writes, others at each poller and read: months are left for all."""
        chosen = random.sample(items, min(RENEWED_AT_ONCE, len(items)))
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEWAL_PATIENCE):
                await asyncio.gather(*map(self._renewed, chosen))

    async def _renewed(self, item: Item) -> None:
        with suppress(ClusterError):  # most of all: written meanwhile, which has renewed it
            await self._put(rows.renewed(item, self._clock()), rows.version_of(item))

    async def create(self, kind: Kind, body: Body) -> Body:
        """Raises Conflict when an object of that name is there."""
        made = body | {"metadata": body["metadata"] | {"uid": str(uuid.uuid4())}}
        return await self._write(kind, made, uuid.uuid4().int >> _UNLIKELY, None)

    async def replace(self, kind: Kind, body: Body) -> Body:
        """Raises Conflict unless the version is the one that the body was read at."""
        version = int(body["metadata"]["resourceVersion"])
        return await self._write(kind, body, version + 1, version)

    async def delete(self, kind: Kind, body: Body) -> None:
        """Only WindowStates are deleted; their names are never used again, so there is nothing to compare."""
        await self._call("delete_item", Key=rows.key(self._mapping.uid, kind, body["metadata"]["name"]))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _write(self, kind: Kind, body: Body, version: int, instead: int | None) -> Body:
        item = rows.row(self._mapping, kind, body, version, self._clock())
        await self._put(item, instead)
        return rows.body_of(self._mapping, kind, item)

    async def _put(self, item: Item, version: int | None) -> None:
        """Writes a row in place of its version, None where none may be there."""
        condition: dict[str, Any] = {
            "ConditionExpression": "#version = :version",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":version": {"N": str(version)}},
        }
        if version is None:
            condition = {
                "ConditionExpression": "attribute_not_exists(#object)",
                "ExpressionAttributeNames": {"#object": "object"},
            }
        await self._call("put_item", Item=item, **condition)

    def _judged(self, kind: Kind, item: Item) -> Body | BrokenObject:
        try:
            return rows.body_of(self._mapping, kind, item)
        except ValueError as error:
            place = f"DynamoDB table {self._table}: the row {rows.place_of(item)} is broken: {error}"
            return BrokenObject(rows.name_of(kind, item), f"{place}; {MENDING}")

    async def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            async with asyncio.timeout(READ_TIMEOUT):  # the client's own time-out is that of each read
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
        return ClusterError(f"DynamoDB table {self._table}, {operation}: {words}; {advice}", status, reason=reason)
