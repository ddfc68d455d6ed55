"""The chart, rendered by helm as its users render it, and promtool."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.servers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HELM = ROOT / ".venv" / "helm" / "helm"
PROMTOOL = ROOT / ".venv" / "promtool" / "promtool"
CHART = ROOT / "charts" / "headrace"
MONITORING = tuple(
    f"--api-versions=monitoring.coreos.com/v1/{kind}" for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule")
)
"""What makes helm believe that the cluster has a Prometheus operator."""

Body = dict[str, Any]


def helm(*arguments: str, values: Body | None = None) -> subprocess.CompletedProcess[str]:
    """Runs helm; values go in by standard input."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [HELM, *arguments, *given],
        input=json.dumps(values) if values is not None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def template(values: Body | None = None, *arguments: str) -> list[Body]:
    """Every object of a release `hr` in the namespace `system`."""
    done = helm("template", "hr", str(CHART), "--namespace", "system", *arguments, values=values or {})
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[Body], *kinds: str) -> list[Body]:
    """Those of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def promtool(folder: Path, *command: str, **files: Body) -> str:
    """Runs promtool where files of these names (and `.yaml`) lie; what it says, "" when all is well."""
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False, timeout=60, cwd=folder)
    return "" if done.returncode == 0 else done.stdout + done.stderr
