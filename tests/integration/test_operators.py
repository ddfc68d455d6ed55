"""Several operators, and lines that break: who works, who takes over, and that no operator goes deaf."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
import yaml
from kubernetes import config as blocking_config
from kubernetes.aio import config

from headrace.control.app import OperatorSettings, run_operator
from headrace.control.desired import PollerSettings
from headrace.control.watching import WatchSettings
from headrace.resources import DEPLOYMENT, EVENT_SOURCE_MAPPING, LEASE, ref_of
from tests.support import clusters
from tests.support.clusters import eventually
from tests.support.headrace import Running, headrace
from tests.support.proxy import Proxy, proxy
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.cluster import Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("default"),  # kopf's own are not ours to fail on
]

NAME = "headrace"


@dataclass
class Operator:
    """One operator's process."""

    running: Running
    port: int

    async def answer(self, path: str) -> tuple[int, str]:
        """Status 0: no answer."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def leads(self) -> bool:
        return "headrace_operator_leader 1.0" in (await self.answer("/metrics"))[1]

    async def ready(self) -> bool:
        return (await self.answer("/readyz"))[0] == 200


class Site:
    """A namespace that operators serve, with the Lease they share."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    @asynccontextmanager
    async def operator(self, kubeconfig: Path | None = None) -> AsyncIterator[Operator]:
        port = free_port()
        election = ("--leader-election", "--leader-election-namespace", self.namespace)
        served = ("--namespace", self.namespace, "--metrics-port", port, "--metrics-host", "127.0.0.1")
        command = ("operator", *served, *election, "--leader-election-lease", NAME, "--log-format", "json")
        environment = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
        async with headrace(*command, environment=environment) as running:
            operator = Operator(running, port)
            await eventually(operator.ready, "an operator that works or stands by is ready")
            yield operator

    async def holder(self) -> str | None:
        lease = await self.api.find(LEASE, self.namespace, NAME)
        return lease["spec"].get("holderIdentity") if lease is not None else None

    async def served(self, name: str, within: float = 20.0) -> None:
        """A new mapping gets its Deployment."""
        ref = ref_of(await self.api.create(EVENT_SOURCE_MAPPING, clusters.mapping(self.namespace, name)))
        found = lambda: self.api.find(DEPLOYMENT, self.namespace, ref.child_name)  # noqa: E731
        await eventually(found, f"a Deployment of {name}", within)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clusters.cluster())
        yield Site(api, await stack.enter_async_context(clusters.namespace(api)))


@asynccontextmanager
async def line_to_the_server(folder: Path) -> AsyncIterator[tuple[Proxy, Path]]:
    """A line to the API server, and the kubeconfig of who uses it."""
    given = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    current = next(each for each in given["contexts"] if each["name"] == given["current-context"])
    server = next(each["cluster"] for each in given["clusters"] if each["name"] == current["context"]["cluster"])
    address = urlsplit(server["server"])
    async with proxy(str(address.hostname), address.port or 443) as line:
        server["server"] = f"{address.scheme}://127.0.0.1:{line.port}"
        server.setdefault("tls-server-name", address.hostname)
        file = folder / "line.yaml"
        file.write_text(yaml.safe_dump(given))
        yield line, file


async def test_one_works_the_other_stands_by_ready_and_takes_over_at_once_when_the_first_is_stopped(
    site: Site,
) -> None:
    async with site.operator() as first, site.operator() as second:
        assert (await first.leads(), await second.leads()) == (True, False)
        assert (await second.answer("/healthz"))[0] == 200
        await site.served("before")
        assert await first.running.stop(signal.SIGTERM) == 0
        await eventually(second.leads, "a released Lease is taken", within=5)
        await site.served("after")
        assert await second.running.stop(signal.SIGTERM) == 0
        assert await site.holder() is None, "the last one leaves it free"
    async with site.operator() as third:
        await eventually(third.leads, "a free Lease needs no waiting", within=5)


async def test_a_killed_leader_is_replaced_when_its_term_has_passed(site: Site) -> None:
    async with site.operator() as first, site.operator() as second:
        await first.running.kill()
        began = asyncio.get_running_loop().time()
        await site.served("orders", within=25)
        assert asyncio.get_running_loop().time() - began > 12, "not before"
        assert await second.leads()


async def test_a_leader_that_does_not_reach_the_server_ends_before_the_other_leads(site: Site, tmp_path: Path) -> None:
    async with (
        line_to_the_server(tmp_path) as (line, kubeconfig),
        site.operator(kubeconfig) as first,
        site.operator() as second,
    ):
        before = await site.holder()
        line.muting = True
        line.mute()
        assert await first.running.end(14) == 1
        assert await site.holder() == before
        assert not await second.leads()
        await eventually(second.leads, "the term has passed", within=10)
        assert first.running.logged("leads"), "it said so"
        assert "Traceback" not in "".join(first.running.lines)


async def test_a_leader_whose_lease_is_taken_says_so_in_one_line_of_its_log(site: Site) -> None:
    async with site.operator() as first:
        await eventually(first.leads, "it leads")
        taken = {"spec": {"holderIdentity": "another"}}
        await site.api.merge(LEASE, site.namespace, NAME, taken)
        assert await first.running.end(14) == 1
        lines = [json.loads(line) for line in first.running.lines]
        assert [line["event"] for line in lines if line["level"] == "error"] == [
            f"the Lease {site.namespace}/{NAME} is not this operator's any more; it ends, and may be started again"
        ]
        assert not [line for line in lines if "exception" in line]


async def test_a_halted_leader_that_wakes_up_after_its_term_ends_without_a_word_to_the_mappings(site: Site) -> None:
    async with site.operator() as first, site.operator() as second:
        first.running.process.send_signal(signal.SIGSTOP)
        try:
            await site.served("orders", within=25)
            assert await second.leads()
        finally:
            first.running.process.send_signal(signal.SIGCONT)
        assert await first.running.end(10) == 1
        assert await second.leads()


@asynccontextmanager
async def operator_on(
    site: Site, kubeconfig: Path, watches: WatchSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """An operator of this process that uses another kubeconfig."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    for module in (config.kube_config, blocking_config.kube_config):
        monkeypatch.setattr(module, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    stop = asyncio.Event()
    settings = OperatorSettings(PollerSettings("headrace:test"), namespaces=(site.namespace,), watches=watches)
    task = asyncio.create_task(run_operator(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def test_watches_that_fall_silent_hide_a_change_for_no_longer_than_a_watch_lasts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        line_to_the_server(tmp_path) as (line, kubeconfig),
        operator_on(site, kubeconfig, WatchSettings(server=300, client=5.0), monkeypatch),
    ):
        await site.served("before")
        assert line.mute() >= 8, "seven watches, and what else is open"
        await site.served("after", within=5 + 20)  # a look may begin on a silent connection, too


async def test_a_server_that_does_not_end_its_watches_or_ends_them_often_hides_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        line_to_the_server(tmp_path) as (_, kubeconfig),
        operator_on(site, kubeconfig, WatchSettings(server=1, client=3.0), monkeypatch),
    ):
        for number in range(8):
            await site.served(f"orders-{number}")
            await asyncio.sleep(0.6)


async def test_after_a_long_outage_the_operator_notices_what_happened_meanwhile(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        line_to_the_server(tmp_path) as (line, kubeconfig),
        operator_on(site, kubeconfig, WatchSettings(), monkeypatch),
    ):
        await site.served("before")
        line.cut()
        ref = ref_of(await site.api.create(EVENT_SOURCE_MAPPING, clusters.mapping(site.namespace, "meanwhile")))
        await asyncio.sleep(30)
        assert await site.api.find(DEPLOYMENT, site.namespace, ref.child_name) is None
        line.refusing = False
        found = lambda: site.api.find(DEPLOYMENT, site.namespace, ref.child_name)  # noqa: E731
        await eventually(found, "a Deployment", within=15)
