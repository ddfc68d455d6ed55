"""A mapping with several poller pods in the cluster, a load on its stream, and the ledger of its function."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.api_server import connect
from headrace.cluster import ClusterError
from headrace.resources import API_VERSION, DEPLOYMENT, EVENT_SOURCE_MAPPING, POD, SHARD_LEASE, MappingRef, ref_of
from tests.e2e import machines
from tests.e2e.installation import CREDENTIALS, seen_by_pods
from tests.e2e.kubectl import apply, kubectl
from tests.support import servers
from tests.support.clusters import eventually
from tests.support.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.cluster import Body, Cluster
    from tests.support.aws import Stream
    from tests.support.ledger import Load

SHARDS = 8
RATE = 160.0
"""Records a second."""
BATCH = 10
UNWRITTEN_SECONDS = 2.0
"""Checkpoints are written once a second while records flow; the rest is for slow machines."""
PER_SHARD = BATCH + RATE / SHARDS * UNWRITTEN_SECONDS
"""Records that a crash may repeat at most of each shard: a batch in flight, and what was not written yet."""
PER_CRASH = SHARDS * PER_SHARD
READING = 1.0
"""Seconds between two reads of a shard at its tip: so long it is silent when nothing happens."""


def manifest(name: str, arn: str, function: str, aws: str, **spec: Any) -> Body:
    """A mapping for pods, from TRIM_HORIZON with quick retries; `spec` adds and replaces properties."""
    wanted = {
        "eventSourceArn": arn,
        "function": {"url": seen_by_pods(function), "timeoutSeconds": 5},
        "startingPosition": "TRIM_HORIZON",
        "batchSize": BATCH,
        "retryBackoff": {"initialSeconds": 0.05, "maximumSeconds": 0.2},
        "aws": {"endpointUrl": seen_by_pods(aws), "credentials": {"secretRef": {"name": CREDENTIALS}}},
    }
    metadata = {"name": name}
    return {"apiVersion": API_VERSION, "kind": "EventSourceMapping", "metadata": metadata, "spec": wanted | spec}


def credentials() -> Body:
    """The Secret that `manifest` names."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": CREDENTIALS},
        "stringData": servers.CREDENTIALS,
    }


@dataclass
class Moves:
    """How long shards were nobody's, and who had them, as it shows from outside ten times a second."""

    holders: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    unheld: list[float] = field(default_factory=list)
    """Seconds of each time a shard was released and not taken yet."""
    _since: dict[str, float] = field(default_factory=dict)

    def see(self, holders: dict[str, str | None], now: float) -> None:
        for shard, holder in holders.items():
            if holder is None:
                self._since.setdefault(shard, now)
                continue
            self.holders[shard].add(holder)
            if shard in self._since:
                self.unheld.append(now - self._since.pop(shard))


@dataclass
class Fleet:
    """The mapping `orders` of a namespace of its own."""

    api: Cluster
    ref: MappingRef
    stream: Stream
    ledger: Ledger
    body: Body

    @property
    def namespace(self) -> str:
        return self.ref.namespace

    @property
    def where(self) -> tuple[str, ...]:
        return "--namespace", self.ref.namespace

    def run(self, **poller: Any) -> None:
        """Changes the mapping's `poller`."""
        changed = {**self.body["spec"], "poller": {**self.body["spec"].get("poller", {}), **poller}}
        self.body = {**self.body, "spec": changed}
        apply(self.body, namespace=self.ref.namespace)

    async def mapping(self) -> Body:
        return await self.api.find(EVENT_SOURCE_MAPPING, self.ref.namespace, self.ref.name) or {}

    async def pods(self) -> dict[str, Body]:
        """Those that are not about to go, by name."""
        found = await self.api.select(POD, self.ref.namespace, self.ref.selector)
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    async def gone(self) -> bool:
        return not await self.pods()

    async def held(self, pod: str) -> int:
        """How many shards a pod has."""
        return list((await self.holders()).values()).count(pod)

    async def restarts(self) -> int:
        pods = await self.pods()
        return sum(each["restartCount"] for pod in pods.values() for each in pod["status"]["containerStatuses"])

    async def deployment(self) -> Body:
        return await self.api.find(DEPLOYMENT, self.ref.namespace, self.ref.child_name) or {}

    async def holders(self) -> dict[str, str | None]:
        leases = await self.api.select(SHARD_LEASE, self.ref.namespace, self.ref.selector)
        return {lease["spec"]["shardId"]: lease.get("status", {}).get("holder") for lease in leases}

    async def balanced(self, pods: int, within: float = 90.0) -> dict[str, str | None]:
        """Waits until there are so many pods that share the shards evenly; who has which."""

        async def even() -> dict[str, str | None] | None:
            holders, names = await self.holders(), set(await self.pods())
            load = Counter(holders.values())
            loads = [load[name] for name in names]
            ours = len(holders) == SHARDS and set(load) == names and len(names) == pods
            return holders if ours and max(loads) - min(loads) <= 1 else None

        try:
            found: dict[str, str | None] = await eventually(even, f"{pods} pods share the shards", within)
        except AssertionError as error:
            error.add_note(f"holders: {await self.holders()}, pods: {sorted(await self.pods())}")
            raise
        return found

    async def processes(self) -> dict[str, int]:
        """The pollers' processes by pod, where this host is the node; not those of pods that are about to go."""
        pods = await self.pods()
        found = machines.pollers(self.ref.namespace, self.ref.name)
        return {pod: pid for pod, pid in found.items() if pod in pods}

    async def flows(self, calls: int = 2) -> None:
        """Waits for so many calls from every shard from now on."""
        function = self.ledger.function
        before = len(function.calls)

        def enough() -> bool:
            came = Counter(call.headers["Headrace-Shard"] for call in function.calls[before:])
            return len(came) == SHARDS and min(came.values()) >= calls

        await function.until(enough)

    async def finish(self, load: Load, within: float = 60.0) -> None:
        """Everything that was written has come, in order."""
        await self.ledger.function.until(lambda: self.ledger.complete(load), within)
        assert not self.ledger.lost(load)
        assert not self.ledger.out_of_order()

    def silence(self, since: float) -> float:
        """The longest time without a call of any shard, in seconds, since then; that which lasts counts too."""
        now = time.time()
        last = {call.headers["Headrace-Shard"]: call.at for call in self.ledger.function.calls}
        return max(*self.ledger.longest_silence(since, now).values(), *(now - at for at in last.values()))

    async def told(self, what: str, began: float) -> None:
        """Prints where a test is, once records flow on: its figures are those of docs/scale.md."""
        await self.flows()
        figures = f"{self.ledger.repeats()} repeats, longest silence of a shard {self.silence(began):.2f} s"
        print(f"{time.time() - began:5.1f} s {what}: {figures}")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Moves]:
        """Looks at who has the shards while the block runs."""
        moves = Moves()

        async def look() -> None:
            while True:
                with suppress(ClusterError):
                    moves.see(await self.holders(), time.monotonic())
                await asyncio.sleep(0.1)

        looking = asyncio.create_task(look())
        try:
            yield moves
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


@asynccontextmanager
async def deployed(namespace: str, stream: Stream, ledger: Ledger, aws: str, **poller: Any) -> AsyncIterator[Fleet]:
    """The mapping, applied; deleted afterwards, and its pods with it."""
    body = manifest("orders", stream.arn, ledger.function.url, aws, **({"poller": poller} if poller else {}))
    apply(credentials(), body, namespace=namespace)
    async with connect() as api:
        there = await api.find(EVENT_SOURCE_MAPPING, namespace, "orders") or {}
        fleet = Fleet(api, ref_of(there), stream, ledger, body)
        try:
            yield fleet
        finally:
            kubectl("delete", "esm", "orders", "--namespace", namespace, "--ignore-not-found")
            await eventually(fleet.gone, "the pods go with their mapping", 60.0)
