"""Rows that end in a refusal: the models and `headrace validate` say the row's sentence, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from headrace.cli import cli
from tests.conformance.rows_refused import REFUSED, Refused
from tests.support.mappings import manifest

CASES = [
    pytest.param(row, source, spec, id=f"{row.name}-{source}-{number}")
    for row in REFUSED
    for source in row.sources
    for number, spec in enumerate(row.specs)
]


@pytest.mark.parametrize(("row", "source", "spec"), CASES)
def test_it_is_refused_in_one_sentence(row: Refused, source: str, spec: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    gone = [name for name, value in spec.items() if value is None]
    file.write_text(yaml.safe_dump(manifest(source, *gone, **spec)))
    result = CliRunner().invoke(cli, ["validate", "-f", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    for name, value in spec.items():
        line = line.replace(f"got {value}", f"got {{{name}}}") if f"{{{name}}}" in row.then else line
    wanted = f"{file}: spec.{row.then}"
    assert line.startswith(wanted[:-1]) if wanted.endswith("…") else line == wanted
