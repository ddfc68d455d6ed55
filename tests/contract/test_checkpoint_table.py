"""What a DynamoDB table answers that is not there or not as it has to be, and what lies in one."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any, cast

import pytest

from headrace.errors import StoreError
from headrace.records import Checkpoint, Holder, Shard
from headrace.resources import MappingRef
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.events import Faulted
from headrace.stream.stores.dynamodb import PIECE, DynamoDBTable
from headrace.stream.stores.kubernetes import KubernetesStore
from tests.support import aws, tables
from tests.support.servers import free_port

if TYPE_CHECKING:
    from headrace.stream.events import Event

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


THROTTLED = "ProvisionedThroughputExceededException"


async def test_a_throttled_write_is_written_again_until_the_table_takes_it(ministack: str) -> None:
    async with tables.table(ministack) as (name, access):
        line = tables.Refusing(access)
        home, store = opened(name, cast("AwsAccess", line))
        await store.load([SHARD])
        await store.take(SHARD.shard_id)
        line.refusals = {"put_item": [THROTTLED] * 3}
        told: list[Event] = []
        writer = CheckpointWriter(store, SHARD.shard_id, Checkpoint(), told.append, lambda _: 0.0, asyncio.Event())
        await writer.advance(Checkpoint("5"), at_once=True)
        assert [f"{event.error}" for event in told if isinstance(event, Faulted)] == [
            f"DynamoDB table {name}, put_item: {THROTTLED} (HTTP 400); it is tried again"
        ] * 3
        assert (await store.load([]))[SHARD.shard_id].checkpoint == Checkpoint("5")
        await home.aclose()


async def test_a_throttled_look_take_or_making_of_a_lease_is_a_store_error_and_changes_nothing(ministack: str) -> None:
    async with tables.table(ministack) as (name, access):
        line = tables.Refusing(access)
        home, store = opened(name, cast("AwsAccess", line))
        for operation in ("query", "put_item"):
            line.refusals = {operation: [THROTTLED]}
            with pytest.raises(StoreError, match=THROTTLED):
                await store.load([SHARD])
        await store.load([SHARD])
        line.refusals = {"put_item": [THROTTLED]}
        with pytest.raises(StoreError, match=THROTTLED):
            await store.take(SHARD.shard_id)
        assert await store.take(SHARD.shard_id) == Checkpoint()
        await home.aclose()


async def test_a_throttle_after_a_gap_is_told_and_the_next_try_wins_every_lease(ministack: str) -> None:
    async with tables.table(ministack) as (name, access):
        line = tables.Refusing(access)
        home, store = opened(name, cast("AwsAccess", line))
        shards = [Shard(f"shardId-{number:012}") for number in range(3)]
        await store.load(shards)
        for shard in shards:
            await store.take(shard.shard_id)
        line.refusals = {"put_item": [THROTTLED]}
        with pytest.raises(StoreError, match=THROTTLED):
            await store.regain(Holder("pod-a", "2"))
        assert await store.regain(Holder("pod-a", "2")) == {}
        assert {lease.holder for lease in (await store.load([])).values()} == {Holder("pod-a", "2")}
        await home.aclose()


async def test_a_write_whose_condition_fails_is_decided_on_the_row_as_it_is(ministack: str) -> None:
    async with tables.table(ministack) as (name, access):
        line = tables.Refusing(access)
        home, store = opened(name, cast("AwsAccess", line))
        await store.load([SHARD])
        await store.take(SHARD.shard_id)
        line.refusals = {"put_item": ["ConditionalCheckFailedException"]}
        await store.save(SHARD.shard_id, Checkpoint("5"))
        assert (await store.load([]))[SHARD.shard_id].checkpoint == Checkpoint("5")
        await home.aclose()


async def test_rows_of_any_rubbish_cost_the_shard_they_stand_for_only(ministack: str) -> None:
    async with tables.table(ministack) as (name, access), aws.client("dynamodb", ministack) as client:
        home, store = opened(name, access)
        shards = [Shard(f"shardId-{number:012}") for number in range(8)]
        await store.load(shards)
        rubbish: list[dict[str, Any]] = [
            {},
            {"version": {"NULL": True}, "body": {"S": "{}"}},
            {"version": {"N": "1"}, "body": {"M": {}}},
            {"version": {"N": "1"}, "body": {"S": "\x00"}, "expires": {"L": []}},
            {"version": {"L": []}, "body": {"S": "{}"}, "expires": {"S": "never"}},
            {"version": {"N": "99999999999999999999999999999999999999"}, "body": {"S": "[[]]"}},
        ]
        rows = (await client.scan(TableName=name))["Items"]
        for row, values in zip(rows, rubbish, strict=False):
            await client.put_item(TableName=name, Item={key: row[key] for key in ("mapping", "object")} | values)
        leases = await store.load(shards)
        assert sorted(leases) == [shard.shard_id for shard in shards]
        assert sum(lease.fault is not None for lease in leases.values()) == len(rubbish)
        await home.aclose()
