"""The parts of Lambda's EventSourceMapping (contract A.1), each as Lambda has it. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from headrace.spec_base import Part, Whole, allowed


class Filter(Part):
    """One pattern; a record passes when any pattern matches."""

    pattern: Annotated[str, Field(strict=True, max_length=4096)]
    """An EventBridge pattern as JSON text (contract E.4)."""


class FilterCriteria(Part):
    """Which records reach the function."""

    filters: Annotated[tuple[Filter, ...], Field(max_length=5)] = ()
    """Patterns, of which one must match; none lets everything pass."""


class MetricsConfig(Part):
    """Further metrics."""

    metrics: Annotated[tuple[Literal["EventCount", "ErrorCount", "KafkaMetrics"], ...], Field(max_length=3)] = ()
    """Groups of metrics."""


class LoggingConfig(Part):
    """Logs of a Kafka mapping."""

    system_log_level: Literal["DEBUG", "INFO", "WARN"] | None = None
    """Least level."""


class ScalingConfig(Part):
    """Scaling of an SQS mapping."""

    maximum_concurrency: Annotated[Whole, Field(ge=2, le=1000)] | None = None
    """Most calls in flight."""


class ProvisionedPollerConfig(Part):
    """Provisioned mode."""

    minimum_pollers: Annotated[Whole, Field(ge=1, le=200)] | None = None
    """Least pollers; default 2 for SQS, 1 for Kafka. Of a queue as many pods, within poller.maxReplicas."""
    maximum_pollers: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """Most pollers; default 200."""
    poller_group_name: Annotated[str, Field(strict=True, max_length=128, pattern="^[a-zA-Z0-9_-]*$")] | None = None
    """Kafka mappings of one group share pollers."""


class OnFailure(Part):
    """Where a discarded batch is reported, and what happens while that place is away."""

    destination: Annotated[
        str,
        Field(
            strict=True,
            max_length=350,
            json_schema_extra=allowed(
                "the ARN of an SQS queue, an SNS topic or an S3 bucket, or kafka://TOPIC, of at most 350 characters"
            ),
        ),
    ] = ""
    """ARN of a standard SQS queue, a standard SNS topic or an S3 bucket, or kafka://TOPIC; empty for none."""
    delivery_policy: Literal["Block", "Drop"] = "Block"
    """Block retries until the destination took the record, holding the batch; Drop gives up soon, as AWS does."""
    delivery_timeout_seconds: Annotated[Whole, Field(ge=1, le=31_536_000)] | None = None
    """Turns Block into Drop after so many seconds; without it Block waits for ever."""


class DestinationConfig(Part):
    """Destinations of discarded batches."""

    on_failure: OnFailure | None = None
    """Where failure records go."""
    on_success: dict[str, Any] | None = None
    """Not for event source mappings."""


class SourceAccessConfiguration(Part):
    """Credentials or network place of a broker."""

    type: Literal[
        "BASIC_AUTH",
        "SASL_SCRAM_512_AUTH",
        "SASL_SCRAM_256_AUTH",
        "CLIENT_CERTIFICATE_TLS_AUTH",
        "SERVER_ROOT_CA_CERTIFICATE",
        "VPC_SUBNET",
        "VPC_SECURITY_GROUP",
        "VIRTUAL_HOST",
        "OAUTHBEARER_AUTH",
        "OAUTHBEARER_SCOPE",
        "OAUTHBEARER_AUDIENCE",
        "OAUTHBEARER_LOGICAL_CLUSTER",
        "OAUTHBEARER_IDENTITY_POOL",
        "IAM_AUTH",
        "IAM_OAUTHBEARER_AUTH",
    ]
    """What it is."""
    uri: Annotated[str, Field(strict=True, min_length=1, max_length=200)] | None = None
    """ARN of the secret, or the value."""


class KafkaEndpoints(Part):
    """Endpoints of a Kafka cluster."""

    kafka_bootstrap_servers: Annotated[
        tuple[
            Annotated[
                str,
                Field(
                    strict=True,
                    max_length=300,
                    pattern=r"^[^\s:,/]+:[0-9]{1,5}$",
                    json_schema_extra=allowed("HOST:PORT of at most 300 characters"),
                ),
            ],
            ...,
        ],
        Field(min_length=1, max_length=10),
    ]
    """HOST:PORT of each bootstrap server."""


class SelfManagedEventSource(Part):
    """A Kafka cluster outside AWS."""

    endpoints: KafkaEndpoints
    """Where it is."""


class SchemaRegistryAccess(Part):
    """Credentials of a schema registry."""

    type: Literal["BASIC_AUTH", "CLIENT_CERTIFICATE_TLS_AUTH", "SERVER_ROOT_CA_CERTIFICATE", "OAUTHBEARER_AUTH"]
    """What it is."""
    uri: Annotated[str, Field(strict=True, min_length=1, max_length=10_000)]
    """ARN of the secret."""


class SchemaValidation(Part):
    """What is validated against the schema."""

    attribute: Literal["KEY", "VALUE"]
    """Part of the Kafka record."""


class SchemaRegistryConfig(Part):
    """A schema registry."""

    schema_registry_uri: Annotated[str, Field(strict=True, min_length=1, max_length=10_000, alias="schemaRegistryURI")]
    """ARN of a Glue registry, or URL of a Confluent one."""
    event_record_format: Literal["JSON", "SOURCE"] | None = None
    """Form in which records reach the function."""
    access_configs: Annotated[tuple[SchemaRegistryAccess, ...], Field(max_length=10)] = ()
    """Credentials of a Confluent registry."""
    schema_validation_configs: Annotated[tuple[SchemaValidation, ...], Field(max_length=2)] = ()
    """What is validated."""


class AmazonManagedKafkaEventSourceConfig(Part):
    """Settings of an Amazon MSK source."""

    consumer_group_id: Annotated[str, Field(strict=True, min_length=1, max_length=200)] | None = None
    """Consumer group; default the mapping's UUID."""
    schema_registry_config: SchemaRegistryConfig | None = None
    """Schema registry."""


class SelfManagedKafkaEventSourceConfig(AmazonManagedKafkaEventSourceConfig):
    """Settings of a self-managed Kafka source."""

    consumption_mode: Literal["Stream", "Queue"] = "Stream"
    """Stream reads partitions in order; Queue uses a share group."""


class DocumentDBEventSourceConfig(Part):
    """Settings of a DocumentDB source."""

    database_name: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=63,
            pattern=r'^[^ /\\.$"]*$',
            json_schema_extra=allowed('a database name: 1 to 63 characters without blank, /, \\, ., $ and "'),
        ),
    ]
    """Database."""
    collection_name: (
        Annotated[
            str,
            Field(
                strict=True,
                min_length=1,
                max_length=57,
                # not beginning with "system.", for engines without look-ahead
                pattern=r"^([^s]|s$|s[^y]|sy$|sy[^s]|sys$|sys[^t]|syst$|syst[^e]|syste$|syste[^m]|system$|system[^.])",
                json_schema_extra=allowed("a collection name of 1 to 57 characters that does not begin with system."),
            ),
        ]
        | None
    ) = None
    """Collection; default the whole database."""
    full_document: Literal["UpdateLookup", "Default"] = "Default"
    """UpdateLookup adds the whole document to updates."""


Topic = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=249,
        pattern="^[^.][a-zA-Z0-9_.-]*$",
        json_schema_extra=allowed("a topic name: 1 to 249 letters, digits, -, _ and ., not beginning with a ."),
    ),
]
