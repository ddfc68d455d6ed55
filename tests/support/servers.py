"""Emulators as processes: started on a free port, waited for, stopped by pid."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINISTACK = ROOT / ".venv" / "ministack" / "bin" / "ministack"
MOTO = ROOT / ".venv" / "moto" / "bin" / "moto_server"
KINESIS_LOCAL = ROOT / ".venv" / "kinesis-local" / "node_modules" / "kinesis-local"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""What the emulators take for credentials; nothing of the machine's own AWS settings reaches a test."""


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without any AWS setting of the machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", **more}


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with {process.returncode}")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not listen on {port} after {seconds} s")


@contextmanager
def process(arguments: list[str], environment: Mapping[str, str], folder: Path, port: int) -> Iterator[None]:
    with (folder / "output.log").open("wb") as output:
        server = subprocess.Popen(arguments, env=environment, cwd=folder, stdout=output, stderr=output)
        try:
            wait_for_port(port, server)
            yield
        finally:
            server.terminate()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def ministack(folder: Path, port: int | None = None) -> Iterator[str]:
    """ministack's address; it serves every AWS service."""
    port = port or free_port()
    environment = clean_environment(
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        MINISTACK_HOST="127.0.0.1",
        S3_DATA_DIR=str(folder / "s3"),
        STATE_DIR=str(folder / "state"),
    )
    with process([str(MINISTACK)], environment, folder, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """moto's address; it serves every AWS service, one request after the other."""
    port = free_port()
    with process([str(MOTO), "-H", "127.0.0.1", "-p", str(port)], clean_environment(), folder, port):
        yield f"http://127.0.0.1:{port}"


def has_kinesis_local() -> bool:
    return shutil.which("node") is not None and (KINESIS_LOCAL / "main.js").is_file()


@contextmanager
def kinesis_local(folder: Path) -> Iterator[str]:
    """kinesis-local's address: Kinesis alone, the most faithful one, slow."""
    port = free_port()
    environment = clean_environment(
        KINESIS_MOCK_PLAIN_PORT=str(port),
        KINESIS_MOCK_TLS_PORT=str(free_port()),
        KINESIS_MOCK_CERT_PATH=str(KINESIS_LOCAL / "server.json"),
        SHARD_LIMIT="200",
        LOG_LEVEL="WARN",
    )
    with process(["node", str(KINESIS_LOCAL / "main.js")], environment, folder, port):
        yield f"http://127.0.0.1:{port}"
