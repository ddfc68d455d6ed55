"""A DynamoDB table as the home of leases: rows, pages, their end, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from headrace.errors import StoreError
from headrace.poller import Poller, PollerSettings
from headrace.records import Checkpoint, Holder, Lease, Shard, Window
from headrace.resources import EVENT_SOURCE_MAPPING, SHARD_LEASE, MappingRef
from headrace.spec import EventSourceMapping, parse_mapping
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.progress import ShardFacts
from headrace.stream.stores import dynamodb, table_rows
from headrace.stream.stores.dynamodb import PIECE, DynamoDBTable
from headrace.stream.stores.kubernetes import KubernetesStore
from tests.support import clusters
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_table import FakeTable, row_bytes
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from headrace.cluster import Body

UID = "0e9a2b1c-0000-4000-8000-000000000000"
REF = MappingRef("shop", "orders", UID)
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARD = Shard("shardId-000000000000")
LONGEST_RETENTION = 365 * 86_400
MONTH = 31 * 86_400


@dataclass
class Bench:
    table: FakeTable = field(default_factory=FakeTable)
    now: float = 1_700_000_000.0

    def store(self, incarnation: str = "1") -> KubernetesStore:
        home = DynamoDBTable("headrace", REF, cast("AwsAccess", self.table), "eu-west-1", lambda: self.now)
        holder = Holder("pod-a", incarnation)
        return KubernetesStore(home, REF, ARN, None, holder, lambda: self.now, PIECE)

    async def held(self) -> KubernetesStore:
        store = self.store()
        await store.load([SHARD])
        await store.take(SHARD.shard_id)
        return store

    def row(self) -> dict[str, Any]:
        (row,) = self.table.rows.values()
        return row

    @property
    def left(self) -> float:
        """Seconds that the row has left."""
        return int(self.row()["expires"]["N"]) - self.now


async def test_every_page_of_every_partition_is_read() -> None:
    bench = Bench(FakeTable(page=3))
    shards = [Shard(f"shardId-{number:012}") for number in range(100)]
    await bench.store().load(shards)
    assert len({where for where, _ in bench.table.rows}) == table_rows.BUCKETS
    assert await bench.store().load([]) == {shard.shard_id: Lease(shard) for shard in shards}


async def test_a_lease_in_full_flow_costs_one_write_unit() -> None:
    bench = Bench()
    store = await bench.held()
    await store.report_shard(SHARD.shard_id, ShardFacts(iterator_age_seconds=12))
    await store.save(SHARD.shard_id, Checkpoint("49680502034643045785203157069957013966739167811897131026"))
    assert row_bytes(bench.row()) <= 1024


@pytest.mark.parametrize(
    "labels",
    [REF.labels, REF.labels | {"team": "x"}, REF.labels | {"app.kubernetes.io/name": "y"}, {}],
    ids=["usual", "one more", "another", "none"],
)
def test_what_is_written_is_what_is_read(labels: dict[str, str]) -> None:
    metadata = REF.metadata("orders-0") | {"labels": labels, "uid": "u", "resourceVersion": "7"}
    spec = {"mappingName": "orders", "mappingUid": UID, "eventSourceArn": ARN, "shardId": "s", "later": None}
    status = {"state": "AStateOfLater", "sequenceNumber": "7", "lanes": [{"factor": 2, "index": 1, "later": 1}]}
    lease = {"apiVersion": SHARD_LEASE.api_version, "kind": SHARD_LEASE.kind, "metadata": metadata}
    lease |= {"spec": spec, "status": status}
    row = table_rows.row(REF, SHARD_LEASE, lease, 7, 0.0)
    assert table_rows.body_of(REF, SHARD_LEASE, row) == lease


async def test_a_row_that_is_written_outlives_every_stream_and_no_younger_one_is_renewed() -> None:
    bench = Bench()
    store = await bench.held()
    assert bench.left > LONGEST_RETENTION
    bench.now += MONTH - 2 * 86_400
    before = len(bench.table.written())
    await store.load([SHARD])
    assert len(bench.table.written()) == before


async def test_a_row_that_is_only_read_is_renewed_once_a_month_as_the_version_it_is() -> None:
    bench = Bench()
    store = await bench.held()
    await store.save(SHARD.shard_id, Checkpoint("5", finished=True))
    version = bench.row()["version"]
    for month in range(1, 25):
        bench.now += MONTH
        before = len(bench.table.written())
        await bench.store(str(month)).load([SHARD])
        await bench.store(str(month)).load([SHARD])
        assert (len(bench.table.written()) - before, bench.row()["version"]) == (1, version)
        assert bench.left > LONGEST_RETENTION
    assert (await bench.store().load([]))[SHARD.shard_id].checkpoint == Checkpoint("5", finished=True)


async def test_a_row_without_an_end_gets_one() -> None:
    bench = Bench()
    store = await bench.held()
    del bench.row()["expires"]
    await store.load([SHARD])
    assert bench.left > LONGEST_RETENTION


async def test_what_cannot_be_renewed_is_read_all_the_same_and_renewed_later() -> None:
    bench = Bench()
    store = await bench.held()
    bench.now += MONTH
    bench.table.refusals = {"put_item": "ProvisionedThroughputExceededException"}
    assert SHARD.shard_id in await store.load([SHARD])
    bench.table.refusals.clear()
    await store.load([SHARD])
    assert bench.left > LONGEST_RETENTION


async def test_a_row_that_was_written_meanwhile_is_not_put_back_by_its_renewal() -> None:
    bench = Bench()
    writer = await bench.held()
    bench.now += MONTH
    stale = dict(bench.row())
    await writer.save(SHARD.shard_id, Checkpoint("7"))
    reader = DynamoDBTable("headrace", REF, cast("AwsAccess", bench.table), "eu-west-1", lambda: bench.now)
    await reader._renew([stale])
    assert (await bench.store().load([]))[SHARD.shard_id].checkpoint == Checkpoint("7")


async def test_no_row_of_a_large_window_is_too_large_for_the_table() -> None:
    import random

    bench = Bench()
    store = await bench.held()
    state = random.Random(1).randbytes(3_000_000).hex().encode()
    await store.save(SHARD.shard_id, Checkpoint("1", window=Window(60, 120, "1", b'"' + state + b'"')))
    assert 200_000 < max(map(row_bytes, bench.table.written())) < 400 * 1024


@pytest.mark.parametrize(
    "spoilt",
    [{"body": {"S": "{"}}, {"body": {"S": "[]"}}, {"body": {"S": "{}"}}, {"body": {"B": b""}}, {"version": {"S": "1"}}],
    ids=["cut", "list", "empty", "binary", "version"],
)
async def test_a_row_edited_into_nonsense_is_named_with_what_to_do(spoilt: dict[str, Any]) -> None:
    bench = Bench()
    store = await bench.held()
    bench.row().update(spoilt)
    name = REF.shard_lease_name(ARN, SHARD.shard_id)
    with pytest.raises(StoreError, match=rf"the row {UID}/\d, shardleases/{name} is broken; mend it, or delete it"):
        await store.load([SHARD])


MISTAKES: dict[str, Callable[[Body], object]] = {
    "no name": lambda body: body["metadata"].pop("name"),
    "another name": lambda body: body["metadata"].update(name="another"),
    "no uid": lambda body: body["metadata"].pop("uid"),
    "labels": lambda body: body["metadata"].update(labels=["x"]),
    "no spec": lambda body: body.pop("spec"),
    "spec": lambda body: body.update(spec="x"),
    "no shard": lambda body: body["spec"].pop("shardId"),
    "shard": lambda body: body["spec"].update(shardId=5),
    "parents": lambda body: body["spec"].update(parents=5),
    "time": lambda body: body["spec"].update(streamCreatedAt=5),
    "status": lambda body: body.update(status=[1]),
    "checkpoint": lambda body: body["status"].update(sequenceNumber=5),
    "holder": lambda body: body["status"].update(holder={}),
    "lanes": lambda body: body["status"].update(lanes=3),
    "lane": lambda body: body["status"].update(lanes=[{}]),
    "window": lambda body: body["status"].update(window={"start": 0}),
}
"""What an API server would have refused, by its name."""


@pytest.mark.parametrize("spoil", MISTAKES.values(), ids=MISTAKES)
async def test_what_an_api_server_would_refuse_stops_nothing_but_its_store(spoil: Callable[[Body], object]) -> None:
    bench = Bench()
    store = await bench.held()
    body = json.loads(bench.row()["body"]["S"])
    spoil(body)
    version = int(bench.row()["version"]["N"]) + 1
    bench.row().update(body={"S": json.dumps(body)}, version={"N": str(version)})
    for calling in (
        store.load([SHARD]),
        store.save(SHARD.shard_id, Checkpoint("7")),
        store.regain(Holder("pod-a", "2")),
    ):
        with pytest.raises(StoreError, match="is broken; mend it, or delete it"):
            await calling


async def test_an_end_that_is_no_whole_number_is_one_all_the_same() -> None:
    bench = Bench()
    store = await bench.held()
    bench.row()["expires"] = {"N": "1.5"}
    await store.load([SHARD])
    assert bench.left > LONGEST_RETENTION


async def test_an_answer_without_rows_is_not_taken_for_an_empty_table() -> None:
    class Mute(FakeTable):
        async def query(self, **arguments: Any) -> Any:
            await super().query(**arguments)
            return {"Count": 0}

    bench = Bench(Mute())
    with pytest.raises(StoreError, match="DynamoDB table headrace, query: the answer lists no rows"):
        await bench.store().load([SHARD])
    assert bench.table.written() == []


async def test_a_row_made_anew_is_no_version_of_the_one_that_was_there() -> None:
    bench = Bench()
    versions = set()
    for _ in range(10):
        await bench.store().load([SHARD])
        versions.add(bench.row()["version"]["N"])
        bench.table.rows.clear()
    assert len(versions) == 10


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("ResourceNotFoundException", "make the table, with the partition key `mapping` and the sort key `object`"),
        ("ResourceNotFoundException", "or the mapping anew with another spec.poller.checkpointTable"),
        ("AccessDeniedException", "allow dynamodb:GetItem, PutItem, DeleteItem and Query"),
        ("ProvisionedThroughputExceededException", "it is tried again"),
        ("ValidationException", "the table needs to be one with the partition key `mapping`"),
    ],
)
async def test_what_the_table_refuses_is_told_with_its_name_and_what_to_do(code: str, told: str) -> None:
    bench = Bench()
    bench.table.refusals = {"query": code}
    with pytest.raises(StoreError) as error:
        await bench.store().load([SHARD])
    assert "DynamoDB table headrace, query" in str(error.value)
    assert code in str(error.value)
    assert told in str(error.value)


def test_the_table_of_the_docs_has_the_keys_and_the_end_that_rows_have() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    assert "AttributeName=mapping,AttributeType=S AttributeName=object,AttributeType=S" in page
    assert "AttributeName=mapping,KeyType=HASH AttributeName=object,KeyType=RANGE" in page
    assert "AttributeName=expires" in page
    assert set(table_rows.key(UID, SHARD_LEASE, "x") | table_rows.renewed({}, 0.0)) == {"mapping", "object", "expires"}


def test_the_rights_in_the_docs_are_those_that_are_used() -> None:
    page = (ROOT / "docs" / "aws-credentials.md").read_text()
    (policy,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (statement,) = json.loads(policy)["Statement"]
    source = Path(dynamodb.__file__).read_text()
    used = {name.title().replace("_", "") for name in re.findall(r'_call\(\s*"(\w+)"', source)}
    assert set(statement["Action"]) == {f"dynamodb:{name}" for name in used}


async def test_another_role_or_endpoint_reaches_the_table_and_any_other_change_keeps_the_store() -> None:
    cluster = FakeCluster()

    async def read(**spec: Any) -> EventSourceMapping:
        body = clusters.mapping("shop", "orders", **{"poller": {"checkpointTable": "headrace"}, **spec})
        there = await cluster.find(EVENT_SOURCE_MAPPING, "shop", "orders")
        made = await (
            cluster.replace(EVENT_SOURCE_MAPPING, there | body | {"metadata": there["metadata"]})
            if there
            else cluster.create(EVENT_SOURCE_MAPPING, body)
        )
        return parse_mapping(made)

    await read()
    body = await cluster.find(EVENT_SOURCE_MAPPING, "shop", "orders")
    assert body is not None
    poller = Poller(cluster, PollerSettings("shop", "orders", "pod-a", AwsSettings()), body, asyncio.Event())
    role = "arn:aws:iam::123456789012:role/orders-poller"
    first = await poller._store_of(await read())
    assert await poller._store_of(await read(batchSize=7)) is first
    second = await poller._store_of(await read(aws={"roleArn": role}))
    assert second is not first
    assert await poller._store_of(await read(aws={"roleArn": role})) is second
    assert await poller._store_of(await read(aws={"roleArn": role, "endpointUrl": "http://aws.example"})) is not second


async def test_without_a_table_another_role_moves_no_lease() -> None:
    cluster = FakeCluster()
    body = await cluster.create(EVENT_SOURCE_MAPPING, clusters.mapping("shop", "orders"))
    poller = Poller(cluster, PollerSettings("shop", "orders", "pod-a", AwsSettings()), body, asyncio.Event())
    first = await poller._store_of(parse_mapping(body))
    body["spec"]["aws"] = {"roleArn": "arn:aws:iam::123456789012:role/orders-poller"}
    assert await poller._store_of(parse_mapping(body)) is first
