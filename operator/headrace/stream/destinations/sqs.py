"""Failure records to an SQS queue (contract C.1, C.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.errors import DestinationError
from headrace.stream.destinations.client import DestinationClient, Service

if TYPE_CHECKING:
    from headrace.arns import Arn
    from headrace.stream.aws import AwsAccess
    from headrace.stream.report import FailureRecord

_SQS = Service("sqs", "queue", "sqs:SendMessage and sqs:GetQueueUrl")


class SqsQueue:
    """A standard queue."""

    def __init__(self, arn: Arn, access: AwsAccess) -> None:
        self._queue: dict[str, Any] = {"QueueName": arn.resource, "QueueOwnerAWSAccountId": arn.account}
        self._client = DestinationClient(_SQS, arn, arn.region, access)
        self._url: str | None = None

    async def check(self) -> None:
        """Looks the queue up."""
        await self._client.call("get_queue_url", wants="QueueUrl", **self._queue)

    async def publish(self, record: FailureRecord) -> None:
        """Sends one message; the queue's address is looked up once and again after a failure."""
        try:
            if self._url is None:
                self._url = await self._client.call("get_queue_url", wants="QueueUrl", **self._queue)
            message = record.message().decode()
            await self._client.call("send_message", wants="MessageId", QueueUrl=self._url, MessageBody=message)
        except DestinationError:
            self._url = None
            raise

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
