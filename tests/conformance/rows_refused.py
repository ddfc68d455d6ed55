"""K.6 67, K.7 73 and the rules of A.3 about streams: what is refused, in which words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.mappings import DEAD_LETTERS, DYNAMODB, filters, on_failure

STREAMS = ("kinesis", "consumer", "dynamodb")
NULL_POSITION = (
    "startingPosition: 1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint:"
    " Member must not be null."
)
ON_SUCCESS = "Unsupported DestinationConfig parameter for given event source mapping type."
FAILURES = "destinationConfig.onFailure.destination"
KINDS = f"{FAILURES}: must be the ARN of an SQS queue, an SNS topic or an S3 bucket, or kafka://TOPIC"
LAMBDA = "arn:aws:lambda:eu-west-1:123456789012:function:f"
FIFO_TOPIC = "arn:aws:sns:eu-west-1:123456789012:failed.fifo"
AGE = "-1 (no limit) or a whole number from 60 to 604800"
AT = {"startingPosition": "AT_TIMESTAMP"}
WORDS = "AWS's words are not known"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Specs that are refused, each with this sentence behind `spec.`, and nothing else; None takes a property away."""

    name: str
    claim: str
    rule: str
    specs: Sequence[Mapping[str, Any]]
    then: str
    ours: str = ""
    sources: Sequence[str] = STREAMS


def pattern(*texts: str) -> list[dict[str, Any]]:
    return [{"filterCriteria": filters(text)} for text in texts]


def numbers(path: str, words: str, *outside: int) -> Refused:
    """The bounds of a number; what is told goes on with what was given."""
    return Refused(name=path, claim=f"{path} out of its bounds", rule="A.1", specs=[{path: one} for one in outside],
                   then=f"{path}: must be {words}, got {{{path}}}", ours="in words of our own")  # fmt: skip


REFUSED = [
    Refused(name="67 lanes", claim="tumbling windows and a parallelization factor above 1", rule="K.6, V13",
            specs=[{"tumblingWindowInSeconds": 60, "parallelizationFactor": 2}], ours=WORDS,
            then="tumblingWindowInSeconds: cannot be combined with parallelizationFactor above 1"),
    Refused(name="67 filters", claim="tumbling windows and filters; an empty list is allowed (row 67)", rule="K.6, V13",
            specs=[{"tumblingWindowInSeconds": 60, "filterCriteria": filters("{}")}], ours=WORDS,
            then="tumblingWindowInSeconds: cannot be combined with filterCriteria"),
    Refused(name="73 patterns", claim="a pattern that is none: null, a text, a leaf that is no list, an empty list, "
            "broken JSON", rule="K.7, V16",
            specs=pattern("null", '"x"', '{"a":"b"}', '{"a":[]}', '{"a":', "[1]", "7", ""),
            then="filterCriteria.filters[0].pattern: Invalid filter pattern definition.…", ours="the fault is named behind it"),
    Refused(name="73 six filters", claim="more than five filters", rule="K.7, A.1",
            specs=[{"filterCriteria": filters(*["{}"] * 6)}],
            then="filterCriteria.filters: must be a list of at most 5 entries", ours=WORDS),
    Refused(name="73 long pattern", claim="a pattern of 4097 characters", rule="K.7, A.1",
            specs=pattern(json.dumps({"data": {"a": ["x" * 4079]}}, separators=(",", ":"))),
            then="filterCriteria.filters[0].pattern: must be a text of at most 4096 characters", ours=WORDS),
    Refused(name="91 V5", claim="no starting position", rule="K.9, V5", specs=[{"startingPosition": None}],
            then=NULL_POSITION),
    Refused(name="91 V6", claim="a starting position that is none", rule="K.9, V6",
            specs=[{"startingPosition": "NEWEST"}],
            then="startingPosition: must be TRIM_HORIZON, LATEST or AT_TIMESTAMP, got NEWEST", ours="in words of our own"),
    Refused(name="91 V7", claim="a table's stream at a time", rule="K.9, V7", sources=("dynamodb",),
            specs=[{**AT, "startingPositionTimestamp": 1}],
            then=f"startingPosition: Unsupported starting position for arn type: {DYNAMODB}"),
    Refused(name="91 V8 without", claim="AT_TIMESTAMP without a time", rule="K.9, V8", sources=STREAMS[:2], specs=[AT],
            then="startingPositionTimestamp: is required with startingPosition AT_TIMESTAMP", ours=WORDS),
    Refused(name="91 V8 idle", claim="a time without AT_TIMESTAMP", rule="K.9, V8", ours=WORDS,
            specs=[{"startingPosition": one, "startingPositionTimestamp": 1} for one in ("LATEST", "TRIM_HORIZON")],
            then="startingPositionTimestamp: applies to startingPosition AT_TIMESTAMP only"),
    Refused(name="91 V8 future", claim="a time to come", rule="K.9, V8", sources=STREAMS[:1],
            specs=[{**AT, "startingPositionTimestamp": "2999-01-01T00:00:00Z"}],
            then="startingPositionTimestamp: must not be in the future", ours=WORDS),
    Refused(name="91 V9", claim="a destination for what succeeds", rule="K.9, V9",
            specs=[{"destinationConfig": {"onSuccess": {"destination": DEAD_LETTERS}}}],
            then=f"destinationConfig.onSuccess: {ON_SUCCESS}"),
    Refused(name="91 V11", claim="a FIFO queue or topic for what fails", rule="K.9, V11, C.6", ours=WORDS,
            specs=[{"destinationConfig": on_failure(arn)} for arn in (f"{DEAD_LETTERS}.fifo", FIFO_TOPIC)],
            then=f"{FAILURES}: must not be a FIFO queue or topic"),
    Refused(name="91 C.6", claim="a function for what fails", rule="C.6", ours=WORDS,
            specs=[{"destinationConfig": on_failure(LAMBDA)}], then=f"{KINDS}…"),
    Refused(name="91 reports", claim="another response type than ReportBatchItemFailures", rule="A.1",
            specs=[{"functionResponseTypes": ["ReportAll"]}], ours="in words of our own",
            then="functionResponseTypes[0]: must be ReportBatchItemFailures, got ReportAll"),
    Refused(name="91 V12", claim="an age of less than a minute", rule="K.9, V12", ours="in words of our own",
            specs=[{"maximumRecordAgeInSeconds": one} for one in (0, 1, 59)],
            then=f"maximumRecordAgeInSeconds: must be {AGE}"),
    numbers("maximumRecordAgeInSeconds", AGE, -2, 604_801),
    numbers("maximumRetryAttempts", "-1 (no limit) or a whole number from 0 to 10000", -2, 10_001),
    numbers("batchSize", "a whole number from 1 to 10000", 0, 10_001),
    numbers("maximumBatchingWindowInSeconds", "a whole number from 0 to 300", -1, 301),
    numbers("parallelizationFactor", "a whole number from 1 to 10", 0, 11),
    numbers("tumblingWindowInSeconds", "a whole number from 0 to 900", -1, 901),
]  # fmt: skip
