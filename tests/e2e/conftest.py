"""The chart installed, the sample function deployed, AWS's stand-in on this host: once for all tests here.

Settings, all optional beside KUBECONFIG: HEADRACE_E2E_IMAGE (an image the nodes can get; nothing is built), or
HEADRACE_E2E_BUILD (a command with {image} and {context} that builds one and brings it to the nodes); HEADRACE_E2E_HOST
(where pods find this host's 127.0.0.1).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.installation import (
    CREDENTIALS,
    Release,
    Shop,
    build,
    installing,
    namespace,
    seen_by_pods,
    without_crds,
)
from tests.e2e.kubectl import apply, find, kubectl, select, told
from tests.support import servers
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.e2e.kubectl import Body

FUNCTION = ROOT / "examples" / "function-http"
BUILT_IMAGE = "headrace:e2e"
PLACES = ("release", "operator", "shop", "fleet", "broken")
"""The fixtures that have a namespace."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure tells what the cluster looks like."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    places = [arguments[name].namespace for name in PLACES if name in arguments]
    if report.failed and places:
        report.sections.append(("the cluster", told(places)))
    return report


@pytest.fixture(scope="session")
def node() -> None:
    """Skips without a cluster that runs pods."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    nodes = select("nodes")
    if not any(_runs_pods(each) for each in nodes):
        pytest.skip("the cluster that KUBECONFIG names has no node that runs pods")


def _runs_pods(node: Body) -> bool:
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", ()))
    return ready and bool(node["status"]["nodeInfo"]["containerRuntimeVersion"])


@pytest.fixture(scope="session")
def image(node: None) -> str:
    """The image under test, where the nodes find it."""
    if given := os.environ.get("HEADRACE_E2E_IMAGE"):
        return given
    if not build(BUILT_IMAGE, ROOT):
        pytest.skip("no image to test: set HEADRACE_E2E_IMAGE or HEADRACE_E2E_BUILD")
    return BUILT_IMAGE


@pytest.fixture(scope="session")
def release(image: str) -> Iterator[Release]:
    """The chart, installed with its CRDs."""
    with namespace("headrace-system") as where:
        installed = Release("headrace", where, image)
        without_crds()
        with installing(installed):
            yield installed


@pytest.fixture(scope="session")
def shop(release: Release, ministack: str) -> Iterator[Shop]:
    """A namespace with the sample function and the credentials of the AWS that runs on this host."""
    with namespace("shop") as where:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS}}
        try:
            apply(secret | {"stringData": servers.CREDENTIALS}, *_function(release.image), namespace=where)
            kubectl("rollout", "status", "deployment/orders", "-n", where, "--timeout=90s", seconds=100)
        except AssertionError as error:
            error.add_note(told([where]))
            raise
        service = find("service", "orders", where) or {}
        yield Shop(
            where,
            # By address: the cluster may have no DNS.
            f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/",
            seen_by_pods(ministack),
        )


def _function(image: str) -> list[Body]:
    """The example as it stands, run by the Python of the image that is there anyway; slow enough to be met at work."""
    documents: list[Any] = list(yaml.safe_load_all(kubectl("kustomize", FUNCTION)))
    for document in documents:
        if document["kind"] == "Deployment":
            container = document["spec"]["template"]["spec"]["containers"][0]
            container["image"] = image
            container["env"].append({"name": "WORK_SECONDS", "value": "0.05"})
    return documents
