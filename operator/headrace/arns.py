"""ARNs, and what kind of event source one names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

ARN_PATTERN = r"^arn:aws[a-zA-Z0-9-]*:[a-zA-Z0-9-]+:([a-z]{2,}(-[a-z]+)+-[0-9]+)?:([0-9]{12})?:[^\s]+$"
"""Lambda's own pattern of an ARN, in the syntax that Python, Rust and Go (the API server) share."""

_ARN = re.compile(ARN_PATTERN)


@dataclass(frozen=True, slots=True)
class Arn:
    """The parts of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; region and account may be empty."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def parse_arn(text: str) -> Arn:
    """Takes an ARN apart; raises ValueError when it is none."""
    if _ARN.fullmatch(text) is None:
        raise ValueError("not an ARN")
    _, partition, service, region, account, resource = text.split(":", 5)
    return Arn(partition, service, region, account, resource)


class SourceKind(StrEnum):
    """The kinds of event sources (contract A.1), in words for a sentence."""

    KINESIS = "Kinesis stream"
    KINESIS_CONSUMER = "Kinesis stream consumer"
    DYNAMODB = "DynamoDB stream"
    SQS = "SQS queue"
    SQS_FIFO = "SQS FIFO queue"
    MSK = "Amazon MSK cluster"
    SELF_MANAGED_KAFKA = "self-managed Kafka cluster"
    MQ = "Amazon MQ broker"
    DOCUMENTDB = "DocumentDB cluster"


def _pattern(service: str, resource: str) -> str:
    return f"^arn:[^:]+:{service}:[^:]+:[0-9]{{12}}:{resource}$"


SOURCE_PATTERNS = {
    SourceKind.KINESIS: _pattern("kinesis", "stream/[a-zA-Z0-9_.-]+"),
    SourceKind.KINESIS_CONSUMER: _pattern("kinesis", "stream/[a-zA-Z0-9_.-]+/consumer/[a-zA-Z0-9_.-]+:[0-9]+"),
    SourceKind.DYNAMODB: _pattern("dynamodb", "table/[a-zA-Z0-9_.-]+/stream/[^/]+"),
    SourceKind.SQS: _pattern("sqs", "[a-zA-Z0-9_-]+"),
    SourceKind.SQS_FIFO: _pattern("sqs", "[a-zA-Z0-9_-]+[.]fifo"),
    SourceKind.MSK: _pattern("kafka", "(cluster|vpc-connection)/.+"),
    SourceKind.MQ: _pattern("mq", "broker:.+"),
    SourceKind.DOCUMENTDB: _pattern("rds", "cluster:.+"),
}
"""What the ARN of each kind looks like; self-managed Kafka has none."""

TABLE_PATTERN = _pattern("dynamodb", "table/[a-zA-Z0-9_.-]+")
"""A DynamoDB table: what is often given in place of its stream."""

_COMPILED = {kind: re.compile(pattern) for kind, pattern in SOURCE_PATTERNS.items()}
_TABLE = re.compile(TABLE_PATTERN)


def source_kind_of(arn: str) -> SourceKind | None:
    """The kind of source an ARN names, None when it names none."""
    return next((kind for kind, pattern in _COMPILED.items() if pattern.fullmatch(arn)), None)


def names_table(arn: str) -> bool:
    """Whether an ARN is that of a DynamoDB table."""
    return _TABLE.fullmatch(arn) is not None
