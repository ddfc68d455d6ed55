"""What a rule between properties is, and the phrases of CEL that rules are made of. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.arns import SourceKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.spec import EventSourceMappingSpec

    Test = Callable[[EventSourceMappingSpec], bool]

STREAMS = frozenset({SourceKind.KINESIS, SourceKind.KINESIS_CONSUMER, SourceKind.DYNAMODB})
QUEUES = frozenset({SourceKind.SQS, SourceKind.SQS_FIFO})
KAFKA = frozenset({SourceKind.MSK, SourceKind.SELF_MANAGED_KAFKA})
BROKERS = KAFKA | {SourceKind.MQ}
DOCUMENTDB = frozenset({SourceKind.DOCUMENTDB})

FUNCTION = "self.__function__"
"""CEL: the property `function`, whose name is a word that CEL keeps for itself: the API server escapes those."""

_SERVICES = {
    SourceKind.KINESIS: "kinesis",
    SourceKind.KINESIS_CONSUMER: "kinesis",
    SourceKind.DYNAMODB: "dynamodb",
    SourceKind.SQS: "sqs",
    SourceKind.SQS_FIFO: "sqs",
    SourceKind.MSK: "kafka",
    SourceKind.MQ: "mq",
    SourceKind.DOCUMENTDB: "rds",
}
_WORDS = {
    "kinesis": "Kinesis",
    "dynamodb": "DynamoDB",
    "sqs": "SQS",
    "kafka": "Amazon MSK",
    "mq": "Amazon MQ",
    "rds": "DocumentDB",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule over the spec. `path` is below `spec`; `cel` holds when the rule is kept, with `self` being the spec.

    `{arn}` in the sentence stands for the source's ARN.
    """

    path: str
    sentence: str
    broken: Test
    cel: str

    @property
    def message(self) -> str:
        """The sentence as the API server says it, where it cannot name the ARN."""
        return f"spec.{self.path}: {self.sentence.removesuffix(': {arn}')}"


def is_one_of(kinds: frozenset[SourceKind]) -> str:
    """CEL: the source is one of these kinds."""
    services = "|".join(dict.fromkeys(_SERVICES[kind] for kind in SourceKind if kind in kinds and kind in _SERVICES))
    told = (
        [f"(has(self.eventSourceArn) && self.eventSourceArn.matches('^arn:[^:]+:({services}):'))"] if services else []
    )
    if SourceKind.SELF_MANAGED_KAFKA in kinds:
        told.append("(!has(self.eventSourceArn) && has(self.selfManagedEventSource))")
    return f"({' || '.join(told)})"


def _named(kinds: frozenset[SourceKind]) -> str:
    names = [
        _WORDS[name] for name in dict.fromkeys(_SERVICES[kind] for kind in SourceKind if kind in kinds & set(_SERVICES))
    ]
    if SourceKind.SELF_MANAGED_KAFKA in kinds:
        names.append("self-managed Kafka")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def arn_matches(pattern: str) -> str:
    return f"self.eventSourceArn.matches('{pattern}')"


def has(path: str) -> str:
    """CEL: an optional property, however deep, is there."""
    steps = path.split(".")
    return " && ".join(f"has(self.{'.'.join(steps[: i + 1])})" for i in range(len(steps)))


def filled(path: str) -> str:
    return f"{has(path)} && self.{path}.size() > 0"


def only_for(kinds: frozenset[SourceKind], path: str, given: Test, given_cel: str, sentence: str = "") -> Rule:
    """A property that only some kinds of sources have (contract A.1)."""
    return Rule(
        path,
        sentence or f"applies to {_named(kinds)} sources only",
        lambda spec: spec.source_kind is not None and spec.source_kind not in kinds and given(spec),
        f"!({given_cel}) || {is_one_of(kinds)}",
    )


def provisioned(spec: EventSourceMappingSpec) -> bool:
    return spec.provisioned_pollers is not None


PROVISIONED = (
    "(has(self.provisionedPollerConfig) && (has(self.provisionedPollerConfig.minimumPollers) ||"
    " has(self.provisionedPollerConfig.maximumPollers)))"
)


def provisioned_on_kafka(path: str, given: Test, given_cel: str) -> Rule:
    return Rule(
        path,
        "applies to Kafka sources only in provisioned mode; set provisionedPollerConfig",
        lambda spec: spec.source_kind in KAFKA and given(spec) and not provisioned(spec),
        f"!({given_cel}) || !{is_one_of(KAFKA)} || {PROVISIONED}",
    )
