"""A way to an AWS service that answers some requests itself: as a service in trouble, or with what is no answer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import orjson
from aiohttp import web

from tests.support.answering import answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer in place of the service's: an error's code, or a body that means nothing."""

    status: int
    code: str | None = None
    body: bytes = b""

    def response(self) -> web.Response:
        body = orjson.dumps({"__type": self.code, "message": "no"}) if self.code is not None else self.body
        return web.Response(status=self.status, body=body, content_type="application/x-amz-json-1.1")


@dataclass
class Faulty:
    """Passes requests on, but answers the next ones of an operation with `faults`, by its name."""

    target: str
    session: aiohttp.ClientSession
    url: str = ""
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    async def serve(self, request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        if queued := self.faults.get(operation):
            return queued.pop(0).response()
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        async with self.session.post(f"{self.target}/", data=await request.read(), headers=headers) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)


@asynccontextmanager
async def faulty(target: str) -> AsyncIterator[Faulty]:
    """Between a client and the service at `target`, on a free port of this machine."""
    async with aiohttp.ClientSession() as session:
        between = Faulty(target, session)
        async with answering(between.serve) as between.url:
            yield between
