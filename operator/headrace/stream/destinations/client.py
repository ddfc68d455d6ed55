"""What the destinations on AWS share: bounded calls whose failures become DestinationErrors with advice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.errors import DestinationError, Reason
from headrace.stream.aws import FAILURES, AwsAccess, Client, reason_of

if TYPE_CHECKING:
    from headrace.arns import Arn

CALL_TIMEOUT = 5.0
"""Seconds for one small call, its connection included: what bounds a try of `deliveryPolicy: Drop`."""

_READ_TIMEOUT = 120.0
"""The client's own time-out, which runs during an upload too: beyond every bound set here, so that those decide."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service's name in botocore, what its resources are called, and the actions that a destination needs there."""

    name: str
    resource: str
    actions: str


class DestinationClient:
    """Calls one service about one resource."""

    def __init__(self, service: Service, arn: Arn, region: str, access: AwsAccess) -> None:
        self._arn = arn
        self._client = Client(access, service.name, region, read_timeout=_READ_TIMEOUT)
        self._advice = {
            Reason.NOT_FOUND: f"create the {service.resource}, or correct spec.destinationConfig.onFailure.destination",
            Reason.ACCESS_DENIED: f"allow {service.actions} on it",
            Reason.INVALID_CREDENTIALS: "give the poller valid AWS credentials",
            Reason.UNREACHABLE: "check the network and the endpoint",
        }

    async def call(self, operation: str, *, wants: str, upload_seconds: float = 0.0, **arguments: Any) -> Any:
        """One API call, bounded in time; everything that goes wrong becomes a DestinationError.

        Gives the member `wants` of the answer: without it the call is not confirmed, whatever its status says.
        """
        try:
            await self._client.open()
            async with asyncio.timeout(CALL_TIMEOUT + upload_seconds):
                answer = await self._client.call(operation, **arguments)
            if confirmed := answer.get(wants):
                return confirmed
        except FAILURES as error:
            reason, words = reason_of(error)
            advice = self._advice.get(reason, "it is tried again")
            raise DestinationError(reason, f"{self._arn}: {words}; {advice}") from error
        sentence = f"{self._arn}: the answer confirms nothing, it has no {wants}; check the endpoint"
        raise DestinationError(Reason.SERVICE_ERROR, sentence)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
