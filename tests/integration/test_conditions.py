"""What real pollers meet, as an operator beside them tells it in the mapping's status."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import pytest_asyncio

from headrace.control.app import OperatorSettings, run_operator
from headrace.control.desired import PollerSettings
from headrace.heartbeat import heartbeat_of
from headrace.resources import EVENT, EVENT_SOURCE_MAPPING, LEASE, MappingRef, ref_of
from tests.support import aws, clusters, tables
from tests.support.aws import make_stream
from tests.support.clusters import eventually
from tests.support.function import RecordedCall, RecordingFunction, function_error, status, success
from tests.support.headrace import Running, headrace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from headrace.cluster import Body, Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("default"),  # kopf's own are not ours to fail on
]


class Site:
    """A namespace, and what a mapping in it reads and calls."""

    def __init__(self, api: Cluster, namespace: str, endpoint: str, kinesis: Any, function: RecordingFunction) -> None:
        self.api = api
        self.namespace = namespace
        self.endpoint = endpoint
        self.kinesis = kinesis
        self.function = function

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        settings = OperatorSettings(PollerSettings("headrace:test"), namespaces=(self.namespace,))
        task = asyncio.create_task(run_operator(settings, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    async def apply(self, **spec: Any) -> MappingRef:
        said = {
            "function": {"url": self.function.url, "timeoutSeconds": 5},
            "retryBackoff": {"initialSeconds": 0.05, "maximumSeconds": 0.2},
            "aws": {"endpointUrl": self.endpoint},
        }
        body = clusters.mapping(self.namespace, "orders", **(said | spec))
        return ref_of(await self.api.create(EVENT_SOURCE_MAPPING, body))

    @asynccontextmanager
    async def poller(self, ref: MappingRef, identity: str) -> AsyncIterator[Running]:
        where = f"{ref.namespace}/{ref.name}"
        async with headrace("poller", "--mapping", where, "--identity", identity, "--log-format", "json") as running:
            yield running

    async def told(self, kind: str, value: str, reason: str, words: str = "", within: float = 30.0) -> Body:
        """Waits for a condition of the mapping."""

        async def found() -> Body | None:
            body = await self.api.find(EVENT_SOURCE_MAPPING, self.namespace, "orders")
            conditions = (body or {}).get("status", {}).get("conditions", ())
            wanted = (kind, value, reason)
            return next(
                (
                    each
                    for each in conditions
                    if (each["type"], each["status"], each["reason"]) == wanted and words in each["message"]
                ),
                None,
            )

        condition: Body = await eventually(found, f"{kind} is {value} for {reason}: {words}", within)
        return condition

    async def event(self, reason: str) -> Body:
        async def found() -> Body | None:
            there = await self.api.select(EVENT, self.namespace)
            return next((each for each in there if each["reason"] == reason), None)

        event: Body = await eventually(found, f"an Event for {reason}")
        return event


@pytest_asyncio.fixture
async def site(ministack: str, kinesis: Any, function: RecordingFunction) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clusters.cluster())
        namespace = await stack.enter_async_context(clusters.namespace(api))
        yield Site(api, namespace, ministack, kinesis, function)


async def test_a_mapping_is_ready_again_once_a_poller_that_succeeds_has_the_shard_that_failed(site: Site) -> None:
    stream = await make_stream(site.kinesis, shards=2)
    shards = ["shardId-000000000000", "shardId-000000000001"]
    moving = min(shards, key=lambda shard_id: zlib.crc32(f"taker {shard_id}".encode()))  # the one that it asks for
    site.function.answer = lambda _: status(503)
    ref = await site.apply(eventSourceArn=stream.arn)

    async def reported(identity: str) -> tuple[str, str | None]:
        """What a poller says of the function, and of its last call."""
        beats = [heartbeat_of(lease) for lease in await site.api.select(LEASE, ref.namespace, ref.selector)]
        for beat in beats:
            if beat.identity == identity:
                conditions = {condition.type: condition.status for condition in beat.conditions}
                return conditions.get("FunctionReachable", ""), beat.last_processing_result
        return "", None

    async def says(identity: str, *wanted: str) -> bool:
        return await reported(identity) == wanted

    async with site.operator(), site.poller(ref, "giver"):
        number = await put_into(site, stream.name, moving)
        await site.told("Ready", "False", "Unreachable")
        async with site.poller(ref, "taker"):
            await eventually(lambda: says("taker", "False", "PROBLEM: HTTP 503"), "the taker has the shard", 30.0)
            await eventually(lambda: says("giver", "Unknown", "No records processed"), "the giver says no more of it")
            site.function.answer = success
            await site.function.until(lambda: number in site.function.calls[-1].sequence_numbers)
            await site.told("FunctionReachable", "True", "Reachable")
            await site.told("Ready", "True", "Ready")


async def put_into(site: Site, stream: str, shard_id: str) -> str:
    """A record for a shard; gives its sequence number."""
    answer = await site.kinesis.list_shards(StreamName=stream)
    (shard,) = [each for each in answer["Shards"] if each["ShardId"] == shard_id]
    key = shard["HashKeyRange"]["StartingHashKey"]
    put = await site.kinesis.put_record(StreamName=stream, Data=b"x", PartitionKey="k", ExplicitHashKey=key)
    assert put["ShardId"] == shard_id
    return str(put["SequenceNumber"])


async def test_a_table_that_is_missing_is_told_and_once_it_is_made_all_is_well_by_itself(site: Site) -> None:
    stream = await make_stream(site.kinesis)
    name = aws.unique("headrace-later")
    ref = await site.apply(eventSourceArn=stream.arn, poller={"checkpointTable": name})
    await stream.put("a")
    async with site.operator(), site.poller(ref, "a"):
        told = await site.told("CheckpointsReachable", "False", "NotFound")
        assert f"DynamoDB table {name}" in told["message"]
        assert "make the table" in told["message"]
        assert (await site.told("Ready", "False", "NotFound"))["message"] == told["message"]
        assert "make the table" in (await site.event("NotFound"))["message"]
        async with tables.table(site.endpoint, name):
            await site.function.until(lambda: site.function.seen == [["a"]])
            await site.told("CheckpointsReachable", "True", "Reachable")
            await site.told("Ready", "True", "Ready")
            assert (await site.event("Reachable"))["type"] == "Normal"


async def test_a_table_that_goes_while_records_flow_is_told(site: Site) -> None:
    stream = await make_stream(site.kinesis)
    async with tables.table(site.endpoint) as (name, _), aws.client("dynamodb", site.endpoint) as client:
        ref = await site.apply(eventSourceArn=stream.arn, poller={"checkpointTable": name})
        await stream.put("a")
        async with site.operator(), site.poller(ref, "a"):
            await site.told("Ready", "True", "Ready")
            await client.delete_table(TableName=name)
            await stream.put("b")
            await site.told("CheckpointsReachable", "False", "NotFound")
            await site.told("Ready", "False", "NotFound")


async def test_with_a_table_a_stuck_shard_is_named_and_the_query_of_the_docs_shows_it(site: Site) -> None:
    def poisoned(call: RecordedCall) -> web.StreamResponse:
        return function_error() if "poison" in call.data else success(call)

    site.function.answer = poisoned
    stream = await make_stream(site.kinesis, shards=4)
    async with tables.table(site.endpoint) as (name, _), aws.client("dynamodb", site.endpoint) as client:
        ref = await site.apply(eventSourceArn=stream.arn, poller={"checkpointTable": name})
        async with site.operator(), site.poller(ref, "a"):
            await site.told("ShardsAssigned", "True", "ShardsAssigned", "each of the 4 shards")
            await stream.put("poison")
            ready = await site.told("Ready", "True", "Ready", f"on record {stream.numbers[0]}")
            answers = [await client.query(TableName=name, **query) for query in tables.documented_queries(ref.uid)]
            leases = [orjson.loads(item["body"]["S"]) for answer in answers for item in answer["Items"]]
            assert len({lease["spec"]["shardId"] for lease in leases}) == len(leases) == 4
            (stuck,) = [lease for lease in leases if lease["status"].get("stuckOn") == stream.numbers[0]]
            assert f"{stuck['spec']['shardId']} is retrying since {stuck['status']['stuckSince']}" in ready["message"]
