"""Failure records to an SNS topic (contract C.1, C.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.stream.destinations.client import DestinationClient, Service

if TYPE_CHECKING:
    from headrace.arns import Arn
    from headrace.stream.aws import AwsAccess
    from headrace.stream.report import FailureRecord

MESSAGE_LIMIT = 256 * 1024
"""The largest message a topic takes, in bytes."""

_SNS = Service("sns", "topic", "sns:Publish and sns:GetTopicAttributes")


class SnsTopic:
    """A standard topic."""

    def __init__(self, arn: Arn, access: AwsAccess) -> None:
        self._topic = str(arn)
        self._client = DestinationClient(_SNS, arn, arn.region, access)

    async def check(self) -> None:
        """Looks the topic up."""
        await self._client.call("get_topic_attributes", wants="Attributes", TopicArn=self._topic)

    async def publish(self, record: FailureRecord) -> None:
        """Publishes one message: what a queue would get."""
        await self._client.call(
            "publish", wants="MessageId", TopicArn=self._topic, Message=record.message(MESSAGE_LIMIT).decode()
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
