"""The chart of an earlier version, installed with its own CRDs and image, and upgraded to this one under load."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.fleet import PER_CRASH, RATE, SHARDS, deployed
from tests.e2e.installation import CHART, Release, apply_crds, build, installing, namespace, without_crds
from tests.support.aws import make_stream
from tests.support.clusters import eventually
from tests.support.ledger import Ledger, loaded
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.fleet import Fleet
    from tests.support.function import RecordingFunction

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

PREVIOUS = "6180fffb9b26e0584eef0d0546b37f090ca891ae"
"""The last commit before leases had owners: a mapping had one poller, the operator no election."""
PREVIOUS_IMAGE = "headrace:previous"


@dataclass(frozen=True)
class Version:
    """An image, and the chart that goes with it."""

    image: str
    chart: Path


@pytest.fixture(scope="module")
def previous(node: None, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """Built from the repository's history; its dependencies are the layers of this version's image."""
    archive = subprocess.run(["git", "archive", PREVIOUS], cwd=ROOT, capture_output=True, check=False, timeout=60)
    if archive.returncode:
        pytest.skip(f"this copy of the repository has no commit {PREVIOUS}")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    if not build(PREVIOUS_IMAGE, folder):
        pytest.skip("the earlier version's image cannot be built: set HEADRACE_E2E_BUILD")
    return Version(PREVIOUS_IMAGE, folder / "charts" / "headrace")


async def test_an_upgrade_under_load_loses_nothing(
    image: str, previous: Version, ministack: str, kinesis: Any, function: RecordingFunction
) -> None:
    with namespace("upgrade-system") as system, namespace("upgrade") as place:
        without_crds()
        earlier = Release("headrace-upgraded", system, previous.image, previous.chart)
        with installing(earlier):
            stream = await make_stream(kinesis, shards=SHARDS)
            async with deployed(place, stream, Ledger(function), ministack) as fleet:
                await upgraded(fleet, replace(earlier, image=image, chart=CHART))


async def upgraded(fleet: Fleet, release: Release) -> None:
    async with loaded(fleet.stream, RATE) as load:
        await fleet.flows()
        began = time.time()
        await asyncio.to_thread(apply_crds)
        await fleet.told("the CRDs are this version's", began)
        await asyncio.to_thread(release.upgrade)
        await fleet.told("the operator is", began)

        async def all_new() -> bool:
            pods = (await fleet.pods()).values()
            return {pod["spec"]["containers"][0]["image"] for pod in pods} == {release.image}

        await eventually(all_new, "the pollers are of this version", 90.0)
        await fleet.balanced(1)
        await fleet.told("the poller is", began)
        fleet.run(minReplicas=3)
        await fleet.balanced(3)
        await fleet.told("there are three", began)
    await fleet.finish(load)
    assert fleet.ledger.repeats() <= PER_CRASH
