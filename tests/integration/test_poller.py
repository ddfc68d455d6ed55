"""`headrace poller` outside the cluster: an API server, an emulated stream, and kill -9."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp.web import json_response

from headrace.heartbeat import heartbeat_of
from headrace.resources import EVENT, EVENT_SOURCE_MAPPING, LEASE, SHARD_LEASE, MappingRef, ref_of
from tests.support import clusters
from tests.support.aws import Stream, make_stream
from tests.support.clusters import eventually
from tests.support.fake_dynamodb import FakeTable, serving
from tests.support.function import RecordedCall, RecordingFunction, function_error, success
from tests.support.headrace import Running, headrace, long_window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from headrace.cluster import Body, Cluster

pytestmark = pytest.mark.cluster


class Site:
    """A namespace, a stream and a mapping of it."""

    def __init__(
        self, api: Cluster, namespace: str, endpoint: str, stream: Stream, function: RecordingFunction
    ) -> None:
        self.api = api
        self.namespace = namespace
        self.endpoint = endpoint
        self.stream = stream
        self.function = function

    async def apply(self, **spec: Any) -> MappingRef:
        said = {
            "eventSourceArn": self.stream.arn,
            "function": {"url": self.function.url, "timeoutSeconds": 5},
            "retryBackoff": {"initialSeconds": 0.05, "maximumSeconds": 0.2},
            "aws": {"endpointUrl": self.endpoint},
        }
        body = clusters.mapping(self.namespace, "orders", **(said | spec))
        return ref_of(await self.api.create(EVENT_SOURCE_MAPPING, body))

    @asynccontextmanager
    async def poller(self, ref: MappingRef, identity: str = "a") -> AsyncIterator[Running]:
        where = f"{ref.namespace}/{ref.name}"
        async with headrace("poller", "--mapping", where, "--identity", identity, "--log-format", "json") as running:
            yield running

    async def shard(self, ref: MappingRef) -> Body:
        leases = await self.api.select(SHARD_LEASE, ref.namespace, ref.selector)
        return leases[0]["status"] if leases else {}

    async def shard_tells(self, ref: MappingRef, **told: Any) -> Body:
        async def found() -> Body | None:
            status = await self.shard(ref)
            return status if told.items() <= status.items() else None

        status: Body = await eventually(found, f"a ShardLease that tells {told}")
        return status

    async def reported(self, ref: MappingRef) -> bool:
        [beat] = [heartbeat_of(lease) for lease in await self.heartbeats(ref)]
        conditions = {condition.type: condition.status for condition in beat.conditions}
        return beat.shards_total == 1 and conditions.get("SourceReachable") == "True"

    async def heartbeats(self, ref: MappingRef) -> list[Body]:
        return await self.api.select(LEASE, ref.namespace, ref.selector)


@pytest_asyncio.fixture
async def site(ministack: str, kinesis: Any, function: RecordingFunction) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clusters.cluster())
        namespace = await stack.enter_async_context(clusters.namespace(api))
        yield Site(api, namespace, ministack, await make_stream(kinesis), function)


async def test_records_reach_the_function_and_the_checkpoint_its_lease(site: Site) -> None:
    ref = await site.apply()
    await site.stream.put("a", "b", "c")
    async with site.poller(ref) as running:
        await site.function.until(lambda: [*chain(*site.function.seen)] == ["a", "b", "c"])
        await site.shard_tells(ref, sequenceNumber=site.stream.numbers[-1], holder="a", state="Held")
        await eventually(lambda: site.reported(ref), "the report tells one shard and a reachable source")
        assert await running.stop() == 0
    assert await site.heartbeats(ref) == []
    status = await site.shard(ref)
    assert (status["state"], status["sequenceNumber"]) == ("Available", site.stream.numbers[-1])


async def test_a_dynamodb_streams_shards_have_leases_of_their_own_as_they_rotate(site: Site) -> None:
    async with serving(FakeTable()) as table:
        numbers = table.put("a", "b")
        ref = await site.apply(eventSourceArn=table.arn, aws={"endpointUrl": table.url})
        async with site.poller(ref) as running:
            await site.function.until(lambda: [*chain(*site.function.seen)] == ["a", "b"])
            (child,) = table.rotate()
            numbers += table.put("c")
            await site.function.until(lambda: [*chain(*site.function.seen)] == ["a", "b", "c"])

            async def told() -> dict[str, tuple[str, str | None]] | None:
                leases = await site.api.select(SHARD_LEASE, ref.namespace, ref.selector)
                states = {
                    lease["spec"]["shardId"]: (lease["status"]["state"], lease["status"].get("sequenceNumber"))
                    for lease in leases
                }
                return states if states.get(child.shard_id, ("", None))[1] else None

            states = await eventually(told, "the child's checkpoint")
            assert states == {child.parent: ("Finished", numbers[1]), child.shard_id: ("Held", numbers[2])}
            assert await running.stop() == 0


async def test_after_a_kill_the_window_goes_on_with_its_state(site: Site) -> None:
    def counting(call: RecordedCall) -> web.Response:
        return json_response({"state": {"n": call.event["state"].get("n", 0) + len(call.event["Records"])}})

    site.function.answer = counting
    ref = await site.apply(tumblingWindowInSeconds=long_window())
    await site.stream.put("a", "b")
    async with site.poller(ref) as running:
        await site.shard_tells(ref, sequenceNumber=site.stream.numbers[-1])
        await running.kill()
    held = sum(len(call.data) for call in site.function.calls)
    site.function.calls.clear()
    await site.stream.put("c")
    async with site.poller(ref, "b"):
        await site.function.until(lambda: site.function.seen == [["c"]])
    assert site.function.calls[0].event["state"] == {"n": held}


async def test_after_a_kill_it_goes_on_behind_the_checkpoint(site: Site) -> None:
    ref = await site.apply()
    await site.stream.put("a", "b")
    async with site.poller(ref) as running:
        await site.shard_tells(ref, sequenceNumber=site.stream.numbers[-1])
        await running.kill()
    site.function.calls.clear()
    await site.stream.put("c")
    async with site.poller(ref, "b"):
        await site.function.until(lambda: bool(site.function.calls))
        await site.shard_tells(ref, sequenceNumber=site.stream.numbers[-1], holder="b")
    assert site.function.seen == [["c"]]


async def test_the_lease_tells_why_a_shard_is_stuck(site: Site) -> None:
    site.function.answer = lambda _: function_error()
    ref = await site.apply()
    await site.stream.put("poison")
    async with site.poller(ref):
        status = await site.shard_tells(ref, state="Retrying")
        assert status["attempts"] > 0
        assert status["lastError"]


async def test_a_discard_is_told_in_an_event_of_the_mapping(site: Site) -> None:
    site.function.answer = lambda call: function_error() if "poison" in call.data else success(call)
    ref = await site.apply(maximumRetryAttempts=0)
    await site.stream.put("poison")
    async with site.poller(ref):

        async def told() -> list[Body]:
            found = await site.api.select(EVENT, site.namespace)
            return [event for event in found if event["involvedObject"].get("uid") == ref.uid]

        (event,) = await eventually(told, "an Event of the mapping")
    assert (event["reason"], event["type"]) == ("RecordsDropped", "Warning")
    assert site.stream.numbers[0] in event["message"]
    assert "poison" not in event["message"]


async def test_latest_misses_nothing_written_after_the_mapping_was_made(site: Site) -> None:
    await site.stream.put("old")
    await asyncio.sleep(1.1)  # creation times are in whole seconds
    ref = await site.apply(startingPosition="LATEST")
    await asyncio.sleep(1.1)
    await site.stream.put("new")
    async with site.poller(ref):
        await site.function.until(lambda: bool(site.function.calls))
        assert site.function.seen == [["new"]]


async def test_a_change_of_the_spec_is_followed_and_disabling_rests(site: Site) -> None:
    ref = await site.apply(batchSize=1)
    await site.stream.put("a", "b")
    async with site.poller(ref):
        await site.function.until(lambda: site.function.seen == [["a"], ["b"]])
        await site.api.merge(EVENT_SOURCE_MAPPING, ref.namespace, ref.name, {"spec": {"enabled": False}})
        await site.shard_tells(ref, state="Available")
        await site.stream.put("c")
        await asyncio.sleep(2.5)
        assert site.function.seen == [["a"], ["b"]]
        await site.api.merge(EVENT_SOURCE_MAPPING, ref.namespace, ref.name, {"spec": {"enabled": True}})
        await site.function.until(lambda: site.function.seen == [["a"], ["b"], ["c"]])


async def test_it_ends_when_the_mapping_is_gone(site: Site) -> None:
    ref = await site.apply()
    async with site.poller(ref) as running:
        await site.shard_tells(ref, state="Held")
        body = await site.api.find(EVENT_SOURCE_MAPPING, ref.namespace, ref.name)
        assert body is not None
        await site.api.delete(EVENT_SOURCE_MAPPING, body)
        assert await running.end() == 0


async def test_a_mapping_that_never_was_is_one_sentence(site: Site) -> None:
    async with headrace("poller", "--mapping", f"{site.namespace}/nothing") as running:
        assert await running.end() != 0
    assert "there is no EventSourceMapping" in "".join(running.lines)
    assert "Traceback" not in "".join(running.lines)


async def test_of_two_pollers_one_works_and_the_other_takes_over_when_it_dies(site: Site) -> None:
    ref = await site.apply()
    await site.stream.put("a")
    async with site.poller(ref, "first") as first, site.poller(ref, "second") as second:
        held = await site.shard_tells(ref, sequenceNumber=site.stream.numbers[-1])
        winner, loser = (first, second) if held["holder"] == "first" else (second, first)
        await winner.kill()
        await site.stream.put("b")
        await site.function.until(lambda: site.function.seen == [["a"], ["b"]])
        assert await loser.stop() == 0


async def test_a_stop_lets_the_call_in_flight_end_and_checkpoints_it(site: Site) -> None:
    async def slow(call: RecordedCall) -> web.StreamResponse:
        await asyncio.sleep(1.5)
        return success(call)

    site.function.answer = slow
    ref = await site.apply()
    await site.stream.put("a")
    async with site.poller(ref) as running:
        await site.function.until(lambda: site.function.in_flight == 1)
        assert await running.stop(signal.SIGINT) == 0
    assert (await site.shard(ref))["sequenceNumber"] == site.stream.numbers[-1]
