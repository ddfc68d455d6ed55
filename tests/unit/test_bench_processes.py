"""What a measurement learns of the processes it measures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.processes import CONSUMER, Ended, started


def test_a_process_that_has_ended_fails_its_measurement_and_does_not_cost_nothing(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "print('gone')"], tmp_path, "one", CONSUMER) as group:
        group.process.wait()
        assert group.usage().megabytes == 0.0
        with pytest.raises(Ended, match="one ended with 0: gone"):
            group.living()


def test_a_process_that_runs_tells_what_it_uses(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, "one", CONSUMER) as group:
        assert group.living().megabytes > 0.0
