"""What the tests find in place."""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.kubectl import helm

CRDS = ("eventsourcemappings.headrace.dev", "shardleases.headrace.dev")
CREDENTIALS = "aws"
"""The Secret with the stand-in's credentials."""


@dataclass(frozen=True)
class Release:
    """The chart as installed."""

    name: str
    namespace: str
    image: str

    def uninstall(self) -> None:
        helm("uninstall", self.name, "--namespace", self.namespace, "--ignore-not-found", "--wait")


@dataclass(frozen=True)
class Shop:
    """A user's namespace with the sample function; `aws` is the stand-in's address for pods."""

    namespace: str
    function_url: str
    aws: str
