"""Several `headrace poller` processes that share a stream, on an API server alone: deaths, moves, outages, clocks.

No operator runs in any of these tests. The bound on repeats is the one of the README: none on a planned move; after a
crash, a shard's batch in flight and what was acknowledged since its last checkpoint write.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import yaml

from headrace.ending import STOP_MARGIN
from headrace.heartbeat import report_of
from headrace.resources import (
    ANNOTATION_REPORT,
    EVENT,
    EVENT_SOURCE_MAPPING,
    LEASE,
    SHARD_LEASE,
    MappingRef,
    ref_of,
)
from tests.conformance.test_resharding import active
from tests.support import aws, clusters, tables
from tests.support.aws import Stream, make_stream
from tests.support.clusters import eventually
from tests.support.function import RecordingFunction
from tests.support.headrace import Running, headrace
from tests.support.ledger import Ledger, Load, loaded
from tests.support.proxy import Proxy, proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.cluster import Body, Cluster

pytestmark = pytest.mark.cluster

SHARDS = 8
RATE = 160.0
"""Records a second."""
BATCH = 10
PER_CRASH = SHARDS * (BATCH + RATE / SHARDS * 2.0)
"""Records that one crash may repeat at most: what it held of a batch in flight and of two seconds per shard."""


@dataclass
class Fleet:
    """A mapping of a stream, and the pollers of it."""

    api: Cluster
    line: Proxy
    kubeconfig: Path
    ref: MappingRef
    stream: Stream
    ledger: Ledger
    stack: AsyncExitStack
    pollers: dict[str, Running] = field(default_factory=dict)

    async def start(self, *identities: str, **environment: str) -> None:
        for identity in identities:
            where = f"{self.ref.namespace}/{self.ref.name}"
            arguments = ("poller", "--mapping", where, "--identity", identity, "--log-format", "json")
            environment |= {"KUBECONFIG": str(self.kubeconfig)}
            self.pollers[identity] = await self.stack.enter_async_context(headrace(*arguments, environment=environment))

    async def leases(self) -> list[Body]:
        return await self.api.select(SHARD_LEASE, self.ref.namespace, self.ref.selector)

    async def holders(self) -> dict[str, str | None]:
        """Who holds each shard that is not finished."""
        found = [(lease["spec"]["shardId"], lease["status"]) for lease in await self.leases()]
        return {shard_id: status.get("holder") for shard_id, status in found if not status.get("finished")}

    async def balanced(self, *identities: str, within: float = 40.0) -> dict[str, str | None]:
        """Waits until these pollers hold all shards, about as many each."""

        async def even() -> dict[str, str | None] | None:
            holders = await self.holders()
            load = Counter(holders.values())
            counts = [load[identity] for identity in identities]
            if (
                not holders
                or set(load) > set(identities)
                or max(counts) - min(counts) > 1
                or sum(counts) < len(holders)
            ):
                return None
            return holders

        found: dict[str, str | None] = await eventually(even, f"{identities} share the shards", within)
        return found

    async def held(self, shards: int) -> None:
        """Waits until there are so many shards and each is somebody's."""

        async def all_held() -> bool:
            holders = await self.holders()
            return len(holders) == shards and None not in holders.values()

        await eventually(all_held, f"{shards} shards are held", 40.0)

    async def finish(self, load: Load, within: float = 40.0) -> None:
        """Everything that was written has come, in order."""
        await self.ledger.function.until(lambda: self.ledger.complete(load), within)
        assert not self.ledger.lost(load)
        assert not self.ledger.out_of_order()


@asynccontextmanager
async def make_fleet(
    stack: AsyncExitStack, endpoint: str, stream: Stream, function: RecordingFunction, folder: Path, **spec: Any
) -> AsyncIterator[Fleet]:
    api = await stack.enter_async_context(clusters.cluster())
    namespace = await stack.enter_async_context(clusters.namespace(api))
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    line = await stack.enter_async_context(proxy(server.hostname or "", server.port or 443))
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{line.port}"
    config["clusters"][0]["cluster"]["tls-server-name"] = server.hostname
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    said = {
        "eventSourceArn": stream.arn,
        "function": {"url": function.url, "timeoutSeconds": 5},
        "batchSize": BATCH,
        "retryBackoff": {"initialSeconds": 0.05, "maximumSeconds": 0.2},
        "aws": {"endpointUrl": endpoint},
    }
    body = clusters.mapping(namespace, "orders", **(said | spec))
    ref = ref_of(await api.create(EVENT_SOURCE_MAPPING, body))
    async with AsyncExitStack() as pollers:
        yield Fleet(api, line, kubeconfig, ref, stream, Ledger(function), pollers)


@pytest_asyncio.fixture
async def fleet(ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        stream = await make_stream(kinesis, shards=SHARDS)
        yield await stack.enter_async_context(make_fleet(stack, ministack, stream, function, tmp_path))


async def test_three_pollers_share_the_shards_and_nothing_comes_twice(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a")
        await fleet.balanced("a")
        await fleet.start("b", "c")
        settled = await fleet.balanced("a", "b", "c")
        await asyncio.sleep(5.0)
        assert await fleet.holders() == settled, "what is balanced does not move any more"
    await fleet.finish(load)
    assert fleet.ledger.repeats() == 0


async def test_planned_moves_repeat_nothing(fleet: Fleet) -> None:
    """From one poller to four, to two, to two others."""
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a")
        await fleet.balanced("a")
        began = time.time()
        await fleet.start("b", "c", "d")
        await fleet.balanced("a", "b", "c", "d")
        assert [await fleet.pollers[one].stop() for one in "ab"] == [0, 0]
        await fleet.balanced("c", "d")
        await fleet.start("e", "f")
        await fleet.balanced("c", "d", "e", "f")
        assert await asyncio.gather(*(fleet.pollers[one].stop() for one in "cd")) == [0, 0]
        await fleet.balanced("e", "f")
        silence = fleet.ledger.longest_silence(began, time.time())
        print(f"longest silence of a shard over planned moves: {max(silence.values()):.2f} s")
    await fleet.finish(load)
    assert fleet.ledger.repeats() == 0


async def test_pollers_killed_again_and_again_lose_nothing(fleet: Fleet) -> None:
    chance, kills = random.Random(4), 8
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b", "c")
        await fleet.balanced("a", "b", "c")
        for _ in range(kills):
            identity = chance.choice("abc")
            await asyncio.sleep(3.0)
            await fleet.pollers[identity].kill()
            await fleet.start(identity)
        await fleet.balanced("a", "b", "c")
    await fleet.finish(load)
    print(f"{kills} kills, {sum(load.put.values())} records, {fleet.ledger.repeats()} repeats")
    assert fleet.ledger.repeats() <= kills * PER_CRASH


async def test_the_shards_of_a_poller_that_died_are_taken_over(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b", "c")
        await fleet.balanced("a", "b", "c")
        died = time.time()
        await fleet.pollers["c"].kill()
        await fleet.balanced("a", "b", within=20.0)
        await asyncio.sleep(1.0)
        silence = fleet.ledger.longest_silence(died - 2.0, time.time())
        print(f"longest silence of a shard after a crash: {max(silence.values()):.2f} s")
    await fleet.finish(load)
    assert fleet.ledger.repeats() <= PER_CRASH


async def test_an_outage_of_the_api_server_moves_nothing_and_repeats_nothing(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b", "c")
        before = await fleet.balanced("a", "b", "c")
        fleet.line.cut()
        await asyncio.sleep(7.0)
        stopped = len(fleet.ledger.function.calls)
        await asyncio.sleep(8.0)
        assert len(fleet.ledger.function.calls) == stopped, "nothing is called while the leases are in doubt"
        fleet.line.refusing = False
        await fleet.ledger.function.until(lambda: len(fleet.ledger.function.calls) > stopped + SHARDS)
        await asyncio.sleep(8.0)
        assert await fleet.holders() == before
    await fleet.finish(load)
    assert fleet.ledger.repeats() == 0


async def test_a_poller_that_was_halted_has_lost_its_shards_and_stores_nothing(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b", "c")
        await fleet.balanced("a", "b", "c")
        fleet.pollers["a"].process.send_signal(signal.SIGSTOP)
        await fleet.balanced("b", "c", within=20.0)
        fleet.pollers["a"].process.send_signal(signal.SIGCONT)
        await fleet.balanced("a", "b", "c")
    await fleet.finish(load)
    assert fleet.ledger.repeats() <= PER_CRASH
    assert fleet.pollers["a"].logged("shard lost"), "it says so"


async def test_a_stop_ends_in_time_though_the_api_server_takes_every_request_and_answers_none(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a")
        await fleet.balanced("a")
        fleet.line.muting = True
        assert fleet.line.mute()
        began = time.monotonic()
        assert await fleet.pollers["a"].stop() == 0
        took = time.monotonic() - began
        print(f"a stop with an API server that never answers: {took:.1f} s")
        assert took < STOP_MARGIN, "and the function takes no time here"
        fleet.line.muting = False
        await fleet.start("b")
        await fleet.balanced("b")
    await fleet.finish(load)
    assert fleet.ledger.repeats() <= PER_CRASH


async def test_a_report_that_somebody_broke_ends_no_poller_and_moves_nothing(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b")
        settled = await fleet.balanced("a", "b")
        for _ in range(3):
            for body in await fleet.api.select(LEASE, fleet.ref.namespace, fleet.ref.selector):
                report = {"metadata": {"annotations": {ANNOTATION_REPORT: '{"asks": []}'}}}
                await fleet.api.merge(LEASE, fleet.ref.namespace, body["metadata"]["name"], report)
            await asyncio.sleep(3.0)
            bodies = await fleet.api.select(LEASE, fleet.ref.namespace, fleet.ref.selector)
            assert [report_of(body) is not None for body in bodies] == [True, True], "each heals its own"
        assert await fleet.holders() == settled
    await fleet.finish(load)
    assert fleet.ledger.repeats() == 0


async def test_a_wall_clock_that_is_wrong_moves_nothing(fleet: Fleet, faketime: Path) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b")
        await fleet.start("c", LD_PRELOAD=str(faketime), FAKETIME="+45m", FAKETIME_DONT_FAKE_MONOTONIC="1")
        settled = await fleet.balanced("a", "b", "c")
        await asyncio.sleep(10.0)
        assert await fleet.holders() == settled
        await fleet.pollers["b"].kill()
        await fleet.balanced("a", "c", within=20.0)
    await fleet.finish(load)
    assert fleet.ledger.repeats() <= PER_CRASH


async def test_two_pollers_of_one_name_do_not_fight(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a")
        await fleet.balanced("a")
        first = fleet.pollers["a"]
        await fleet.start("a")
        await first.until(lambda: first.logged("each needs an --identity of its own"))
        await asyncio.sleep(8.0)
        calls = len(fleet.ledger.function.calls)
        await fleet.ledger.function.until(lambda: len(fleet.ledger.function.calls) > calls + SHARDS)
        assert await fleet.pollers["a"].stop() == 0
        await fleet.ledger.function.until(lambda: len(fleet.ledger.function.calls) > calls + 4 * SHARDS)
    assert len(first.logged("each needs an --identity of its own")) == 1
    print(f"two processes of one name: {fleet.ledger.repeats()} repeats")
    await fleet.finish(load)
    assert fleet.ledger.repeats() <= PER_CRASH


async def test_a_heartbeat_deleted_by_hand_is_made_again_and_nothing_moves(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b")
        settled = await fleet.balanced("a", "b")
        for body in await fleet.api.select(LEASE, fleet.ref.namespace, fleet.ref.selector):
            await fleet.api.delete(LEASE, body)
        await asyncio.sleep(9.0)
        assert await fleet.holders() == settled
        assert len(await fleet.api.select(LEASE, fleet.ref.namespace, fleet.ref.selector)) == 2
    await fleet.finish(load)
    assert fleet.ledger.repeats() == 0


async def test_a_lease_edited_by_hand_is_lost_told_and_taken_again(fleet: Fleet) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.start("a", "b")
        await fleet.balanced("a", "b")
        lease = (await fleet.leases())[0]
        name = lease["metadata"]["name"]
        await fleet.api.merge(SHARD_LEASE, fleet.ref.namespace, name, {"status": {"holder": "nobody"}})
        loser = fleet.pollers[lease["status"]["holder"]]
        await loser.until(lambda: loser.logged("shard lost"))
        await fleet.balanced("a", "b")
    await fleet.finish(load)
    assert fleet.ledger.repeats() <= PER_CRASH


async def test_with_a_table_nothing_lies_in_the_cluster_and_the_living_take_over(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        stream = await make_stream(kinesis, shards=4)
        name, _ = await stack.enter_async_context(tables.table(ministack))
        poller = {"checkpointTable": name}
        fleet = await stack.enter_async_context(make_fleet(stack, ministack, stream, function, tmp_path, poller=poller))

        async def all_read(since: float) -> bool:
            return len({call.headers["Headrace-Shard"] for call in function.calls if call.at > since}) == 4

        async with loaded(stream, RATE / 2) as load:
            await fleet.start("a", "b")
            await eventually(lambda: all_read(0.0), "every shard is read")
            await fleet.pollers["a"].kill()
            died = time.time() + 1.0
            await eventually(lambda: all_read(died), "every shard is read by the one that is left")
            assert await fleet.leases() == []
        await fleet.finish(load)
        assert fleet.ledger.repeats() <= PER_CRASH


async def test_a_broken_row_of_a_table_is_told_by_an_event_and_costs_its_shard_until_it_is_mended(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        stream = await make_stream(kinesis, shards=4)
        name, _ = await stack.enter_async_context(tables.table(ministack))
        dynamodb = await stack.enter_async_context(aws.client("dynamodb", ministack))
        poller = {"checkpointTable": name}
        fleet = await stack.enter_async_context(make_fleet(stack, ministack, stream, function, tmp_path, poller=poller))

        def read(since: float) -> set[str]:
            return {call.headers["Headrace-Shard"] for call in function.calls if call.at > since}

        async def told() -> str:
            events = [
                event
                for event in await fleet.api.select(EVENT, fleet.ref.namespace)
                if event["reason"] == "LeaseBroken"
            ]
            return str(events[0]["message"]) if events else ""

        async with loaded(stream, RATE / 2) as load:
            await fleet.start("a")
            await function.until(lambda: len(read(0.0)) == 4)
            await fleet.pollers["a"].stop()
            row = (await dynamodb.scan(TableName=name))["Items"][0]
            shard = json.loads(row["body"]["S"])["spec"]["shardId"]
            broken = row | {"body": {"S": "garbage"}, "version": {"N": str(int(row["version"]["N"]) + 1)}}
            await dynamodb.put_item(TableName=name, Item=broken)
            began = time.time()
            await fleet.start("b", "c")
            await function.until(lambda: len(read(began)) == 3)
            message = await eventually(told, "an Event tells of it")
            assert shard in message
            assert row["object"]["S"] in message
            assert shard not in read(began)
            await dynamodb.put_item(TableName=name, Item=row)
            await function.until(lambda: shard in read(began))
        await fleet.finish(load)
        assert fleet.ledger.repeats() == 0


async def test_resharding_under_load_keeps_order_and_loses_nothing(
    kinesis_local: str, function: RecordingFunction, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        kinesis = await stack.enter_async_context(aws.client("kinesis", kinesis_local))
        stream = await make_stream(kinesis, shards=2)
        fleet = await stack.enter_async_context(make_fleet(stack, kinesis_local, stream, function, tmp_path))
        async with loaded(stream, 40.0, keys=8) as load:
            await fleet.start("a", "b", "c")
            await fleet.held(2)
            await kinesis.split_shard(
                StreamName=stream.name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**126)
            )
            await active(stream, open_shards=3)
            await fleet.held(3)
            await kinesis.merge_shards(
                StreamName=stream.name,
                ShardToMerge="shardId-000000000003",
                AdjacentShardToMerge="shardId-000000000001",
            )
            await active(stream, open_shards=2)
            await fleet.held(2)
        await fleet.finish(load)
        assert fleet.ledger.repeats() == 0
