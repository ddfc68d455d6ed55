"""The `headrace` command: argv and the environment end here."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from headrace import __version__
from headrace.errors import HeadraceError, InvalidMapping

if TYPE_CHECKING:
    from headrace.spec import EventSourceMapping
    from headrace.stream.aws import AwsSettings

INVALID = 2
"""Exit status for what the user can mend in the file or the command."""

_files = click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="A file or folder with mappings; may be repeated.",
)
_log_format = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the log lines.",
)
_debug = click.option("--debug", is_flag=True, help="Log every batch.")


_metrics_port = click.option(
    "--metrics-port", type=click.IntRange(0, 65535), default=0, help="Port for /metrics, /healthz and /readyz; 0: none."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headrace")
def cli() -> None:
    """AWS Lambda's event source mappings for any container, on any Kubernetes cluster."""


@cli.command()
@_files
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False), help="SQLite file for checkpoints; default: in memory."
)
@click.option("--endpoint-url", help="Endpoint of every AWS service that has none of its own.")
@click.option(
    "--exit-when-idle", type=click.FloatRange(min=0), metavar="SECONDS", help="End once all was idle for so long."
)
@_metrics_port
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address that the port is bound to.")
@_log_format
@_debug
def run(
    paths: tuple[Path, ...],
    state: Path | None,
    endpoint_url: str | None,
    exit_when_idle: float | None,
    metrics_port: int,
    metrics_host: str,
    log_format: str,
    debug: bool,
) -> None:
    """Run mappings in the foreground, without Kubernetes."""
    from headrace import logs  # noqa: PLC0415 - `headrace validate` starts faster without the data plane
    from headrace.run import Run, RunSettings, run_until_signalled  # noqa: PLC0415

    mappings = _load(paths)
    settings = RunSettings(_aws(endpoint_url), state, exit_when_idle, metrics_port, metrics_host)
    logs.configure(log_format, debug=debug)
    try:
        asyncio.run(run_until_signalled(Run(mappings, settings)))
    except HeadraceError as error:
        _fail(str(error))


@cli.command()
@click.option(
    "--ministack",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The emulator's command; default: beside this Python, then on PATH.",
)
@click.option(
    "--seconds", type=click.IntRange(3, 600), default=20, show_default=True, help="How long records are written."
)
def demo(ministack: Path | None, seconds: int) -> None:
    """Watch a poison record end in a failure record; needs ministack, and nothing else.

    Exit status: 0 when every record is accounted for, 1 when not, 2 without ministack, 128 + N on signal N.
    """
    from headrace.demo.emulator import INSTALL, find_ministack  # noqa: PLC0415
    from headrace.demo.show import DemoSettings, show  # noqa: PLC0415

    program = find_ministack(ministack)
    if program is None:
        where = "--ministack" if ministack is not None else "beside this Python or on PATH"
        _fail(f"ministack: there is no such command {where}; it needs an environment of its own: {INSTALL}")
    sys.exit(show(DemoSettings(program, seconds)))


@cli.command()
@_files
def validate(paths: tuple[Path, ...]) -> None:
    """Check mappings without any network call."""
    mappings = _load(paths)
    click.echo(f"{len(mappings)} valid")


@cli.command()
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Write one file per CRD into this folder."
)
def crd(output: Path | None) -> None:
    """Print the custom resource definitions."""
    from headrace.crd import crds, render  # noqa: PLC0415

    documents = {name: render(document) for name, document in crds().items()}
    if output is None:
        click.echo("---\n".join(documents.values()), nl=False)
        return
    output.mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        (output / name).write_text(text)


def _load(paths: tuple[Path, ...]) -> list[EventSourceMapping]:
    from headrace.manifests import check_mappings  # noqa: PLC0415

    try:
        return check_mappings(paths)
    except InvalidMapping as error:
        _fail(*error.errors)


def _fail(*sentences: str) -> NoReturn:
    for sentence in sentences:
        click.echo(sentence, err=True)
    sys.exit(INVALID)


def _aws(endpoint_url: str | None) -> AwsSettings:
    from headrace.stream.aws import AwsSettings  # noqa: PLC0415

    prefix = "AWS_ENDPOINT_URL_"
    services = {
        name.removeprefix(prefix).replace("_", "").lower(): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and value
    }
    return AwsSettings(services, endpoint_url)


def main() -> None:
    """Entry point."""
    cli()
