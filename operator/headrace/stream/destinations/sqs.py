"""Failure records to an SQS queue (contract C.1, C.6)."""

from __future__ import annotations

from typing import Any

from headrace.errors import DestinationError, Reason
from headrace.stream.aws import FAILURES, AwsAccess, Client, reason_of

READ_TIMEOUT = 5.0
"""Seconds for one answer; with the connection's own it bounds one try."""

_ADVICE = {
    Reason.NOT_FOUND: "create the queue, or correct spec.destinationConfig.onFailure.destination",
    Reason.ACCESS_DENIED: "allow sqs:SendMessage and sqs:GetQueueUrl on it",
    Reason.INVALID_CREDENTIALS: "give the poller valid AWS credentials",
    Reason.UNREACHABLE: "check the network and the endpoint",
}


class SqsQueue:
    """A standard queue, named by its ARN."""

    def __init__(self, arn: str, access: AwsAccess) -> None:
        _, _, _, region, account, queue_name = arn.split(":")
        self._arn = arn
        self._queue = {"QueueName": queue_name, "QueueOwnerAWSAccountId": account}
        self._client = Client(access, "sqs", region, read_timeout=READ_TIMEOUT)
        self._url: str | None = None

    async def check(self) -> None:
        """Looks the queue up."""
        await self._call("get_queue_url", **self._queue)

    async def publish(self, document: bytes) -> None:
        """Sends one message; the queue's address is looked up once and again after a failure."""
        try:
            if self._url is None:
                self._url = (await self._call("get_queue_url", **self._queue))["QueueUrl"]
            await self._call("send_message", QueueUrl=self._url, MessageBody=document.decode())
        except DestinationError:
            self._url = None
            raise

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return await self._client.call(operation, **arguments)
        except FAILURES as error:
            reason, words = reason_of(error)
            advice = _ADVICE.get(reason, "it is tried again")
            raise DestinationError(reason, f"{self._arn}: {words}; {advice}") from error
