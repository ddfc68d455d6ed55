"""The `headrace` command: argv and the environment end here."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from headrace import __version__
from headrace.errors import HeadraceError, InvalidMapping

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from headrace.control.leadership import Election
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


def _own_name() -> str:
    """A name that no other process has: two with the same name would take each other's leases."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"


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
    gc.freeze()  # what was imported stays: no collection need look through it again
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

    program = find_ministack(ministack)
    if program is None:
        missing = f"--ministack: no command {ministack}" if ministack else "no ministack beside this Python or on PATH"
        _fail(f"{missing}; install it by itself and name it: {INSTALL}")
    from headrace.demo.show import DemoSettings, show  # noqa: PLC0415

    sys.exit(show(DemoSettings(program, seconds)))


@cli.command()
@click.option("--namespace", "namespaces", multiple=True, help="Watch only this namespace; may be repeated.")
@click.option(
    "--poller-image",
    envvar="HEADRACE_POLLER_IMAGE",
    default=f"headrace:{__version__}",
    show_default=True,
    help="Image of the poller pods.",
)
@click.option(
    "--poller-image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), help="Of that image."
)
@click.option("--poller-network-policy", is_flag=True, help="Let in to pollers only on their port for metrics.")
@click.option("--poller-env", metavar="NAME=VALUE", multiple=True, help="Environment of every poller; may be repeated.")
@click.option(
    "--leader-election/--no-leader-election", default=False, show_default=True, help="Of several, one works at a time."
)
@click.option(
    "--leader-election-namespace", metavar="NAMESPACE", default="", help="Where the Lease is that decides; no default."
)
@click.option(
    "--leader-election-lease",
    metavar="NAME",
    default="headrace-operator",
    show_default=True,
    help="Its name: one for each set of operators that serve the same mappings.",
)
@_metrics_port
@click.option("--metrics-host", default="0.0.0.0", show_default=True, help="Address that the port is bound to.")  # noqa: S104 - pods are probed from outside
@_log_format
@_debug
def operator(  # noqa: PLR0913, PLR0917 - one for each option
    namespaces: tuple[str, ...],
    poller_image: str,
    poller_image_pull_policy: str | None,
    poller_network_policy: bool,
    poller_env: tuple[str, ...],
    metrics_port: int,
    metrics_host: str,
    log_format: str,
    debug: bool,
    **election: Any,
) -> None:
    """Turn mappings in a cluster into pollers."""
    from headrace import logs  # noqa: PLC0415
    from headrace.control.app import OperatorSettings, run_operator  # noqa: PLC0415
    from headrace.control.desired import PollerSettings  # noqa: PLC0415

    elected = _election(**election)
    logs.configure(log_format, debug=debug)
    environment = _endpoints() | dict(_pair("--poller-env", text) for text in poller_env)
    poller = PollerSettings(poller_image, poller_image_pull_policy, environment, poller_network_policy)
    settings = OperatorSettings(poller, namespaces, metrics_port, metrics_host, elected)
    _serve(run_operator(settings, asyncio.Event()))


@cli.command()
@click.option("--mapping", required=True, metavar="NAMESPACE/NAME", help="The mapping to work for.")
@click.option("--identity", default=_own_name, show_default="host and process", help="This poller's own name.")
@click.option(
    "--last-valid",
    envvar="HEADRACE_LAST_VALID",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The mapping as it was last valid: what is worked by while the cluster's is not.",
)
@_metrics_port
@click.option("--metrics-host", default="0.0.0.0", show_default=True, help="Address that the port is bound to.")  # noqa: S104 - pods are probed from outside
@_log_format
@_debug
def poller(
    mapping: str,
    identity: str,
    last_valid: Path | None,
    metrics_port: int,
    metrics_host: str,
    log_format: str,
    debug: bool,
) -> None:
    """Work for one mapping of a cluster, in a pod or with a kubeconfig."""
    from headrace import logs  # noqa: PLC0415
    from headrace.poller import PollerSettings, run_poller  # noqa: PLC0415

    namespace, slash, name = mapping.partition("/")
    if not (namespace and slash and name) or "/" in name:
        _fail(f"--mapping: must be NAMESPACE/NAME, got {mapping}")
    logs.configure(log_format, debug=debug)
    settings = PollerSettings(namespace, name, identity, _aws(None), metrics_port, metrics_host, last_valid)
    _serve(run_poller(settings, asyncio.Event()))


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


def _election(*, leader_election: bool, leader_election_namespace: str, leader_election_lease: str) -> Election | None:
    from headrace.control.leadership import Election  # noqa: PLC0415

    if not leader_election:
        return None
    if not leader_election_namespace:
        _fail("--leader-election: needs --leader-election-namespace, where its Lease may be created and updated")
    return Election(leader_election_namespace, leader_election_lease, _own_name())


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


def _serve(process: Coroutine[None, None, None]) -> None:
    """Runs a process to its end; what it cannot do without is a sentence in its log and exit status 1."""
    import structlog  # noqa: PLC0415

    gc.freeze()  # what was imported stays: no collection need look through it again
    try:
        asyncio.run(process)
    except* HeadraceError as group:
        for error in _leaves(group):
            structlog.get_logger().error(str(error))
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[HeadraceError]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        _fail(f"{option}: must be NAME=VALUE, got {text}")
    return name, value


def _endpoints() -> dict[str, str]:
    """The endpoints in this process's environment: pollers are to reach the same AWS."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT_URL") and value}


def _aws(endpoint_url: str | None) -> AwsSettings:
    from headrace.stream.aws import AwsSettings  # noqa: PLC0415

    prefix = "AWS_ENDPOINT_URL_"
    for option, url in {"--endpoint-url": endpoint_url, **_endpoints()}.items():
        if url and not url.startswith(("http://", "https://")):
            _fail(f"{option}: must be an http:// or https:// URL")
    services = {
        name.removeprefix(prefix).replace("_", "").lower(): value
        for name, value in _endpoints().items()
        if name.startswith(prefix)
    }
    return AwsSettings(services, endpoint_url)
