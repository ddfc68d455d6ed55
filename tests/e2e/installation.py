"""What the tests find in place."""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.kubectl import helm, kubectl, minor_version
from tests.support.servers import ROOT

CRDS = ("eventsourcemappings.headrace.dev", "shardleases.headrace.dev", "windowstates.headrace.dev")
CHART = ROOT / "charts" / "headrace"
FIRST_WITH_CEL = 25
"""Servers before 1.25 refuse server-side apply of a CRD with CEL rules; a client-side write drops the rules."""
CREDENTIALS = "aws"
"""The Secret with the stand-in's credentials."""


@dataclass(frozen=True)
class Release:
    """The chart as installed, or about to be."""

    name: str
    namespace: str
    image: str

    @property
    def selector(self) -> str:
        return f"app.kubernetes.io/instance={self.name}"

    def install(self) -> None:
        """With the CRDs, as a user does it on a server of this version."""
        helm("install", *self._what, *([] if minor_version() >= FIRST_WITH_CEL else ["--server-side=false"]))
        self._wait()

    def upgrade(self, *settings: str) -> None:
        helm("upgrade", *self._what, *(word for setting in settings for word in ("--set", setting)))
        self._wait()

    def uninstall(self) -> None:
        helm("uninstall", self.name, "--namespace", self.namespace, "--ignore-not-found", "--wait")

    @property
    def _what(self) -> list[str]:
        repository, _, tag = self.image.rpartition(":")
        image = ["--set", f"image.repository={repository}", "--set", f"image.tag={tag}"]
        return [self.name, str(CHART), "--namespace", self.namespace, *image]

    def _wait(self) -> None:
        kubectl("rollout", "status", f"deployment/{self.name}", "-n", self.namespace, "--timeout=90s", seconds=100)


@dataclass(frozen=True)
class Shop:
    """A user's namespace with the sample function; `aws` is the stand-in's address for pods."""

    namespace: str
    function_url: str
    aws: str
