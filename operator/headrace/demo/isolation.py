"""Keeping the machine's own settings out of the demo, and the demo on this machine. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
ACCOUNT = "000000000000"
REGION = "us-east-1"

_FOREIGN_PREFIXES = ("AWS_", "BOTO_", "OTEL_")
_FOREIGN = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"})
_OWN = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "*",
}
_KEPT_FOR_EMULATOR = frozenset({"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT"})


def isolated(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without AWS settings and proxies, whatever their case, and with the demo's own instead."""
    kept = {name: value for name, value in environment.items() if not _is_foreign(name.upper())}
    return kept | _OWN


def emulator_environment(environment: Mapping[str, str], folder: str, port: int) -> dict[str, str]:
    """What ministack gets: little of the machine's, everything it writes in `folder`, and one port to listen on."""
    kept = {name: value for name, value in environment.items() if name in _KEPT_FOR_EMULATOR}
    return kept | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "SERVICES": "kinesis,sqs",
        "LOG_LEVEL": "WARNING",
        "HOME": folder,
        "TMPDIR": folder,
        "S3_DATA_DIR": f"{folder}/s3",
        "STATE_DIR": f"{folder}/state",
        # It listens for SFTP and MQTT, and clears containers of its name away, unless it is told not to.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
    }


def _is_foreign(name: str) -> bool:
    return name.startswith(_FOREIGN_PREFIXES) or name in _FOREIGN
