"""`make bench-operator`: many mappings at once on the cluster that KUBECONFIG names; prints a small table.

The operator runs as users run it, as a process of its own; its memory and CPU time are the kernel's figures. Pollers need
not run: heartbeats are written from here. The mappings lie in a namespace that is deleted afterwards.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from argparse import ArgumentParser
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.heartbeat import RENEW_INTERVAL, Heartbeat, ReportedCondition, lease, lease_name
from headrace.resources import DEPLOYMENT, EVENT_SOURCE_MAPPING, LEASE, ref_of
from tests.support import clusters
from tests.support.clusters import eventually
from tests.support.headrace import headrace

if TYPE_CHECKING:
    from headrace.cluster import Body, Cluster
    from headrace.resources import MappingRef

IDLE_SECONDS = 40.0
LONGEST = 300.0
LIMITS = {"deployments": 60.0, "memory": 150.0, "idle": 2.0}
"""Seconds, MB, per cent of a core."""
GOOD = (ReportedCondition("SourceReachable", "True", "Reachable", "the stream answers"),)


class Process:
    """What Linux tells of a process."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)

    def cpu_seconds(self) -> float:
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self, name: str = "VmRSS") -> float:
        line = next(each for each in (self._folder / "status").read_text().splitlines() if each.startswith(name))
        return int(line.split()[1]) / 1000

    async def load(self, seconds: float) -> float:
        """Per cent of a core over the next seconds."""
        began, used = time.monotonic(), self.cpu_seconds()
        await asyncio.sleep(seconds)
        return 100 * (self.cpu_seconds() - used) / (time.monotonic() - began)


class Heartbeats:
    """One poller's heartbeat for each mapping, renewed as pollers do it."""

    def __init__(self, api: Cluster, refs: list[MappingRef]) -> None:
        self._api = api
        self._refs = refs
        self._renewals = 0
        self.written = 0

    async def run(self) -> None:
        made = [await self._api.create(LEASE, self._body(ref)) for ref in self._refs]
        versions = dict(zip(self._refs, made, strict=True))
        await asyncio.gather(*(self._renew(ref, versions, at) for at, ref in enumerate(self._refs)))

    async def _renew(self, ref: MappingRef, versions: dict[MappingRef, Body], at: int) -> None:
        await asyncio.sleep(RENEW_INTERVAL * at / len(self._refs))
        due = time.monotonic()
        while True:
            due += RENEW_INTERVAL
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            body = self._body(ref)
            body["metadata"]["resourceVersion"] = versions[ref]["metadata"]["resourceVersion"]
            versions[ref] = await self._api.replace(LEASE, body)
            self.written += 1

    def _body(self, ref: MappingRef) -> Body:
        renewed = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        body = lease(ref, Heartbeat("bench", 1, GOOD, "OK", 0, 4, 0), renewed)
        assert body["metadata"]["name"] == lease_name(ref, "bench")
        return body


async def measure(mappings: int) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clusters.cluster())
        namespace = await stack.enter_async_context(clusters.namespace(api))
        command = ("operator", "--namespace", namespace, "--log-format", "json")
        running = await stack.enter_async_context(headrace(*command))
        await running.until(running.catches_sigterm)
        operator = Process(running.process.pid)
        await asyncio.sleep(3)
        found = {"memory before": operator.megabytes()}

        used, began = operator.cpu_seconds(), time.monotonic()
        refs = await create(api, namespace, mappings)
        found["created"] = time.monotonic() - began
        await eventually(lambda: all_there(api, namespace, mappings), f"{mappings} Deployments", LONGEST)
        found["deployments"] = time.monotonic() - began
        await eventually(lambda: all_told(api, namespace, mappings), f"{mappings} conditions", LONGEST)
        found["told"] = time.monotonic() - began
        while await operator.load(3.0) > 10:  # until what was begun has ended
            pass
        found["CPU of it all"] = operator.cpu_seconds() - used
        found["idle"] = await operator.load(IDLE_SECONDS)

        beats = Heartbeats(api, refs)
        beating = asyncio.create_task(beats.run())
        await eventually(lambda: all_enabled(api, namespace, mappings), f"{mappings} Enabled", LONGEST)
        await asyncio.sleep(5)
        written, began = beats.written, time.monotonic()
        found["beating"] = await operator.load(IDLE_SECONDS)
        found["renewals a second"] = (beats.written - written) / (time.monotonic() - began)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        found["memory"] = operator.megabytes("VmHWM")
        assert await running.stop() == 0
        return found


async def create(api: Cluster, namespace: str, mappings: int) -> list[MappingRef]:
    bodies = [clusters.mapping(namespace, f"orders-{number}") for number in range(mappings)]
    return [ref_of(body) for body in await asyncio.gather(*(api.create(EVENT_SOURCE_MAPPING, each) for each in bodies))]


async def all_there(api: Cluster, namespace: str, mappings: int) -> bool:
    return len(await api.select(DEPLOYMENT, namespace)) == mappings


async def all_told(api: Cluster, namespace: str, mappings: int) -> bool:
    bodies = await api.select(EVENT_SOURCE_MAPPING, namespace)
    return len(bodies) == mappings and all(body.get("status", {}).get("conditions") for body in bodies)


async def all_enabled(api: Cluster, namespace: str, mappings: int) -> bool:
    bodies = await api.select(EVENT_SOURCE_MAPPING, namespace)
    return len(bodies) == mappings and all(body.get("status", {}).get("state") == "Enabled" for body in bodies)


def table(mappings: int, found: dict[str, float]) -> list[tuple[str, str, str]]:
    """What, how much, the limit."""
    return [
        (f"{mappings} mappings created", f"{found['created']:.1f} s", ""),
        ("every Deployment there", f"{found['deployments']:.1f} s", f"{LIMITS['deployments']:.0f} s"),
        ("every status written", f"{found['told']:.1f} s", ""),
        ("CPU time until quiet", f"{found['CPU of it all']:.1f} s", ""),
        ("memory before", f"{found['memory before']:.0f} MB", ""),
        ("memory at most", f"{found['memory']:.0f} MB", f"{LIMITS['memory']:.0f} MB"),
        ("idle, of a core", f"{found['idle']:.2f} %", f"{LIMITS['idle']:.0f} %"),
        (f"{found['renewals a second']:.0f} heartbeats a second, of a core", f"{found['beating']:.1f} %", ""),
    ]


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--mappings", type=int, default=200)
    mappings = parser.parse_args().mappings
    if not os.environ.get("KUBECONFIG"):
        sys.exit("KUBECONFIG names no cluster; `cluster up --fake-node` is enough")
    found = asyncio.run(measure(mappings))
    for what, figure, limit in table(mappings, found):
        print(f"{what:<45}{figure:>10}   {limit and f'at most {limit}'}")
    return int(any(found[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
