"""A DynamoDB table as the home of leases: rows, pages, their end, and what goes wrong."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from headrace.errors import Reason, StoreError
from headrace.poller import Poller, PollerSettings
from headrace.records import Checkpoint, Holder, Lease, Shard, Window
from headrace.resources import (
    EVENT_SOURCE_MAPPING,
    LABEL_MAPPING_UID,
    LABEL_SHARD_LEASE,
    SHARD_LEASE,
    WINDOW_STATE,
    MappingRef,
)
from headrace.spec import EventSourceMapping, parse_mapping
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.progress import ShardFacts
from headrace.stream.stores import dynamodb, table_rows
from headrace.stream.stores.dynamodb import PIECE, DynamoDBTable
from headrace.stream.stores.kubernetes import KubernetesStore
from tests.support import clusters, tables
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_table import FakeTable, row_bytes
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from headrace.cluster import Body

UID = "0e9a2b1c-0000-4000-8000-000000000000"
REF = MappingRef("shop", "orders", UID)
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARD, OTHER = Shard("shardId-000000000000"), Shard("shardId-000000000001")
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

    async def held(self, *shards: Shard) -> KubernetesStore:
        store = self.store()
        await store.load(shards or [SHARD])
        for shard in shards or [SHARD]:
            await store.take(shard.shard_id)
        return store

    def row(self, shard: Shard | None = None) -> dict[str, Any]:
        """The row of a shard, else the only one."""
        if shard is None:
            (row,) = self.table.rows.values()
            return row
        key = table_rows.key(UID, SHARD_LEASE, REF.shard_lease_name(ARN, shard.shard_id))
        return self.table.rows[key["mapping"]["S"], key["object"]["S"]]

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


def test_a_row_says_no_version_twice() -> None:
    metadata = REF.metadata("orders-0") | {"uid": "u", "resourceVersion": "7"}
    row = table_rows.row(REF, SHARD_LEASE, {"metadata": metadata, "spec": {}}, 8, 0.0)
    assert row["version"] == {"N": "8"}
    assert "resourceVersion" not in row["body"]["S"]


@pytest.mark.parametrize(
    ("selector", "begins"),
    [
        ("", "windowstates/"),
        (f"{LABEL_MAPPING_UID}=u", "windowstates/"),
        (f"{LABEL_MAPPING_UID}=u,{LABEL_SHARD_LEASE}=orders-0", "windowstates/orders-0-"),
    ],
)
def test_only_the_states_of_the_lease_that_is_asked_for_are_read(selector: str, begins: str) -> None:
    assert table_rows.prefix(WINDOW_STATE, selector) == begins


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


async def test_a_read_renews_a_few_rows_side_by_side_and_reads_renew_all() -> None:
    class Slow(FakeTable):
        now = most = 0

        async def put_item(self, **arguments: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return await super().put_item(**arguments)

    table = Slow()
    bench = Bench(table)
    shards = [Shard(f"shardId-{number:012}") for number in range(100)]
    await bench.store().load(shards)
    bench.now += MONTH
    table.most = 0
    reads = 0
    while any(table_rows.is_aged(row, bench.now) for row in table.rows.values()):
        before = len(table.written())
        await bench.store().load([])
        reads += 1
        assert len(table.written()) - before <= dynamodb.RENEWED_AT_ONCE
    assert (reads, table.most) == (7, dynamodb.RENEWED_AT_ONCE)


async def test_a_renewal_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(FakeTable):
        mute = False

        async def put_item(self, **arguments: Any) -> Any:
            if self.mute:
                await asyncio.Event().wait()
            return await super().put_item(**arguments)

    table = Mute()
    bench = Bench(table)
    store = await bench.held()
    bench.now += MONTH
    table.mute = True
    monkeypatch.setattr(dynamodb, "RENEWAL_PATIENCE", 0.0)
    async with asyncio.timeout(5):
        assert SHARD.shard_id in await store.load([SHARD])


async def test_no_row_of_a_large_window_is_too_large_for_the_table() -> None:
    import random

    bench = Bench()
    store = await bench.held()
    state = random.Random(1).randbytes(3_000_000).hex().encode()
    await store.save(SHARD.shard_id, Checkpoint("1", window=Window(60, 120, "1", b'"' + state + b'"')))
    assert 200_000 < max(map(row_bytes, bench.table.written())) < 400 * 1024


Spoil = Callable[[dict[str, Any]], object]
"""Spoils a row."""


def body(edit: Callable[[Body], object]) -> Spoil:
    """Spoils what is in a row's body."""

    def spoil(row: dict[str, Any]) -> None:
        own = json.loads(row["body"]["S"])
        edit(own)
        row["body"] = {"S": json.dumps(own)}

    return spoil


NO_BODY = "body: must be a text with a JSON object that has metadata"
NO_VERSION = "version: must be a whole number"
NO_PLACE = "body.metadata.name: must be that of the row's key, and the row where it belongs"
BROKEN: dict[str, tuple[Spoil, str]] = {
    "cut": (lambda row: row.update(body={"S": "{"}), NO_BODY),
    "a list": (lambda row: row.update(body={"S": "[]"}), NO_BODY),
    "empty": (lambda row: row.update(body={"S": "{}"}), NO_BODY),
    "binary": (lambda row: row.update(body={"B": b""}), NO_BODY),
    "no body": (lambda row: row.pop("body"), NO_BODY),
    "no version": (lambda row: row.pop("version"), NO_VERSION),
    "version as a text": (lambda row: row.update(version={"S": "1"}), NO_VERSION),
    "half a version": (lambda row: row.update(version={"N": "1.5"}), NO_VERSION),
    "metadata": (body(lambda own: own.update(metadata=5)), NO_BODY),
    "no name": (body(lambda own: own["metadata"].pop("name")), "body.metadata.name: is required"),
    "another name": (body(lambda own: own["metadata"].update(name="another")), NO_PLACE),
    "no uid": (body(lambda own: own["metadata"].pop("uid")), "body.metadata.uid: is required"),
    "labels": (body(lambda own: own["metadata"].update(labels=["x"])), "body.metadata.labels: must be"),
    "no spec": (body(lambda own: own.pop("spec")), "body.spec: is required"),
    "spec": (body(lambda own: own.update(spec="x")), "body.spec: must be"),
    "no shard": (body(lambda own: own["spec"].pop("shardId")), "body.spec.shardId: is required"),
    "shard": (body(lambda own: own["spec"].update(shardId=5)), "body.spec.shardId: must be a text"),
    "another shard": (
        body(lambda own: own["spec"].update(shardId=OTHER.shard_id)),
        "its spec is that of another mapping",
    ),
    "another mapping": (body(lambda own: own["spec"].update(mappingUid="x")), "its spec is that of another mapping"),
    "another stream": (body(lambda own: own["spec"].update(eventSourceArn="x")), "its spec is that of another mapping"),
    "parents": (body(lambda own: own["spec"].update(parents=5)), "body.spec.parents: must be a list"),
    "time": (body(lambda own: own["spec"].update(streamCreatedAt=5)), "body.spec.streamCreatedAt: must be a time"),
    "no time": (body(lambda own: own["spec"].update(streamCreatedAt="2026-13-01T00:00:00.000Z")), "must be a time"),
    "status": (body(lambda own: own.update(status=[1])), "body.status: must be"),
    "checkpoint": (body(lambda own: own["status"].update(sequenceNumber=5)), "body.status.sequenceNumber: must be"),
    "no number": (body(lambda own: own["status"].update(sequenceNumber="4x")), "body.status.sequenceNumber: must be"),
    "finished": (body(lambda own: own["status"].update(finished="no")), "body.status.finished: must be true or false"),
    "holder": (body(lambda own: own["status"].update(holder={})), "body.status.holder: must be a text"),
    "lanes": (body(lambda own: own["status"].update(lanes=3)), "body.status.lanes: must be a list"),
    "lane": (body(lambda own: own["status"].update(lanes=[{}])), r"body.status.lanes\[0\].factor: is required"),
    "lane beyond": (
        body(lambda own: own["status"].update(lanes=[{"factor": 2, "index": 2}])),
        "status.lanes: index must be below factor",
    ),
    "window": (body(lambda own: own["status"].update(window={"start": 0})), "body.status.window.end: is required"),
}
"""What may lie in a row that somebody edited, and what is said of it."""
every_way = pytest.mark.parametrize(("spoil", "said"), BROKEN.values(), ids=BROKEN)


def spoil_first(bench: Bench, spoil: Spoil) -> dict[str, Any]:
    """Edits the row of SHARD as somebody does who raises its version, as the docs say; gives it as it was."""
    row = bench.row(SHARD)
    before = copy.deepcopy(row)
    row["version"] = {"N": str(int(row["version"]["N"]) + 1)}
    spoil(row)
    return before


@every_way
async def test_a_broken_row_is_told_with_its_shard_and_costs_no_other(spoil: Spoil, said: str) -> None:
    bench = Bench()
    writer = await bench.held(SHARD, OTHER)
    await writer.save(SHARD.shard_id, Checkpoint("5"))
    await writer.save(OTHER.shard_id, Checkpoint("7"))
    spoil_first(bench, spoil)
    store = bench.store("2")
    before = dict(bench.table.rows)
    leases = await store.load([SHARD, OTHER])
    fault = leases[SHARD.shard_id].fault or ""
    assert leases[SHARD.shard_id].shard == SHARD
    assert re.search(said, fault)
    assert REF.shard_lease_name(ARN, SHARD.shard_id) in fault
    assert "mend it, or delete it, with which its shard starts anew from spec.startingPosition" in fault
    assert bench.table.rows == before, "nothing is made anew"
    assert leases[OTHER.shard_id].fault is None
    assert await store.take(OTHER.shard_id) == Checkpoint("7")


@every_way
async def test_a_row_that_is_mended_is_taken_with_its_checkpoint(spoil: Spoil, said: str) -> None:
    bench = Bench()
    await (await bench.held(SHARD)).save(SHARD.shard_id, Checkpoint("5"))
    before = spoil_first(bench, spoil)
    store = bench.store("2")
    await store.load([SHARD])
    bench.table.rows.clear()
    bench.table.rows[before["mapping"]["S"], before["object"]["S"]] = before
    assert (await store.load([SHARD]))[SHARD.shard_id].fault is None
    assert await store.take(SHARD.shard_id) == Checkpoint("5")


@every_way
async def test_a_row_that_is_broken_under_its_holder_is_written_again_once_it_is_mended(
    spoil: Spoil, said: str
) -> None:
    bench = Bench()
    store = await bench.held(SHARD, OTHER)
    before = spoil_first(bench, spoil)
    with pytest.raises(StoreError) as error:
        await store.save(SHARD.shard_id, Checkpoint("9"))
    assert error.value.reason is Reason.LEASE_BROKEN
    lease = (await store.load([SHARD, OTHER]))[SHARD.shard_id]
    assert (lease.holder, lease.fault is None) == (Holder("pod-a", "1"), False), "nobody else can have it"
    await store.save(OTHER.shard_id, Checkpoint("7"))
    bench.row(SHARD).update(before)
    await store.save(SHARD.shard_id, Checkpoint("9"))
    assert (await bench.store().load([]))[SHARD.shard_id].checkpoint == Checkpoint("9")


@every_way
async def test_after_a_gap_a_broken_row_is_lost_and_holds_up_no_other(spoil: Spoil, said: str) -> None:
    bench = Bench()
    store = await bench.held(SHARD, OTHER)
    spoil_first(bench, spoil)
    assert await store.regain(Holder("pod-a", "2")) == {SHARD.shard_id: None}
    await store.save(OTHER.shard_id, Checkpoint("7"))
    lease = (await store.load([SHARD, OTHER]))[SHARD.shard_id]
    assert (lease.holder, lease.fault is None) == (None, False)


async def test_a_row_that_breaks_between_a_look_and_a_take_is_not_taken() -> None:
    bench = Bench()
    await bench.held(SHARD)
    store = bench.store("2")
    await store.load([SHARD])
    spoil_first(bench, BROKEN["cut"][0])
    assert await store.take(SHARD.shard_id) is None


async def test_a_broken_row_of_a_shard_that_is_not_listed_goes_by_its_own_name() -> None:
    bench = Bench()
    await bench.held(SHARD)
    spoil_first(bench, BROKEN["cut"][0])
    name = REF.shard_lease_name(ARN, SHARD.shard_id)
    leases = await bench.store("2").load([OTHER])
    assert {one: lease.fault is not None for one, lease in leases.items()} == {name: True, OTHER.shard_id: False}


async def test_a_row_in_another_rows_place_is_told_and_the_right_one_counts() -> None:
    bench = Bench()
    await (await bench.held(SHARD)).save(SHARD.shard_id, Checkpoint("5"))
    stray = copy.deepcopy(bench.row(SHARD))
    (here,) = {stray["mapping"]["S"]}
    stray["mapping"]["S"] = next(one for one in table_rows.partitions(UID) if one != here)
    bench.table.rows[stray["mapping"]["S"], stray["object"]["S"]] = stray
    store = bench.store("2")
    assert (await store.load([SHARD]))[SHARD.shard_id].checkpoint == Checkpoint("5")
    assert await store.take(SHARD.shard_id) == Checkpoint("5")


async def test_a_broken_state_of_a_window_costs_its_shard_only_and_is_told_with_what_to_do() -> None:
    bench = Bench()
    writer = await bench.held(SHARD, OTHER)
    await writer.save(SHARD.shard_id, Checkpoint("1", window=Window(60, 120, "1", b"{}")))
    (state,) = [row for (_, name), row in bench.table.rows.items() if name.startswith("windowstates/")]
    state["body"] = {"S": "{"}
    store = bench.store("2")
    await store.load([SHARD, OTHER])
    with pytest.raises(StoreError, match=r"are gone or broken; bring them back, or take status\.window away"):
        await store.take(SHARD.shard_id)
    assert await store.take(OTHER.shard_id) == Checkpoint()


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


def test_the_query_in_the_docs_is_for_every_lease_of_a_mapping() -> None:
    asked = tables.documented_queries(UID)
    assert [one["ExpressionAttributeValues"][":m"]["S"] for one in asked] == table_rows.partitions(UID)
    for one in asked:
        assert one["KeyConditionExpression"] == "#m = :m AND begins_with(#o, :o)"
        assert one["ExpressionAttributeNames"] == {"#m": "mapping", "#o": "object"}
        assert one["ExpressionAttributeValues"][":o"] == {"S": table_rows.prefix(SHARD_LEASE, "")}
