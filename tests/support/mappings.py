"""Manifests for tests: the least that each kind of source needs."""

from __future__ import annotations

from typing import Any

ACCOUNT = "eu-west-1:123456789012"
KINESIS = f"arn:aws:kinesis:{ACCOUNT}:stream/orders"
CONSUMER = f"{KINESIS}/consumer/fast:1700000000"
TABLE = f"arn:aws:dynamodb:{ACCOUNT}:table/orders"
DYNAMODB = f"{TABLE}/stream/2026-01-01T00:00:00.000"
SQS = f"arn:aws:sqs:{ACCOUNT}:orders"
FIFO = f"{SQS}.fifo"
MSK = f"arn:aws:kafka:{ACCOUNT}:cluster/orders/0b1c2d3e-0000-1111-2222-333344445555-1"
MQ = f"arn:aws:mq:{ACCOUNT}:broker:orders:b-0b1c2d3e"
DOCUMENTDB = f"arn:aws:rds:{ACCOUNT}:cluster:orders"
DEAD_LETTERS = f"arn:aws:sqs:{ACCOUNT}:orders-failed"

PROVISIONED = {"minimumPollers": 2, "maximumPollers": 4}
BASIC_AUTH = {"type": "BASIC_AUTH", "uri": f"arn:aws:secretsmanager:{ACCOUNT}:secret:broker"}

SOURCES: dict[str, dict[str, Any]] = {
    "kinesis": {"eventSourceArn": KINESIS, "startingPosition": "TRIM_HORIZON"},
    "consumer": {"eventSourceArn": CONSUMER, "startingPosition": "TRIM_HORIZON"},
    "dynamodb": {"eventSourceArn": DYNAMODB, "startingPosition": "TRIM_HORIZON"},
    "sqs": {"eventSourceArn": SQS},
    "fifo": {"eventSourceArn": FIFO},
    "msk": {"eventSourceArn": MSK, "topics": ["orders"]},
    "kafka": {
        "selfManagedEventSource": {"endpoints": {"kafkaBootstrapServers": ["a.example:9092"]}},
        "topics": ["orders"],
        "sourceAccessConfigurations": [BASIC_AUTH],
    },
    "mq": {"eventSourceArn": MQ, "queues": ["orders"], "sourceAccessConfigurations": [BASIC_AUTH]},
    "documentdb": {
        "eventSourceArn": DOCUMENTDB,
        "startingPosition": "LATEST",
        "documentDBEventSourceConfig": {"databaseName": "shop"},
    },
}


def manifest(source: str = "kinesis", *without: str, **properties: Any) -> dict[str, Any]:
    """A manifest with a source's least spec, some properties left out, others added or replaced."""
    spec = {"function": {"service": {"name": "orders", "port": 8080}}} | SOURCES[source] | properties
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "EventSourceMapping",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {name: value for name, value in spec.items() if name not in without},
    }


def on_failure(destination: str = DEAD_LETTERS, **more: Any) -> dict[str, Any]:
    """A `destinationConfig`."""
    return {"onFailure": {"destination": destination, **more}}


def filters(*patterns: str) -> dict[str, Any]:
    """A `filterCriteria`."""
    return {"filters": [{"pattern": pattern} for pattern in patterns]}
