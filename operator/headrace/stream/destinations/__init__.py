"""Where failure records go: a Protocol, and one file per kind of destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.destinations.sqs import SqsQueue

if TYPE_CHECKING:
    from headrace.spec import EventSourceMapping


class Destination(Protocol):
    """An on-failure destination (contract C)."""

    async def check(self) -> None:
        """Whether it is there and may be used, as far as that shows without writing; raises DestinationError."""
        ...

    async def publish(self, document: bytes) -> None:
        """Hands over one failure record (JSON); returns once the destination has it; raises DestinationError."""
        ...

    async def aclose(self) -> None:
        """Frees the connections."""
        ...


def open_destination(mapping: EventSourceMapping, aws: AwsSettings) -> Destination | None:
    """The on-failure destination that a mapping names, None without one; makes no call yet."""
    on_failure = mapping.spec.on_failure
    if on_failure is None:
        return None
    return SqsQueue(on_failure.destination, AwsAccess(aws, mapping.spec.aws.endpoint_url, mapping.spec.aws.role_arn))
