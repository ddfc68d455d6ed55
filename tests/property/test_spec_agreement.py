"""The models and the CRD, with its rules in CEL, refuse the same specs: drawn around the bounds, broken in any number."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from headrace.errors import InvalidMapping
from headrace.spec import parse_mapping
from headrace.spec_rules import RULES
from tests.support.api_server import refusals
from tests.support.mappings import (
    BASIC_AUTH,
    CONSUMER,
    DEAD_LETTERS,
    DOCUMENTDB,
    DYNAMODB,
    FIFO,
    KINESIS,
    MQ,
    MSK,
    SQS,
    TABLE,
    filters,
    manifest,
)

OTHER_TYPES: st.SearchStrategy[Any] = st.sampled_from(["1", True, [], {}, "", None])
CUT_ARNS = st.sampled_from([TABLE, f"{KINESIS}/", KINESIS.replace("1234", "12"), "arn:aws:s3:::b", "orders", ""])


def around(*bounds: int) -> st.SearchStrategy[Any]:
    near = st.sampled_from([bound + step for bound in bounds for step in (-1, 0, 1)])
    return st.one_of(near, near, near, OTHER_TYPES)


def chosen(*values: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(values), st.sampled_from(values), OTHER_TYPES)


DESTINATIONS = (
    DEAD_LETTERS, f"{DEAD_LETTERS}.fifo", "arn:aws:s3:::failed", "arn:aws:sns:eu-west-1:123456789012:t",
    "arn:aws:sns:eu-west-1:123456789012:t.fifo", "kafka://orders", "kafka://failed.fifo", "kafka://", "x" * 351, KINESIS,
    f"{DEAD_LETTERS}\n",
)  # fmt: skip
ON_FAILURE = st.fixed_dictionaries(
    {},
    optional={
        "destination": chosen(*DESTINATIONS),
        "deliveryPolicy": chosen("Block", "Drop", "block"),
        "deliveryTimeoutSeconds": around(1, 31_536_000),
    },
)
POLLERS = st.fixed_dictionaries(
    {},
    optional={
        "minimumPollers": around(1, 2, 200),
        "maximumPollers": around(1, 200, 2_000, 10_000),
        "pollerGroupName": chosen("", "group", "a b", "x" * 129),
    },
)
SOURCES = (KINESIS, KINESIS, CONSUMER, DYNAMODB, DYNAMODB, SQS, FIFO, MSK, MQ, DOCUMENTDB)
PROPERTIES: dict[str, st.SearchStrategy[Any]] = {
    "batchSize": around(1, 10, 10_000),
    "maximumBatchingWindowInSeconds": around(0, 300),
    "parallelizationFactor": around(1, 10),
    "tumblingWindowInSeconds": around(0, 900),
    "maximumRecordAgeInSeconds": around(-1, 0, 60, 604_800),
    "maximumRetryAttempts": around(-1, 0, 10_000),
    "bisectBatchOnFunctionError": chosen(True, False),
    "startingPosition": chosen("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "NEWEST"),
    "startingPositionTimestamp": st.one_of(
        around(0, 253_402_300_799), chosen("2026-01-31T12:00:00Z", "2026-01-31", "2026-01-31T12:00:00Z\n")
    ),
    "functionResponseTypes": chosen([], ["ReportBatchItemFailures"], ["ReportBatchItemFailures"] * 2, ["Report"]),
    "filterCriteria": chosen({}, *(filters(*['{"data":{"a":[1]}}'] * n) for n in (0, 1, 5, 6))),
    "destinationConfig": st.one_of(
        OTHER_TYPES,
        st.fixed_dictionaries({}, optional={"onFailure": ON_FAILURE, "onSuccess": chosen({}, {"destination": SQS})}),
    ),
    "provisionedPollerConfig": st.one_of(POLLERS, OTHER_TYPES),
    "scalingConfig": chosen({}, *({"maximumConcurrency": n} for n in (1, 2, 1000, 1001))),
    "topics": chosen([], ["orders"], ["a", "b"], ["x" * 250], [".x"]),
    "queues": chosen(["orders"], ["x" * 1001]),
    "sourceAccessConfigurations": chosen([], [BASIC_AUTH], [BASIC_AUTH] * 24),
    "kmsKeyArn": chosen("", "arn:aws:kms:eu-west-1:123456789012:key/k", "key"),
    "retryBackoff": st.fixed_dictionaries(
        {},
        optional={
            "initialSeconds": st.sampled_from([0, 0.009, 0.01, 1, 60, 60.5, 3600, 3601, "1"]),
            "maximumSeconds": st.sampled_from([0, 0.009, 0.01, 1, 60, 60.5, 3600, 3601, "1"]),
        },
    ),
    "poller": st.fixed_dictionaries(
        {}, optional={"minReplicas": around(1, 10, 1000), "maxReplicas": around(1, 10, 1000)}
    ),
    "function": st.fixed_dictionaries(
        {},
        optional={
            "url": st.sampled_from(["http://f", "https://f/x", "ftp://f", "f"]),
            "timeoutSeconds": around(1, 840, 900),
            "protocol": chosen("lambda", "http", "cloudevents", "grpc"),
        },
    ),
    "selfManagedEventSource": chosen(
        *({"endpoints": {"kafkaBootstrapServers": servers}} for servers in ([], ["h:1"], ["h:1"] * 11, ["h"]))
    ),
}
PLACED = st.fixed_dictionaries(
    {"eventSourceArn": st.one_of(st.sampled_from(SOURCES), st.sampled_from(SOURCES), CUT_ARNS)},
    optional={"startingPosition": PROPERTIES["startingPosition"]},
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A valid start, and up to three properties of any kind of value near what is allowed."""
    spec: dict[str, Any] = manifest()["spec"] | draw(PLACED)
    for name in draw(st.lists(st.sampled_from(sorted(PROPERTIES)), max_size=3, unique=True)):
        spec[name] = draw(PROPERTIES[name])
    if "startingPositionTimestamp" in spec and draw(st.booleans()):
        spec["startingPosition"] = "AT_TIMESTAMP"
    return spec


@settings(max_examples=1500, deadline=None)
@given(specs())
def test_models_and_api_server_agree(spec: dict[str, Any]) -> None:
    try:
        parse_mapping(manifest() | {"spec": spec})
        here: tuple[str, ...] = ()
    except InvalidMapping as error:
        here = error.errors
    there = refusals(spec)
    event("accepted" if not here else "refused")
    assert bool(here) == bool(there), (here, there)
    arn = spec.get("eventSourceArn", "")
    broken = {rule.message for rule in RULES if f"spec.{rule.path}: {rule.sentence.replace('{arn}', str(arn))}" in here}
    told = {said for said in there if said in {rule.message for rule in RULES}}
    if broken and told and not any(said.startswith("spec.eventSourceArn: ") for said in here):
        assert broken == told
