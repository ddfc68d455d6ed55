"""The HTTP port of a running process: `/metrics`, `/healthz`, `/readyz`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prometheus_client import CollectorRegistry

log = structlog.get_logger()

SHUTDOWN_PATIENCE = 1.0
"""Seconds for the answers that are under way at the end."""


@asynccontextmanager
async def serve(
    port: int | None,
    registry: CollectorRegistry,
    ready: Callable[[], bool],
    host: str = "0.0.0.0",  # noqa: S104 - pods are probed from outside
) -> AsyncIterator[None]:
    """Serves until the block is left; port None or 0: nothing. A port that cannot be bound is only a warning."""
    if not port:
        yield
        return
    runner = web.AppRunner(_application(registry, ready), access_log=None, shutdown_timeout=SHUTDOWN_PATIENCE)
    await runner.setup()
    try:
        await _bind(runner, host, port)
        yield
    finally:
        await runner.cleanup()


async def _bind(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, OverflowError) as error:
        log.warning("the metrics port cannot be bound; going on without metrics", port=port, error=type(error).__name__)


def _application(registry: CollectorRegistry, ready: Callable[[], bool]) -> web.Application:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="not ready\n")

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return application
