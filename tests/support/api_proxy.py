"""A proxy in front of the API server that writes down every answer: who was refused what."""

from __future__ import annotations

import os
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml
from aiohttp import web

from tests.support import clusters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_KEPT = ("Authorization", "Content-Type", "Accept", "User-Agent")


@dataclass
class ApiProxy:
    """`url` takes what the API server takes; `answers` are method, path and status of each."""

    url: str = ""
    answers: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def refused(self) -> list[tuple[str, str, int]]:
        return [answer for answer in self.answers if answer[2] in {401, 403}]

    def kubeconfig(self, token: str) -> dict[str, Any]:
        config = clusters.kubeconfig_with(token)
        for each in config["clusters"]:
            each["cluster"] = {"server": self.url}
        return config


@asynccontextmanager
async def proxied() -> AsyncIterator[ApiProxy]:
    """Until the end of the block; the caller's credentials go through, the proxy has none."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    server: str = config["clusters"][0]["cluster"]["server"]
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # a test's own cluster on loopback
    proxy = ApiProxy()
    connector = aiohttp.TCPConnector(ssl=trusting, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {name: ", ".join(request.headers.getall(name)) for name in _KEPT if name in request.headers}
            body = await request.read() or None
            target = f"{server}{request.raw_path}"
            async with session.request(request.method, target, headers=headers, data=body) as answer:
                proxy.answers.append((request.method, request.path, answer.status))
                response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                with suppress(ConnectionResetError):  # whoever asked has gone
                    await response.prepare(request)
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                return response

        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()
