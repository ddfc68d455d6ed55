"""kubectl and helm as a user runs them, on the cluster that KUBECONFIG names."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any, TypeVar

from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROGRAMS = ROOT / ".venv" / "helm"
Body = dict[str, Any]
T = TypeVar("T")


class CommandFailed(AssertionError):
    """A program said no; the message holds its own words."""


def run(*command: object, stdin: str | None = None, seconds: float = 60.0) -> str:
    """Runs a program to its end and gives what it printed; raises CommandFailed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin or "", capture_output=True, text=True, check=False, timeout=seconds)
    if done.returncode:
        raise CommandFailed(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def kubectl(*arguments: object, stdin: str | None = None, seconds: float = 60.0) -> str:
    return run(PROGRAMS / "kubectl", *arguments, stdin=stdin, seconds=seconds)


def helm(*arguments: object, seconds: float = 180.0) -> str:
    return run(PROGRAMS / "helm", *arguments, seconds=seconds)


def apply(*documents: Body, namespace: str | None = None) -> None:
    """Without validation: kubectl asks new servers and the old ones in different ways, and the server checks anyway."""
    where = ("--namespace", namespace) if namespace else ()
    everything = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    kubectl("apply", "--validate=false", *where, "-f", "-", stdin=json.dumps(everything))


def find(kind: str, name: str, namespace: str | None = None) -> Body | None:
    where = ("--namespace", namespace) if namespace else ()
    text = kubectl("get", kind, name, *where, "--ignore-not-found", "-o", "json")
    return json.loads(text) if text.strip() else None


def select(kinds: str, namespace: str | None = None, selector: str = "") -> list[Body]:
    """Objects of one kind or of several, separated by commas."""
    where = ("--namespace", namespace) if namespace else ("--all-namespaces",)
    text = kubectl("get", kinds, *where, *(("-l", selector) if selector else ()), "-o", "json")
    found: list[Body] = json.loads(text)["items"]
    return found


def minor_version() -> int:
    """The server's: 20 for v1.20."""
    server = json.loads(kubectl("version", "-o", "json"))["serverVersion"]
    return int("".join(filter(str.isdigit, server["minor"])))


def wait_until(holds: Callable[[], T], claim: str, seconds: float = 60.0) -> T:
    """Polls until something holds and gives it; fails with the claim."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {claim}"
        time.sleep(0.3)
    return found


async def eventually(holds: Callable[[], T], claim: str, seconds: float = 60.0) -> T:
    """`wait_until` beside other tasks."""
    return await asyncio.to_thread(wait_until, holds, claim, seconds)


def told(namespaces: Sequence[str]) -> str:
    """What somebody who looks for a failure's cause would ask for first: objects, events, logs."""
    return "\n\n".join(_said(*command) for namespace in namespaces for command in _questions(namespace))


def _questions(namespace: str) -> Iterator[tuple[str, ...]]:
    kinds, where = "esm,shl,deployments,pods,leases.coordination.k8s.io", ("--namespace", namespace)
    yield "get", kinds, "-o", "wide", *where
    yield "get", "events", "--sort-by=.metadata.creationTimestamp", *where
    for pod in _said("get", "pods", "-o", "name", *where).split("\n")[1:]:
        if pod:
            yield "logs", pod, "--tail=150", *where
            yield "logs", pod, "--tail=150", "--previous", *where
    yield "get", kinds, "-o", "yaml", *where


def _said(*arguments: str) -> str:
    try:
        answer = kubectl(*arguments, seconds=20)
    except (CommandFailed, subprocess.TimeoutExpired) as error:
        answer = str(error)
    return f"$ kubectl {' '.join(arguments)}\n{answer}"
