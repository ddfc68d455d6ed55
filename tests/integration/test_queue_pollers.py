"""Several `headrace poller` processes on one queue: together they never call more often than the mapping allows.

No operator runs but in the last of these tests; the queue is ministack's.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web

from headrace.control.app import OperatorSettings, run_operator
from headrace.control.desired import PollerSettings
from headrace.heartbeat import TERM, Heartbeat, report_of
from headrace.resources import DEPLOYMENT, EVENT_SOURCE_MAPPING, LEASE, SHARD_LEASE, MappingRef, ref_of
from tests.integration.test_queues import counts, make, send, source
from tests.support import clusters
from tests.support.aws import Queue
from tests.support.clusters import eventually
from tests.support.function import RecordedCall, RecordingFunction, success
from tests.support.headrace import Running, headrace

if TYPE_CHECKING:
    from headrace.cluster import Cluster

pytestmark = pytest.mark.cluster

LIMIT = 8
TAKES = 0.25
"""Seconds of a call."""
AHEAD = 200
"""Messages that wait, or are held."""


@dataclass
class Pollers:
    """The pollers of one mapping of a queue."""

    api: Cluster
    ref: MappingRef
    queue: Queue
    stack: AsyncExitStack
    running: dict[str, Running] = field(default_factory=dict)

    async def start(self, *identities: str) -> None:
        for identity in identities:
            where = f"{self.ref.namespace}/{self.ref.name}"
            arguments = ("poller", "--mapping", where, "--identity", identity, "--log-format", "json")
            started = headrace(*arguments, environment={"KUBECONFIG": os.environ["KUBECONFIG"]})
            self.running[identity] = await self.stack.enter_async_context(started)

    async def told(self) -> dict[str, Heartbeat]:
        """What each heartbeat tells."""
        bodies = await self.api.select(LEASE, self.ref.namespace, self.ref.selector)
        return {told.identity: told for body in bodies if (told := report_of(body)) is not None}

    async def claim(self, *, within: float = 60.0, **claims: int) -> None:
        """Waits until these pollers claim so much each."""

        async def claimed() -> bool:
            told = await self.told()
            return all(told[one].claims == calls if one in told else False for one, calls in claims.items())

        await eventually(claimed, f"claims are {claims}", within)


async def slowly(call: RecordedCall) -> web.StreamResponse:
    await asyncio.sleep(TAKES)
    return success(call)


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def pollers_of(
    stack: AsyncExitStack, endpoint: str, queue: Queue, function: RecordingFunction, **spec: Any
) -> Pollers:
    api = await stack.enter_async_context(clusters.cluster())
    namespace = await stack.enter_async_context(clusters.namespace(api))
    limits = {"scalingConfig": {"maximumConcurrency": LIMIT}, "batchSize": 1, "aws": {"endpointUrl": endpoint}}
    body = source(queue, function.url, **(limits | spec))
    body["metadata"]["namespace"] = namespace
    ref = ref_of(await api.create(EVENT_SOURCE_MAPPING, body))
    return Pollers(api, ref, queue, await stack.enter_async_context(AsyncExitStack()))


def handed(function: RecordingFunction) -> Counter[str]:
    return Counter(data for call in function.calls for data in call.data)


@asynccontextmanager
async def supplied(queue: Queue, function: RecordingFunction) -> AsyncIterator[list[str]]:
    """Keeps some hundred messages waiting; gives what was sent, and at the end waits until all of it is done."""
    sent: list[str] = []
    enough = asyncio.Event()

    async def send_on() -> None:
        while not enough.is_set():
            if len(sent) - len(handed(function)) < AHEAD:
                bodies = [str(len(sent) + number) for number in range(20)]
                sent.extend(bodies)
                await asyncio.gather(*(send(queue, body) for body in bodies))
            await asyncio.sleep(0.05)

    sending = asyncio.create_task(send_on())
    try:
        yield sent
    finally:
        enough.set()
        await sending  # not cut short: what counts as sent is sent
    await function.until(lambda: len(handed(function)) == len(sent))
    await eventually(lambda: emptied(queue), "every message is deleted", 40.0)


async def test_pollers_that_come_and_go_never_call_more_than_the_mapping_allows_and_nothing_comes_twice(
    ministack: str, sqs: Any, function: RecordingFunction, stack: AsyncExitStack
) -> None:
    queue = await make(sqs, VisibilityTimeout="60")
    function.answer = slowly
    pollers = await pollers_of(stack, ministack, queue, function)
    async with supplied(queue, function) as sent:
        await pollers.start("a")
        await pollers.claim(a=8)
        await function.until(lambda: function.in_flight == LIMIT)
        await pollers.start("b", "c")
        await pollers.claim(a=3, b=3, c=2)
        await function.until(lambda: function.in_flight == LIMIT)
        assert max(told.backlog or 0 for told in (await pollers.told()).values()) >= AHEAD // 2
        assert await pollers.running["a"].stop() == 0
        await pollers.claim(b=4, c=4)
        await function.until(lambda: function.in_flight == LIMIT)
    assert function.most_in_flight == LIMIT
    assert handed(function).total() == len(sent)
    assert await pollers.api.select(SHARD_LEASE, pollers.ref.namespace, pollers.ref.selector) == [], "no shards"


async def test_the_share_of_a_poller_that_died_is_the_others_once_its_heartbeat_has_lapsed_and_nothing_is_lost(
    ministack: str, sqs: Any, function: RecordingFunction, stack: AsyncExitStack
) -> None:
    queue = await make(sqs, VisibilityTimeout="10")
    function.answer = slowly
    pollers = await pollers_of(stack, ministack, queue, function)
    async with supplied(queue, function) as sent:
        await pollers.start("a", "b")
        await pollers.claim(a=4, b=4)
        await function.until(lambda: function.in_flight == LIMIT)
        await pollers.running["a"].kill()
        await asyncio.sleep(1.0)
        function.most_in_flight = 0
        await asyncio.sleep(TERM - 4.0)
        assert function.most_in_flight <= LIMIT // 2, "what the dead claimed is nobody's yet"
        await pollers.claim(b=8)
        await function.until(lambda: function.in_flight == LIMIT)
    assert function.most_in_flight == LIMIT
    assert handed(function).total() - len(sent) <= LIMIT, "what was in flight at the death comes again"


async def test_over_two_pollers_a_fifo_group_stays_in_order(
    ministack: str, sqs: Any, function: RecordingFunction, stack: AsyncExitStack
) -> None:
    queue, groups, each = await make(sqs, fifo=True, VisibilityTimeout="60"), 20, 10
    ended: dict[str, list[int]] = {}

    async def in_turn(call: RecordedCall) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        for data in call.data:
            group, number = data.split(":")
            ended.setdefault(group, []).append(int(number))
        return success(call)

    function.answer = in_turn
    pollers = await pollers_of(stack, ministack, queue, function, batchSize=3)
    await pollers.start("a", "b")
    await pollers.claim(a=4, b=4)
    for number in range(each):
        await asyncio.gather(*(send(queue, f"{one}:{number}", group=str(one)) for one in range(groups)))
    await function.until(lambda: len(ended) == groups and all(len(one) == each for one in ended.values()))
    assert all(before < after for numbers in ended.values() for before, after in pairwise(numbers))
    assert function.most_in_flight <= LIMIT


async def emptied(queue: Queue) -> bool:
    return await counts(queue) == (0, 0)


@pytest.mark.filterwarnings("default")  # kopf's own are not ours to fail on
async def test_an_operator_makes_pods_by_backlog_or_as_provisioned_and_tells_of_a_queue_in_its_own_words(
    ministack: str, sqs: Any, function: RecordingFunction, stack: AsyncExitStack
) -> None:
    queue = await make(sqs, VisibilityTimeout="1")
    function.answer = slowly
    pollers = await pollers_of(stack, ministack, queue, function, poller={"maxReplicas": 5})
    await asyncio.gather(*(send_ten(queue) for _ in range(110)))
    ref, stop = pollers.ref, asyncio.Event()
    settings = OperatorSettings(PollerSettings("headrace:test"), namespaces=(ref.namespace,))
    operating = asyncio.create_task(run_operator(settings, stop))
    await pollers.start("a")

    async def status() -> dict[str, Any]:
        return ((await pollers.api.find(EVENT_SOURCE_MAPPING, ref.namespace, ref.name)) or {}).get("status") or {}

    async def ready() -> bool:
        return ("Ready", "True") in [(one["type"], one["status"]) for one in (await status()).get("conditions", ())]

    async def scaled(replicas: int) -> bool:
        deployment = await pollers.api.find(DEPLOYMENT, ref.namespace, ref.child_name)
        return deployment is not None and deployment["spec"]["replicas"] == replicas

    try:
        await eventually(ready, "the mapping is ready", 60.0)
        await eventually(partial(scaled, 2), "1,100 messages are worth two pods", 60.0)
        told = await status()
        fixed = {"scalingConfig": None, "provisionedPollerConfig": {"minimumPollers": 4}}
        await pollers.api.merge(EVENT_SOURCE_MAPPING, ref.namespace, ref.name, {"spec": fixed})
        await eventually(partial(scaled, 4), "in provisioned mode there are the least pollers", 60.0)
    finally:
        stop.set()
        await asyncio.wait_for(operating, 20)
    said = {one["type"]: one["reason"] for one in told["conditions"]}
    assert (said["VisibilityTimeout"], said["DeadLetterQueue"]) == ("VisibilityTooShort", "NoDeadLetterQueue")
    assert said.keys() & {"ShardsAssigned", "CheckpointsReachable", "DestinationReachable"} == set()
    assert told.keys() & {"shards", "lastProcessingResult"} == set()
    assert (told["stateTransitionReason"], told["pollers"]) == ("USER_INITIATED", 1)


async def send_ten(queue: Queue) -> None:
    entries = [{"Id": str(number), "MessageBody": "x"} for number in range(10)]
    await queue.sqs.send_message_batch(QueueUrl=queue.url, Entries=entries)
