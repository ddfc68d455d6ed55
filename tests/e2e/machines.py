"""Processes of the cluster's node and control plane, where this host is both."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def pollers(namespace: str, name: str) -> dict[str, int]:
    """The pids of a mapping's pollers by identity; empty where the node is another machine."""
    mapping, found = ["--mapping", f"{namespace}/{name}"], {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        words = _words(file)
        if any(words[start : start + 2] == mapping for start in range(len(words))) and "--identity" in words:
            found[words[words.index("--identity") + 1]] = int(file.parent.name)
    return found


def send(pid: int, number: signal.Signals) -> bool:
    """Whether the process was still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def api_server() -> int | None:
    """The pid of the API server, where its cluster keeps a file with it beside the kubeconfig."""
    file = Path(os.environ["KUBECONFIG"]).parent / "run" / "kube-apiserver.pid"
    if not file.exists():
        return None
    pid = int(file.read_text().split()[0])
    return pid if any("kube-apiserver" in word for word in _words(Path(f"/proc/{pid}/cmdline"))[:1]) else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split("\0")
    except OSError:
        return []
