"""The sample function: plain HTTP, the Lambda event in, JSON out.

It adds up what was ordered. An amount it cannot read makes it fail, as any handler fails that raises. What it has
acknowledged it counts by itself, so that the summary need not believe Headrace.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from headrace.demo.isolation import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WORK = 0.02
"""Seconds a call takes."""
TOO_MANY_REQUESTS = 429
FAILED = 500


@dataclass(slots=True)
class SampleFunction:
    """The function and what it has seen."""

    revenue: float = 0.0
    acknowledged: list[str] = field(default_factory=list)
    """`eventID` of every record of every batch it answered with success, in order."""
    out_of_order: int = 0
    """Orders that came after a later one of the same customer."""
    calls: int = 0
    _newest: dict[str, int] = field(default_factory=dict)
    _busy_until: float = 0.0

    def be_busy(self, seconds: float) -> None:
        """For so long every call is answered with 429, as one beyond a concurrency limit is."""
        self._busy_until = asyncio.get_running_loop().time() + seconds

    async def handle(self, request: web.Request) -> web.Response:
        """One invocation."""
        event = orjson.loads(await request.read())
        self.calls += 1
        if asyncio.get_running_loop().time() < self._busy_until:
            return web.json_response({"message": "busy"}, status=TOO_MANY_REQUESTS)
        await asyncio.sleep(WORK)
        try:
            orders = [_order(record) for record in event["Records"]]
            amount = sum(float(order["amount"]) for order in orders)
        except ValueError as error:
            return web.json_response({"errorType": "ValueError", "errorMessage": str(error)}, status=FAILED)
        self._remember(event["Records"], orders, amount)
        return web.json_response({"orders": len(orders), "amount": amount})

    def _remember(self, records: list[dict[str, Any]], orders: list[dict[str, Any]], amount: float) -> None:
        self.revenue += amount
        self.acknowledged += [record["eventID"] for record in records]
        for order in orders:
            customer, number = order["customer"], order["order"]
            self.out_of_order += number < self._newest.get(customer, 0)
            self._newest[customer] = max(number, self._newest.get(customer, 0))


def _order(record: dict[str, Any]) -> dict[str, Any]:
    order: dict[str, Any] = orjson.loads(base64.b64decode(record["kinesis"]["data"]))
    return order


@asynccontextmanager
async def served(function: SampleFunction) -> AsyncIterator[str]:
    """Serves the function on a free port until the block is left; gives its URL."""
    application = web.Application(client_max_size=8 * 1024 * 1024)
    application.router.add_post("/orders", function.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}/orders"
    finally:
        await runner.cleanup()
