"""The EventSourceMapping resource: Lambda's properties, types, bounds and defaults (contract A), and our groups.

Property names are Lambda's in lowerCamelCase; here they are snake_case. `parse_mapping` is the way in. The rules
between properties are in `spec_rules.py`, what no code serves yet in `spec_support.py`. Pure.
"""

from __future__ import annotations

import hashlib
from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from headrace.arns import Arn, SourceKind, parse_arn, source_kind_of
from headrace.errors import InvalidMapping
from headrace.records import StartingPosition
from headrace.spec_base import ArnText, EpochSeconds, Flag, KeyArn, Part, Whole, allowed, without_nulls
from headrace.spec_errors import RULES_BROKEN, sentences
from headrace.spec_groups import Aws, Function, Poller, RetryBackoff
from headrace.spec_parts import (
    AmazonManagedKafkaEventSourceConfig,
    DestinationConfig,
    DocumentDBEventSourceConfig,
    FilterCriteria,
    LoggingConfig,
    MetricsConfig,
    OnFailure,
    ProvisionedPollerConfig,
    ScalingConfig,
    SelfManagedEventSource,
    SelfManagedKafkaEventSourceConfig,
    SourceAccessConfiguration,
    Topic,
)
from headrace.spec_rule import QUEUES, STREAMS
from headrace.spec_rules import broken_rules
from headrace.spec_support import unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Arn",
    "EventSourceMapping",
    "EventSourceMappingSpec",
    "Function",
    "OnFailure",
    "SourceKind",
    "parse_arn",
    "parse_mapping",
    "unsupported",
]

API_VERSION = "headrace.dev/v1alpha1"
KIND = "EventSourceMapping"
UNLIMITED = -1
NO_ACCOUNT = "000000000000"
"""Account in the ARNs of a mapping whose source has none."""
_UUID_NAMESPACE = bytes.fromhex("6d250366c067550bbf41d3f7c21d6884")
"""`uuid5(NAMESPACE_DNS, "headrace.dev")`."""
DEFAULT_BATCH_SIZE = 100
DEFAULT_BATCH_SIZE_SQS = 10
CALLS_PER_POLLER = 10
"""Calls at a time of what Lambda names a poller in provisionedPollerConfig (contract F.4)."""
DEFAULT_WINDOW = 0.5
"""Seconds; of Kafka, MQ and DocumentDB sources, where it cannot be expressed (contract A.1)."""


class EventSourceMappingSpec(Part):
    """What is read, how it is batched, and what happens when the function fails."""

    event_source_arn: ArnText | None = None
    """ARN of the Kinesis stream or consumer, DynamoDB stream, SQS queue, MSK, MQ or DocumentDB cluster to read."""
    function: Function
    """How the function is reached; stands for Lambda's FunctionName."""
    enabled: Flag = True
    """False stops polling and keeps the checkpoints."""
    batch_size: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """Most records a call; default 100, SQS 10."""
    maximum_batching_window_in_seconds: Annotated[Whole, Field(ge=0, le=300)] | None = None
    """Longest wait for a full batch; default 0 for streams and SQS, else 0.5 s."""
    filter_criteria: FilterCriteria | None = None
    """Which records reach the function."""
    kms_key_arn: KeyArn | None = None
    """Key that encrypts the filter criteria."""
    metrics_config: MetricsConfig | None = None
    """Further metrics."""
    logging_config: LoggingConfig | None = None
    """Logs of a Kafka mapping."""
    scaling_config: ScalingConfig | None = None
    """Scaling of an SQS mapping."""
    provisioned_poller_config: ProvisionedPollerConfig | None = None
    """Provisioned mode of SQS and Kafka mappings."""
    parallelization_factor: Annotated[Whole, Field(ge=1, le=10)] = 1
    """Batches of one shard in flight at once; order is kept per key."""
    starting_position: StartingPosition | None = None
    """Where reading begins; required for streams."""
    starting_position_timestamp: EpochSeconds | None = None
    """Time from which AT_TIMESTAMP reads: unix seconds or RFC 3339."""
    destination_config: DestinationConfig | None = None
    """Destinations of discarded batches."""
    maximum_record_age_in_seconds: Annotated[
        Whole,
        Field(ge=-1, le=604_800, json_schema_extra=allowed("-1 (no limit) or a whole number from 60 to 604800")),
    ] = UNLIMITED
    """Age from which a record is discarded; -1 for no limit, else 60 to 604800."""
    maximum_retry_attempts: Annotated[
        Whole,
        Field(ge=-1, le=10_000, json_schema_extra=allowed("-1 (no limit) or a whole number from 0 to 10000")),
    ] = UNLIMITED
    """Retries of a failing batch before it is discarded; -1 for no limit."""
    bisect_batch_on_function_error: Flag = False
    """Splits a failing batch in two."""
    tumbling_window_in_seconds: Annotated[Whole, Field(ge=0, le=900)] = 0
    """Length of an aggregation window; 0 for none."""
    function_response_types: Annotated[tuple[Literal["ReportBatchItemFailures"], ...], Field(max_length=1)] = ()
    """ReportBatchItemFailures: the function answers which records failed."""
    topics: Annotated[tuple[Topic, ...], Field(min_length=1, max_length=1)] | None = None
    """The Kafka topic."""
    queues: (
        Annotated[
            tuple[Annotated[str, Field(strict=True, min_length=1, max_length=1000)], ...],
            Field(min_length=1, max_length=1),
        ]
        | None
    ) = None
    """The queue of an MQ broker."""
    source_access_configurations: Annotated[tuple[SourceAccessConfiguration, ...], Field(max_length=23)] = ()
    """Credentials and network place of a broker."""
    self_managed_event_source: SelfManagedEventSource | None = None
    """A Kafka cluster outside AWS."""
    amazon_managed_kafka_event_source_config: AmazonManagedKafkaEventSourceConfig | None = None
    """Settings of an Amazon MSK source."""
    self_managed_kafka_event_source_config: SelfManagedKafkaEventSourceConfig | None = None
    """Settings of a self-managed Kafka source."""
    document_db_event_source_config: Annotated[
        DocumentDBEventSourceConfig | None, Field(alias="documentDBEventSourceConfig")
    ] = None
    """Settings of a DocumentDB source."""
    tags: Annotated[
        dict[
            Annotated[str, Field(strict=True, min_length=1, max_length=128)],
            Annotated[str, Field(strict=True, max_length=256)],
        ],
        Field(max_length=50, default_factory=dict),
    ]
    """Tags of the mapping."""
    retry_backoff: RetryBackoff = RetryBackoff()
    """Pauses between retries."""
    aws: Aws = Aws()
    """How AWS, or what stands in for it, is reached."""
    poller: Poller = Poller()
    """The pods that poll."""

    @model_validator(mode="after")
    def _rules(self) -> Self:
        broken = broken_rules(self)
        if broken:
            raise PydanticCustomError(RULES_BROKEN, "rules are broken", {"sentences": broken})
        return self

    @property
    def arn(self) -> Arn | None:
        """The source's ARN taken apart; None for self-managed Kafka."""
        return parse_arn(self.event_source_arn) if self.event_source_arn is not None else None

    @property
    def source_kind(self) -> SourceKind | None:
        """What kind of source the mapping reads; None only while the rules have not been checked."""
        if self.event_source_arn is not None:
            return source_kind_of(self.event_source_arn)
        return SourceKind.SELF_MANAGED_KAFKA if self.self_managed_event_source is not None else None

    @property
    def resolved_batch_size(self) -> int:
        """Most records a call, with Lambda's default for the source."""
        if self.batch_size is not None:
            return self.batch_size
        return DEFAULT_BATCH_SIZE_SQS if self.source_kind in QUEUES else DEFAULT_BATCH_SIZE

    @property
    def resolved_batching_window(self) -> float:
        """Seconds a batch may wait to fill, with Lambda's default for the source."""
        if self.maximum_batching_window_in_seconds is not None:
            return float(self.maximum_batching_window_in_seconds)
        return 0.0 if self.source_kind in STREAMS | QUEUES else DEFAULT_WINDOW

    @property
    def resolved_starting_position(self) -> StartingPosition:
        """Where reading begins; Kafka's default is the oldest record."""
        return self.starting_position or StartingPosition.TRIM_HORIZON

    @property
    def provisioned_pollers(self) -> tuple[int, int] | None:
        """Least and most pollers of provisioned mode, with Lambda's defaults (contract A.1); None on demand."""
        config = self.provisioned_poller_config
        if config is None or config.minimum_pollers is config.maximum_pollers is None:
            return None
        least = 2 if self.source_kind in QUEUES else 1
        lowest = least if config.minimum_pollers is None else config.minimum_pollers
        return lowest, 200 if config.maximum_pollers is None else config.maximum_pollers

    @property
    def maximum_retries(self) -> int | None:
        """Retries of a failing batch; None for no limit, 0 for none."""
        return None if self.maximum_retry_attempts == UNLIMITED else self.maximum_retry_attempts

    @property
    def maximum_record_age(self) -> float | None:
        """Seconds from which a record is discarded; None for no limit."""
        return None if self.maximum_record_age_in_seconds == UNLIMITED else float(self.maximum_record_age_in_seconds)

    @property
    def on_failure(self) -> OnFailure | None:
        """The on-failure destination; None without one (an empty `destination` is none)."""
        configured = self.destination_config.on_failure if self.destination_config is not None else None
        return configured if configured is not None and configured.destination else None

    @property
    def filter_patterns(self) -> tuple[str, ...]:
        """The filter patterns, of which a record must match one; none lets everything pass."""
        return tuple(one.pattern for one in self.filter_criteria.filters) if self.filter_criteria is not None else ()


_UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


class Metadata(BaseModel):
    """What of a Kubernetes object's metadata matters here; the rest is ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    name: Annotated[
        str,
        Field(
            strict=True,
            max_length=253,
            pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
            json_schema_extra=allowed(
                "lower-case letters, digits, - and ., at most 253 characters (a DNS-1123 subdomain)"
            ),
        ),
    ]
    namespace: Annotated[
        str,
        Field(
            strict=True,
            max_length=63,
            pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
            json_schema_extra=allowed("lower-case letters, digits and -, at most 63 characters (a DNS-1123 label)"),
        ),
    ] = "default"
    uid: Annotated[str, Field(strict=True, pattern=_UUID_PATTERN, json_schema_extra=allowed("a UUID"))] | None = None
    creation_timestamp: datetime | None = None
    generation: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return without_nulls(data)


class EventSourceMapping(Part):
    """Reads an event source in batches and calls a function with them, as an AWS Lambda event source mapping does."""

    api_version: Literal["headrace.dev/v1alpha1"]
    kind: Literal["EventSourceMapping"]
    metadata: Metadata
    spec: EventSourceMappingSpec

    @model_validator(mode="before")
    @classmethod
    def _status_is_not_input(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if key != "status"} if isinstance(data, dict) else data

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def source_kind(self) -> SourceKind:
        """What kind of source the mapping reads."""
        # A spec without a source never passes the rules.
        return self.spec.source_kind or SourceKind.SELF_MANAGED_KAFKA

    @property
    def stream_name(self) -> str:
        """The name of the Kinesis stream; empty for other sources."""
        arn = self.spec.arn
        if arn is None or self.source_kind not in {SourceKind.KINESIS, SourceKind.KINESIS_CONSUMER}:
            return ""
        return arn.resource.split("/")[1]

    @property
    def region(self) -> str:
        """The AWS region: `spec.aws.region`, else the source's; empty when neither says one."""
        return self.spec.aws.region or (self.spec.arn.region if self.spec.arn is not None else "")

    @property
    def function_url(self) -> str:
        """Where events are posted: `function.url` as given, or the service's address in the cluster."""
        function = self.spec.function
        if function.url is not None or function.service is None:
            return function.url or ""
        service = function.service
        host = f"{service.name}.{service.namespace or self.metadata.namespace}.svc"
        path = service.path if service.path is not None else function.default_path
        return f"http://{host}:{service.port}{path}"

    @property
    def function_arn(self) -> str:
        """The function's ARN as failure records tell it: `function.arn`, or made of its name and the source's place."""
        function = self.spec.function
        return (
            function.arn or f"arn:{self._place('lambda', self.region)}:function:{function.name or self.metadata.name}"
        )

    @property
    def invoke_identity_arn(self) -> str:
        """The identity in events: `aws.roleArn`, or a role named like the mapping in the source's account."""
        return self.spec.aws.role_arn or f"arn:{self._place('iam', '')}:role/{self.metadata.name}"

    def _place(self, service: str, region: str) -> str:
        arn = self.spec.arn
        partition, account = (arn.partition, arn.account) if arn is not None else ("aws", NO_ACCOUNT)
        return f"{partition}:{service}:{region}:{account}"

    @property
    def resolved_uid(self) -> str:
        """The object's UID; without Kubernetes the name-based UUID (version 5) of `namespace/name`."""
        return self.metadata.uid or _name_based_uuid(self.key)


def parse_mapping(document: Mapping[str, Any]) -> EventSourceMapping:
    """Reads a manifest; raises InvalidMapping with one sentence per fault, each beginning with the property's path."""
    try:
        return EventSourceMapping.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidMapping(*sentences(error, EventSourceMapping)) from None


def _name_based_uuid(name: str) -> str:
    """`uuid5`, spelled out: this module has no use for the rest of `uuid`, which knows clocks and randomness."""
    digest = bytearray(hashlib.sha1(_UUID_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
