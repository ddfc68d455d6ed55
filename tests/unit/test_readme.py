"""What the README and the examples tell is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from headrace.cli import cli
from headrace.spec import parse_mapping, unsupported
from tests.support.servers import ROOT

README = (ROOT / "README.md").read_text()


def test_the_mapping_in_the_readme_is_valid_and_served() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert unsupported(parse_mapping(yaml.safe_load(text))) == ()


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/**/mapping.yaml")), ids=lambda file: file.parent.name)
def test_every_example_is_valid(file: Path) -> None:
    result = CliRunner().invoke(cli, ["validate", "-f", str(file)])
    assert (result.exit_code, result.stdout) == (0, "1 valid\n"), result.output


@pytest.mark.parametrize("number", range(3), ids=["IRSA", "Pod Identity", "Secret"])
def test_what_the_docs_say_about_credentials_is_valid(number: int, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "aws-credentials.md").read_text(), re.DOTALL)
    other, mapping = yaml.safe_load_all(blocks[number])
    file = tmp_path / "mapping.yaml"
    file.write_text(yaml.safe_dump(mapping))
    result = CliRunner().invoke(cli, ["validate", "-f", str(file)])
    assert (len(blocks), result.exit_code) == (3, 0), result.output
    spec = mapping["spec"]
    named = spec.get("poller", {}).get("serviceAccountName") or spec["aws"]["credentials"]["secretRef"]["name"]
    assert (other["metadata"]["name"], other["metadata"]["namespace"]) == (named, mapping["metadata"]["namespace"])


def test_the_options_of_run_are_those_the_readme_lists() -> None:
    synopsis = README[README.index("`headrace run -f FILE_OR_FOLDER") :].split("`")[1]
    told = set(re.findall(r"--[a-z-]+", synopsis))
    real = {option for parameter in cli.commands["run"].params for option in parameter.opts}
    assert told <= real


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)h][^)]*)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
