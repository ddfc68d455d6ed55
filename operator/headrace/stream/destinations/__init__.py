"""Where failure records go: a Protocol, and one file per kind of destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headrace.arns import Arn
from headrace.errors import InvalidMapping
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.destinations.s3 import S3Bucket
from headrace.stream.destinations.sns import SnsTopic
from headrace.stream.destinations.sqs import SqsQueue

if TYPE_CHECKING:
    from headrace.spec import EventSourceMapping
    from headrace.stream.report import FailureRecord


class Destination(Protocol):
    """An on-failure destination (contract C)."""

    async def check(self) -> None:
        """Whether it is there and may be used, as far as that shows without writing; raises DestinationError."""
        ...

    async def publish(self, record: FailureRecord) -> None:
        """Hands over one failure record; returns once the destination has it; raises DestinationError."""
        ...

    async def aclose(self) -> None:
        """Frees the connections."""
        ...


def open_destination(mapping: EventSourceMapping, aws: AwsSettings) -> Destination | None:
    """The on-failure destination that a mapping names, None without one; makes no call yet.

    Raises InvalidMapping for one that nothing serves.
    """
    on_failure = mapping.spec.on_failure
    if on_failure is None:
        return None
    if on_failure.destination.startswith("kafka://"):
        raise InvalidMapping("spec.destinationConfig.onFailure.destination: a Kafka topic is not served yet")
    # The spec's rules have matched it; its region may be one that only an emulator knows.
    arn = Arn(*on_failure.destination.split(":", 5)[1:])
    access = AwsAccess(aws, mapping.spec.aws.endpoint_url, mapping.spec.aws.role_arn)
    match arn.service:
        case "sqs":
            return SqsQueue(arn, access)
        case "sns":
            return SnsTopic(arn, access)
        case _:  # the rules of the spec leave no other
            return S3Bucket(arn, mapping.region, mapping.resolved_uid, access)
