"""The sample functions as modules; they are no part of any package."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from tests.support.servers import ROOT

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLES = ROOT / "examples"


def load(path: str) -> ModuleType:
    """A file under `examples/`."""
    name = "example_" + path.removesuffix(".py").replace("/", "_").replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
