"""What the schema knows and no code serves yet: a table whose rows go away one by one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.arns import SourceKind
from headrace.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.spec import EventSourceMapping, EventSourceMappingSpec

SERVED_SOURCES = (SourceKind.KINESIS, SourceKind.DYNAMODB, SourceKind.SQS, SourceKind.SQS_FIFO)


@dataclass(frozen=True, slots=True)
class _Gap:
    """A property, what of it is not served, and what is."""

    path: str
    asked: Callable[[EventSourceMappingSpec], bool]
    served: str


_NONE = "it is not served in this version"
_GAPS = (
    _Gap("kmsKeyArn", lambda spec: bool(spec.kms_key_arn), _NONE),
    _Gap("metricsConfig", lambda spec: bool(spec.metrics_config and spec.metrics_config.metrics), _NONE),
    _Gap("loggingConfig", lambda spec: spec.logging_config is not None, _NONE),
    _Gap(
        "destinationConfig.onFailure.destination",
        lambda spec: spec.on_failure is not None and spec.on_failure.destination.startswith("kafka://"),
        "only SQS queues, SNS topics and S3 buckets are served in this version",
    ),
    _Gap("tags", lambda spec: bool(spec.tags), _NONE),
)


def unsupported(mapping: EventSourceMapping) -> tuple[str, ...]:
    """A sentence for each thing a valid mapping asks for that this version does not do; empty when it does it all."""
    spec = mapping.spec
    told = [_sentence(gap.path, gap.served) for gap in _GAPS if gap.asked(spec)]
    if mapping.source_kind not in SERVED_SOURCES:
        *others, last = (f"{kind}s" for kind in SERVED_SOURCES)
        served = f"{', '.join(others)} and {last}"
        path = "selfManagedEventSource" if spec.event_source_arn is None else "eventSourceArn"
        told.insert(0, _sentence(path, f"a {mapping.source_kind}; only {served} are served in this version"))
    return tuple(told)


def _sentence(path: str, served: str) -> str:
    return f"spec.{path}: {Reason.NOT_SUPPORTED_YET}: {served}"
