"""Which machine and which versions a run was made with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.support.servers import ROOT

OWN = ("headrace", "aiohttp", "aiobotocore", "orjson")
PINNED = {
    "bench-kcl-rs": "kcl-rs",
    "bench-async-kinesis": "async-kinesis",
    "bench-localstack": "localstack-core",
    "ministack": "ministack",
}
"""The file in requirements/ that pins each of the others."""


def versions() -> dict[str, str]:
    """What is measured, by its commit, and everything it is measured with."""
    found = {"commit": commit(), "Python": platform.python_version()} | {name: version(name) for name in OWN}
    return found | {name: pinned(file, name) for file, name in PINNED.items()}


def commit() -> str:
    """What lies in the work tree: a short commit, and whether anything differs from it; `?` outside of a repository."""
    try:
        head, differs = (git("rev-parse", "--short", "HEAD"), git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return "?"
    return f"{head}, changed" if differs else head


def git(*arguments: str) -> str:
    """What git says here."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def pinned(file: str, name: str) -> str:
    """The version of a package in `requirements/FILE.txt`."""
    text = (ROOT / "requirements" / f"{file}.txt").read_text()
    pin = re.search(rf"^{name}==([^ ;\\]+)", text, re.MULTILINE)
    return pin.group(1) if pin else "?"


def machine() -> str:
    """Cores, processor, kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{len(os.sched_getaffinity(0))} cores ({model}), Linux {platform.release().partition('-')[0]}"
