"""Fixtures that more than one layer uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import aws, servers
from tests.support.function import RecordingFunction

# For `make mutation`, which asks whether a test fails and not how little makes it fail.
hypothesis.settings.register_profile(
    "mutation", database=None, deadline=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--larger", action="store_true", help="also run the walks that take minutes (docs/proof.md)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    larger = [item for item in items if item.get_closest_marker("larger")]
    if larger and not config.getoption("--larger"):
        config.hook.pytest_deselected(items=larger)
        items[:] = [item for item in items if item not in larger]


@pytest.fixture(autouse=True)
def _no_aws_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in servers.CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.ministack(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="session")
def kinesis_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not servers.has_kinesis_local():
        pytest.skip("kinesis-local needs Node.js and npm, which are not there")
    with servers.kinesis_local(tmp_path_factory.mktemp("kinesis-local")) as url:
        yield url


@pytest.fixture(scope="session")
def faketime() -> Path:
    """The library that, preloaded, gives a process another wall clock."""
    library = servers.ROOT / ".venv" / "faketime" / "libfaketime.so.1"
    if not library.exists():
        pytest.skip("make .venv/faketime.stamp could not fetch libfaketime")
    return library


@pytest.fixture
async def kinesis(ministack: str) -> AsyncIterator[Any]:
    async with aws.client("kinesis", ministack) as client:
        yield client


@pytest.fixture
async def sqs(ministack: str) -> AsyncIterator[Any]:
    async with aws.client("sqs", ministack) as client:
        yield client


@pytest.fixture
async def function() -> AsyncIterator[RecordingFunction]:
    recording = RecordingFunction()
    runner = await recording.start()
    try:
        yield recording
    finally:
        await runner.cleanup()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"
