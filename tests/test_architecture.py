"""Properties of the code as a whole; the import contracts are in pyproject.toml and run with the linters."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT

PACKAGE = ROOT / "operator" / "headrace"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 450
LONG_BODY = 25


def test_operator_is_no_package_which_would_shadow_the_standard_librarys() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_module_shadows_one_of_the_standard_library() -> None:
    assert not {"operator", "queue", "types", "logging", "signal"} & {file.stem for file in PACKAGE.glob("*.py")}


def test_no_file_is_too_long() -> None:
    assert {file.name: lines for file in FILES if (lines := len(file.read_text().splitlines())) > LONGEST_FILE} == {}


def test_nine_of_ten_functions_fit_on_a_glance() -> None:
    lengths = sorted(length for file in FILES for length in bodies(file))
    assert lengths[int(len(lengths) * 0.9)] <= LONG_BODY


def bodies(file: Path) -> list[int]:
    """Lines of every function of a file, without signature and docstring."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            found.append((node.end_lineno or 0) - body[0].lineno + 1 if body else 0)
    return found


def test_every_file_says_what_it_is_for() -> None:
    assert [file.name for file in FILES if not ast.get_docstring(ast.parse(file.read_text()))] == []


def test_every_file_named_in_the_tour_exists() -> None:
    import re

    tour = (ROOT / "operator" / "DESIGN.md").read_text()
    named = set(re.findall(r"`((?:stream|control)/[\w/]+\.py|\w+\.py)`", tour))
    known = {str(file.relative_to(PACKAGE)) for file in FILES} | {file.name for file in FILES}
    assert len(named) > 10
    assert named <= known


def test_a_run_on_one_machine_loads_no_client_of_kubernetes() -> None:
    """It is an eighth of such a process, and a quarter of a second of its start."""
    code = "import sys, headrace.run; sys.exit('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "operator")}, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("command", ["run", "poller", "operator"])
def test_a_process_that_serves_does_not_load_what_only_writes_tables_on_terminals(command: str) -> None:
    """structlog would, 3 MB of it; `None` is Python's mark of what is not to be found."""
    code = (
        f"import sys; sys.argv = ['headrace', '{command}', '--help']\n"
        "from headrace.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import structlog\n"
        "sys.exit(sys.modules['rich'] is not None or 'pygments' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0
