"""What a mapping's spec means for its data plane. Pure: spec in, settings out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.arns import SourceKind
from headrace.filter_patterns import DataKey
from headrace.stream.batching import BatchLimits
from headrace.stream.encodings import LAMBDA_EVENT
from headrace.stream.events import FilterNeverMatches
from headrace.stream.filtering import Filter, compile_filters, never_matching
from headrace.stream.functions.cloudevents import DYNAMODB_CLOUDEVENTS, KINESIS_CLOUDEVENTS, SQS_CLOUDEVENTS
from headrace.stream.report import Origin
from headrace.stream.retry import DROP_PATIENCE, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.spec import EventSourceMapping, EventSourceMappingSpec
    from headrace.stream.encodings import Encoding

LEAST_READ = 1_000
MOST_READ = 10_000
"""Bounds of how many records one read asks for; a read holds at most 10 MB all the same (contract B.1)."""


@dataclass(frozen=True, slots=True)
class StreamTraits:
    """What sets the records of one kind of stream apart from those of another.

    `fields` are those that patterns may see at the top of a record (contract D, E.1), `poll_interval` is the seconds
    from one read to the next at a shard's tip (B.1), `batch_info` the key of a failure record's extent, whose arrivals
    have whole seconds with `whole_seconds` (C.1).
    """

    data_key: DataKey
    fields: frozenset[str]
    cloudevents: Encoding
    poll_interval: float
    batch_info: str
    whole_seconds: bool = False


_COMMON = frozenset({"awsRegion", "eventSource", "eventSourceARN"})
_OF_CHANGES = _COMMON | {"dynamodb", "eventID", "eventName", "eventVersion", "userIdentity"}
_OF_RECORDS = _COMMON | {"data", "eventID", "eventName", "eventVersion", "invokeIdentityArn", "kinesis"}
_OF_MESSAGES = _COMMON | {
    "attributes", "body", "md5OfBody", "md5OfMessageAttributes", "messageAttributes", "messageId", "receiptHandle",
}  # fmt: skip

KINESIS = StreamTraits(DataKey.KINESIS, _OF_RECORDS, KINESIS_CLOUDEVENTS, 1.0, "KinesisBatchInfo")
SQS = StreamTraits(DataKey.SQS, _OF_MESSAGES, SQS_CLOUDEVENTS, 1.0, "")
"""A queue has neither a pace of reads nor failure records."""
DYNAMODB = StreamTraits(
    DataKey.DYNAMODB, _OF_CHANGES, DYNAMODB_CLOUDEVENTS, 0.25, "DDBStreamBatchInfo", whole_seconds=True
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What of a mapping's settings concerns the handling of its batches."""

    limits: BatchLimits
    policy: RetryPolicy
    origin: Origin
    mapping_uid: str
    lambda_protocol: bool
    report_failures: bool
    factor: int = 1
    """Lanes a shard has: `parallelizationFactor`."""
    filter: Filter | None = None
    """What records must match, None for all of them."""
    poll_interval: float = KINESIS.poll_interval
    """Seconds from one read of a shard to the next at its tip."""


def delivery_of(mapping: EventSourceMapping) -> Delivery:
    """The settings of every batch; the origin's shard is filled in by the shard that handles it."""
    spec = mapping.spec
    traits = _traits(mapping.source_kind)
    return Delivery(
        limits=BatchLimits(
            size=spec.resolved_batch_size,
            window=spec.resolved_batching_window,
            maximum_age=spec.maximum_record_age,
            encoding=traits.cloudevents if spec.function.protocol == "cloudevents" else LAMBDA_EVENT,
            tumbling=spec.tumbling_window_in_seconds,
        ),
        policy=retry_policy(spec),
        origin=Origin(
            function_arn=mapping.function_arn,
            stream_arn=spec.event_source_arn or "",
            shard_id="",
            batch_info=traits.batch_info,
            whole_seconds=traits.whole_seconds,
        ),
        mapping_uid=mapping.resolved_uid,
        lambda_protocol=spec.function.protocol == "lambda",
        report_failures="ReportBatchItemFailures" in spec.function_response_types,
        factor=spec.parallelization_factor,
        filter=compile_filters(spec.filter_patterns, traits.data_key),
        poll_interval=traits.poll_interval,
    )


def _traits(kind: SourceKind | None) -> StreamTraits:
    match kind:
        case SourceKind.DYNAMODB:
            return DYNAMODB
        case SourceKind.SQS | SourceKind.SQS_FIFO:
            return SQS
        case _:
            return KINESIS


def doubtful_filters(mapping: EventSourceMapping) -> Iterator[FilterNeverMatches]:
    """What of a mapping's filters AWS accepts and no record can match: a slip, most likely (contract E.1)."""
    traits = _traits(mapping.source_kind)
    for index, field in never_matching(mapping.spec.filter_patterns, traits.fields):
        yield FilterNeverMatches(index, field, traits.data_key.value)


def retry_policy(spec: EventSourceMappingSpec) -> RetryPolicy:
    """Retries, age, splitting, back-off and the destination's terms (contract B.5, C.5)."""
    on_failure = spec.on_failure
    patience: float | None = None
    if on_failure is not None:
        dropping = on_failure.delivery_policy == "Drop"
        patience = DROP_PATIENCE if dropping else on_failure.delivery_timeout_seconds
    return RetryPolicy(
        maximum_retries=spec.maximum_retries,
        maximum_age=spec.maximum_record_age,
        split=spec.bisect_batch_on_function_error,
        initial_backoff=spec.retry_backoff.initial_seconds,
        maximum_backoff=spec.retry_backoff.maximum_seconds,
        has_destination=on_failure is not None,
        delivery_patience=patience,
    )


def read_limit(batch_size: int) -> int:
    """How many records one read asks for: two batches, within bounds that suit small and large ones."""
    return min(MOST_READ, max(LEAST_READ, 2 * batch_size))
