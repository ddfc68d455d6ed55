"""What the tests find in place."""

from __future__ import annotations

import os
import shlex
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.kubectl import apply, find, helm, kubectl, minor_version, run, select, told, wait_until
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.e2e.kubectl import Body

CRDS = ("eventsourcemappings.headrace.dev", "shardleases.headrace.dev", "windowstates.headrace.dev")
CHART = ROOT / "charts" / "headrace"
FIRST_WITH_CEL = 25
"""Servers before 1.25 refuse server-side apply of a CRD with CEL rules; a client-side write drops the rules."""
CREDENTIALS = "aws"
"""The Secret with the stand-in's credentials."""
SHARED_CLUSTER = ROOT.parent / "shared" / "cluster" / "cluster"
POD_HOST = "10.244.0.1"
"""Where pods of the shared cluster reach servers on the host's 127.0.0.1."""
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True)
class Release:
    """The chart as installed, or about to be."""

    name: str
    namespace: str
    image: str
    chart: Path = CHART

    @property
    def selector(self) -> str:
        return f"app.kubernetes.io/instance={self.name}"

    def install(self, *settings: str) -> None:
        """With the CRDs, as a user does it on a server of this version."""
        applied = [] if minor_version() >= FIRST_WITH_CEL else ["--server-side=false"]
        helm("install", *self._what, *applied, *_set(settings))
        self._wait()

    def upgrade(self, *settings: str) -> None:
        helm("upgrade", *self._what, *_set(settings))
        self._wait()

    def scale(self, replicas: int) -> None:
        """Sets the number of the operator's pods, and waits until it is so."""
        where = ("--namespace", self.namespace)
        kubectl("scale", f"deployment/{self.name}", f"--replicas={replicas}", *where)
        self._wait()
        wait_until(lambda: len(self.pods()) == replicas, f"{replicas} pods of the operator")

    def pods(self) -> list[Body]:
        """The operator's."""
        return select("pods", self.namespace, self.selector)

    def uninstall(self) -> None:
        helm("uninstall", self.name, "--namespace", self.namespace, "--ignore-not-found", "--wait")

    @property
    def _what(self) -> list[str]:
        repository, _, tag = self.image.rpartition(":")
        image = ["--set", f"image.repository={repository}", "--set", f"image.tag={tag}"]
        return [self.name, str(self.chart), "--namespace", self.namespace, *image]

    def _wait(self) -> None:
        kubectl("rollout", "status", f"deployment/{self.name}", "-n", self.namespace, "--timeout=90s", seconds=100)


def _set(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@dataclass(frozen=True)
class Shop:
    """A user's namespace with the sample function; `aws` is the stand-in's address for pods."""

    namespace: str
    function_url: str
    aws: str


def seen_by_pods(url: str) -> str:
    """The address at which pods find a server of this host."""
    return f"http://{os.environ.get('HEADRACE_E2E_HOST', POD_HOST)}:{url.rstrip('/').rpartition(':')[2]}/"


def build(image: str, context: Path) -> bool:
    """Builds an image and brings it to the nodes; False where nothing is known that could."""
    default = f"{SHARED_CLUSTER} build -t {{image}} {{context}}" if SHARED_CLUSTER.exists() else None
    command = os.environ.get("HEADRACE_E2E_BUILD", default)
    if command is None:
        return False
    run(*(word.format(image=image, context=context) for word in shlex.split(command)), seconds=900)
    return True


@contextmanager
def installing(release: Release, *settings: str) -> Iterator[None]:
    """Installed at first, uninstalled at last."""
    try:
        try:
            release.install(*settings)
        except AssertionError as error:
            error.add_note(told([release.namespace]))
            raise
        yield
    finally:
        release.uninstall()


def apply_crds() -> None:
    """This version's CRDs over those that are there, as the chart's README says it for a server of this version."""
    how = ["--server-side", "--force-conflicts"] if minor_version() >= FIRST_WITH_CEL else ["--validate=false"]
    kubectl("apply", *how, "-f", ROOT / "crds")


def without_crds() -> None:
    """An earlier version's CRDs, which helm would leave as they are, go; never those of a cluster with mappings."""
    if find("crd", CRDS[0]) is None:
        return
    wait_until(lambda: not select("esm"), "no mapping of somebody else's is in the cluster", 30)
    kubectl("delete", "crd", *CRDS, "--ignore-not-found")


@contextmanager
def namespace(prefix: str) -> Iterator[str]:
    """A namespace of its own, deleted afterwards."""
    name = f"{prefix}-{uuid.uuid4().hex[:6]}"
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")
