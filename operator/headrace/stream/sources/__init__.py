"""Where records come from: a Protocol, and one file per source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headrace.arns import SourceKind
from headrace.errors import InvalidMapping
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.settings import MOST_READ, read_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.records import Polled, Position, Shard
    from headrace.spec import EventSourceMapping
    from headrace.stream.sources.sqs import SqsQueue


class ShardReader(Protocol):
    """Reads one shard in order, holding its place across throttles and expired iterators."""

    async def read(self, most: int = MOST_READ) -> Polled:
        """The next records, `most` at most; raises SourceError (Throttled, too): the next read goes on from there."""
        ...


class Source(Protocol):
    """A stream."""

    @property
    def retention(self) -> float | None:
        """Seconds that the stream keeps a record, as `created` last saw it. None: not told."""
        ...

    async def shards(self) -> Sequence[Shard]:
        """Every shard the stream still knows, closed ones included; raises SourceError."""
        ...

    async def created(self) -> float | None:
        """When the stream was made, in epoch seconds: tells it from another one of its name. None: not told.

        Readers made after this refuse to go on in a stream that was made at another time. Raises SourceError.
        """
        ...

    async def now(self) -> float:
        """The time of the source's own clock in epoch seconds; raises SourceError."""
        ...

    def reader(self, shard_id: str, position: Position) -> ShardReader:
        """A reader of one shard from `position` on; makes no call yet."""
        ...

    async def aclose(self) -> None:
        """Frees the connections."""
        ...


def open_source(mapping: EventSourceMapping, aws: AwsSettings) -> Source:
    """The source that a mapping names; makes no call yet. Raises InvalidMapping for one that nothing serves."""
    # Each source is imported when it is used: brokers bring clients of their own.
    from headrace.stream.sources import dynamodb, kinesis  # noqa: PLC0415

    spec = mapping.spec
    access = AwsAccess(aws, spec.aws.endpoint_url, spec.aws.role_arn)
    match mapping.source_kind:
        case SourceKind.KINESIS:
            facts = kinesis.RecordFacts(spec.event_source_arn or "", mapping.region, mapping.invoke_identity_arn)
            return kinesis.Kinesis(facts, access, read_limit=read_limit(spec.resolved_batch_size))
        case SourceKind.DYNAMODB:
            stream = dynamodb.StreamFacts(spec.event_source_arn or "", mapping.region)
            return dynamodb.DynamoDBStream(stream, access, read_limit=read_limit(spec.resolved_batch_size))
        case kind:
            raise InvalidMapping(f"spec.eventSourceArn: {kind} is not served yet")


def open_queue(mapping: EventSourceMapping, aws: AwsSettings) -> SqsQueue:
    """The queue that a mapping names; makes no call yet. Raises InvalidMapping for one that nothing serves."""
    from headrace.stream.sources import sqs  # noqa: PLC0415

    spec = mapping.spec
    match mapping.source_kind:
        case SourceKind.SQS | SourceKind.SQS_FIFO if spec.arn is not None:
            return sqs.SqsQueue(spec.arn, mapping.region, AwsAccess(aws, spec.aws.endpoint_url, spec.aws.role_arn))
        case kind:
            raise InvalidMapping(f"spec.eventSourceArn: {kind} is not served yet")
