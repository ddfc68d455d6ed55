"""What a DynamoDB table answers that is not there or not as it has to be, and what lies in one."""

from __future__ import annotations

import time
import uuid

import pytest

from headrace.errors import StoreError
from headrace.records import Checkpoint, Holder, Shard
from headrace.resources import MappingRef
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.stores.dynamodb import PIECE, DynamoDBTable
from headrace.stream.stores.kubernetes import KubernetesStore
from tests.support import aws, tables
from tests.support.servers import free_port

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARD = Shard("shardId-000000000000")


def opened(name: str, access: AwsAccess) -> tuple[DynamoDBTable, KubernetesStore]:
    ref = MappingRef("shop", "orders", str(uuid.uuid4()))
    home = DynamoDBTable(name, ref, access, aws.REGION)
    return home, KubernetesStore(home, ref, ARN, None, Holder("pod-a", "1"), piece=PIECE)


async def test_a_table_that_is_not_there_is_named_with_the_keys_it_needs(ministack: str) -> None:
    home, store = opened("nowhere", AwsAccess(AwsSettings(), ministack))
    with pytest.raises(StoreError, match=r"DynamoDB table nowhere.*partition key `mapping` and the sort key `object`"):
        await store.load([SHARD])
    await home.aclose()


async def test_a_service_that_is_not_there_is_told() -> None:
    home, store = opened("headrace", AwsAccess(AwsSettings(), f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(StoreError, match="check the network and the endpoint"):
        await store.load([SHARD])
    await home.aclose()


async def test_the_services_own_endpoint_goes_before_the_mappings(ministack: str) -> None:
    async with tables.table(ministack) as (name, _):
        settings = AwsSettings({"dynamodb": ministack})
        home, store = opened(name, AwsAccess(settings, f"http://127.0.0.1:{free_port()}"))
        assert SHARD.shard_id in await store.load([SHARD])
        await home.aclose()


async def test_a_row_has_the_keys_a_version_and_an_end_as_numbers(ministack: str) -> None:
    async with tables.table(ministack) as (name, access), aws.client("dynamodb", ministack) as client:
        home, store = opened(name, access)
        await store.load([SHARD])
        (made,) = (await client.scan(TableName=name))["Items"]
        await store.take(SHARD.shard_id)
        await store.save(SHARD.shard_id, Checkpoint("5"))
        (row,) = (await client.scan(TableName=name))["Items"]
        assert {key: next(iter(value)) for key, value in row.items()} == {
            "mapping": "S",
            "object": "S",
            "body": "S",
            "version": "N",
            "expires": "N",
        }
        assert int(row["version"]["N"]) == int(made["version"]["N"]) + 2, "taken, saved"
        assert int(row["expires"]["N"]) > time.time() + 365 * 86_400
        await home.aclose()
