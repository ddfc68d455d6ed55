"""Who is measured: Headrace, the least loop there is, and others' consumers with a loop of ours around them.

Each peer has an environment of its own in `.venv/bench/`, made here at its first use with pinned versions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.servers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENTS = ROOT / ".venv" / "bench"
IDENTITY = "arn:aws:iam::123456789012:role/bench"
"""The `invokeIdentityArn` of everybody's events."""


class Unavailable(Exception):
    """What cannot be installed here, with the reason in a sentence."""


_refused: dict[str, str] = {}
"""What could not be installed, so that it is tried once only."""


@dataclass(frozen=True)
class Job:
    """What a consumer is to do: which stream to read where, and whom to call how."""

    endpoint: str
    arn: str
    function: str
    batch: int = 100
    parallel: int = 1
    filters: int = 0
    read_every: int = 200
    """Milliseconds between two reads of those who always pause; kcl-rs never reads more often than this."""
    more: tuple[str, ...] = ()
    """Options of the peer's own loop."""


@dataclass(frozen=True)
class Peer:
    """A consumer: its name, what runs it, and what has to be installed for that."""

    name: str
    module: str
    requirements: str | None = None
    """The file in requirements/ with its versions; None: those of Headrace's own environment."""

    def python(self) -> str:
        """The interpreter of its environment, made unless it is there; raises Unavailable."""
        if self.requirements is None:
            return sys.executable
        return str(environment(self.requirements) / "bin" / "python")

    def command(self, job: Job, folder: Path) -> list[str]:
        if self.name == "headrace":
            return headrace(job, folder)
        return [self.python(), "-m", f"tests.bench.loops.{self.module}", *options(job), *job.more]


HEADRACE = Peer("headrace", "")
BARE = Peer("bare", "bare")
KCL_RS = Peer("kcl-rs", "kcl_rs", "bench-kcl-rs")
ASYNC_KINESIS = Peer("async-kinesis", "async_kinesis", "bench-async-kinesis")
LOCALSTACK = Peer("localstack", "localstack", "bench-localstack")
PEERS = {peer.name: peer for peer in (BARE, HEADRACE, KCL_RS, ASYNC_KINESIS, LOCALSTACK)}


def options(job: Job) -> list[str]:
    said = {
        "endpoint": job.endpoint,
        "arn": job.arn,
        "function": job.function,
        "identity": IDENTITY,
        "batch": job.batch,
        "parallel": job.parallel,
        "read-every": job.read_every,
    }
    return [word for name, value in said.items() for word in (f"--{name}", str(value))]


def headrace(job: Job, folder: Path) -> list[str]:
    """`headrace run` of a mapping that does the job, with checkpoints in a file: what is promised is kept."""
    file, state = folder / "mapping.yaml", folder / "state.sqlite"
    for file_of_state in folder.glob(f"{state.name}*"):  # the log of the round before, which was killed
        file_of_state.unlink()
    spec: dict[str, Any] = {
        "eventSourceArn": job.arn,
        "function": {"url": job.function},
        "startingPosition": "TRIM_HORIZON",
        "batchSize": job.batch,
        "parallelizationFactor": job.parallel,
        "aws": {"endpointUrl": job.endpoint},
    }
    if job.filters:
        spec["filterCriteria"] = {"filters": [{"pattern": pattern} for pattern in patterns(job.filters)]}
    document = {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "EventSourceMapping",
        "metadata": {"name": "bench", "namespace": "bench"},
        "spec": spec,
    }
    file.write_text(yaml.safe_dump(document))
    return [sys.executable, "-m", "headrace", "run", "-f", str(file), "--state", str(state), "--log-format", "json"]


def patterns(number: int) -> list[str]:
    """So many patterns that look at the data, of which only the last matches: it matches every record of the stub's."""
    misses = [{"data": {"number": [{"numeric": ["<", -place]}]}} for place in range(1, number)]
    return [json.dumps(pattern) for pattern in (*misses, {"data": {"number": [{"numeric": [">=", 0]}]}})]


def environment(requirements: str) -> Path:
    """A virtual environment with exactly what `requirements/REQUIREMENTS.txt` says; raises Unavailable."""
    folder, file = ENVIRONMENTS / requirements, ROOT / "requirements" / f"{requirements}.txt"
    stamp = folder / "installed.txt"
    wanted = file.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    if requirements not in _refused:
        try:
            install(folder, file)
        except subprocess.SubprocessError as error:
            words = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            _refused[requirements] = words[-1] if words else type(error).__name__
    if requirements in _refused:
        raise Unavailable(f"{requirements} cannot be installed: {_refused[requirements]}")
    stamp.write_text(wanted)
    return folder


def install(folder: Path, file: Path) -> None:
    """Raises SubprocessError."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
    subprocess.run([*pip, "--require-hashes", "-r", str(file)], check=True, capture_output=True, timeout=600)
