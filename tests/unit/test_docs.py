"""What the pages name is there: metrics, options, properties, targets of make, files, conditions, permissions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from headrace.cli import cli
from headrace.control.status import OF_QUEUES, REPORTED
from headrace.spec import EventSourceMappingSpec
from headrace.spec_schema import at, schema_of
from tests.support.chart import CHART
from tests.support.servers import ROOT
from tests.unit.test_dashboard import exported

PAGES = [
    ROOT / "README.md",
    CHART / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *ROOT.glob("examples/*/README.md"),
]
OTHERS_OPTIONS = {"--set", "--skip-crds", "--server-side", "--query"}
"""Of helm and aws."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page: Path) -> list[str]:
    """What stands between backticks, and the lines of the blocks."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [*spans, *(line for block in blocks for line in block.replace("\\\n", " ").splitlines())]


@pages
def test_metrics_are_exported(page: Path) -> None:
    known = {name.removesuffix("_bucket") for name in exported()}
    assert {name for text in code(page) for name in re.findall(r"\bheadrace_\w+", text)} <= known


@pages
def test_options_are_those_of_the_command(page: Path) -> None:
    known = {name: {each for one in command.params for each in one.opts} for name, command in cli.commands.items()}
    every = set().union(*known.values(), OTHERS_OPTIONS)
    for text in code(page):
        command = re.match(r"(?:\S*/)?headrace (\w+)", text)
        if command is not None:
            assert set(re.findall(r"(--[a-z][a-z-]*)", text)) <= known[command[1]], text
        elif (option := re.match(r"--[a-z-]+", text)) is not None and option[0] != "---":
            assert option[0] in every, text


@pages
def test_properties_are_those_of_a_mapping_or_values_of_the_chart(page: Path) -> None:
    schema, values = schema_of(EventSourceMappingSpec), yaml.safe_load((CHART / "values.yaml").read_text())
    groups = {name for name, each in schema["properties"].items() if each.get("type") == "object"} | values.keys()
    for text in code(page):
        path = text.removeprefix("spec.").split(".")
        if not re.fullmatch(r"\w+(\.\w+)+", text) or path[0] not in groups or path[-1] == "py":
            continue
        value = values
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        assert at(schema, path) or value is not None, text


@pages
def test_targets_of_make_and_files_of_the_tests_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in code(page):
        assert set(re.findall(r"\bmake ([a-z0-9-]+)", text)) <= targets, text
        assert all((ROOT / path).exists() for path in re.findall(r"\b(?:tests|operator)/[\w/.]+\w", text)), text


def test_the_table_of_conditions_has_those_of_the_status() -> None:
    table = (ROOT / "docs" / "status.md").read_text().partition("## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(told) == sorted(("Ready", "ShardsAssigned", "Progressing", *REPORTED, *OF_QUEUES[2:]))


@pytest.mark.parametrize("page", ["README.md", "docs/aws-credentials.md"])
def test_the_permissions_are_those_of_the_calls(page: str) -> None:
    folder = ROOT / "operator" / "headrace" / "stream"
    files = [
        *(folder / "sources" / f"{one}.py" for one in ("kinesis", "dynamodb", "sqs")),
        *(folder / "destinations" / f"{one}.py" for one in ("sqs", "sns", "s3")),
    ]
    called = {
        f"{file.stem}:{operation.title().replace('_', '')}"
        for file in files
        for operation in re.findall(r"call\(\s*\"(\w+)\"", file.read_text())
    }
    by_action = {"s3:HeadBucket": "s3:ListBucket"} | {
        f"sqs:{action}Batch": f"sqs:{action}" for action in ("DeleteMessage", "ChangeMessageVisibility")
    }
    used = {by_action.get(action, action) for action in called}
    told = set(re.findall(r"`((?:kinesis|dynamodb|sqs|sns|s3):\w+)`", (ROOT / page).read_text()))
    assert told - {"dynamodb:LeadingKeys"} == used  # a condition key, of the checkpoint table
