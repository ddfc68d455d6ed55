"""What an API server with CEL does with a change, and that it takes the rules at all: their cost as it estimates it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from headrace.crd import crds
from headrace.spec_fixed import FIXED, FIXED_SENTENCE, LEASE_FIXED, VIRTUAL_HOST_MESSAGE
from tests.support.api_server import SPEC, lease_refusals, refusals, unescaped
from tests.support.mappings import (
    BASIC_AUTH,
    CONSUMER,
    DYNAMODB,
    FIFO,
    KINESIS,
    MSK,
    SOURCES,
    SQS,
    manifest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Body = dict[str, Any]

UPDATABLE = frozenset(
    {
        "function", "enabled", "batchSize", "maximumBatchingWindowInSeconds", "filterCriteria", "kmsKeyArn",
        "metricsConfig", "loggingConfig", "scalingConfig", "provisionedPollerConfig", "parallelizationFactor",
        "destinationConfig", "maximumRecordAgeInSeconds", "maximumRetryAttempts", "bisectBatchOnFunctionError",
        "tumblingWindowInSeconds", "functionResponseTypes", "sourceAccessConfigurations", "tags", "retryBackoff",
        "aws",
        "amazonManagedKafkaEventSourceConfig.schemaRegistryConfig",
        "selfManagedKafkaEventSourceConfig.schemaRegistryConfig",
        "documentDBEventSourceConfig.fullDocument",
        *(
            f"poller.{name}"
            for name in (
                "serviceAccountName", "serviceAccountAnnotations", "minReplicas", "maxReplicas", "shardsPerReplica",
                "image", "imagePullSecrets", "resources", "nodeSelector", "tolerations", "affinity",
                "topologySpreadConstraints", "env", "volumes", "volumeMounts", "labels", "annotations",
                "priorityClassName",
            )
        ),
    }
)  # fmt: skip
"""Contract A.1, U; and the groups of our own."""

KAFKA = {"selfManagedEventSource": {"endpoints": {"kafkaBootstrapServers": ["b.example:9092"]}}}
AT = {"startingPosition": "AT_TIMESTAMP", "startingPositionTimestamp": 1}
STREAM, QUEUE = ({"selfManagedKafkaEventSourceConfig": {"consumptionMode": mode}} for mode in ("Stream", "Queue"))
TABLE = {"poller": {"checkpointTable": "headrace"}}
GROUP = {"amazonManagedKafkaEventSourceConfig": {"consumerGroupId": "readers"}}
OWN_GROUP = {"selfManagedKafkaEventSourceConfig": {"consumerGroupId": "readers"}}


def database(name: str = "shop", **more: str) -> Body:
    return {"documentDBEventSourceConfig": {"databaseName": name, **more}}


def hosts(*names: str) -> Body:
    return {"sourceAccessConfigurations": [BASIC_AUTH, *({"type": "VIRTUAL_HOST", "uri": name} for name in names)]}


def said(source: str, *without: str, **properties: Any) -> Body:
    spec: Body = manifest(source, *without, **properties)["spec"]
    return spec


CHANGES: list[tuple[str, Body, Body, tuple[str, ...]]] = [
    ("stream", said("kinesis"), said("kinesis", eventSourceArn=f"{KINESIS}-2"), ("eventSourceArn",)),
    ("consumer", said("kinesis"), said("kinesis", eventSourceArn=CONSUMER), ("eventSourceArn",)),
    ("kind", said("kinesis"), said("kinesis", eventSourceArn=DYNAMODB), ("eventSourceArn",)),
    ("queue", said("sqs"), said("sqs", eventSourceArn=f"{SQS}-2"), ("eventSourceArn",)),
    ("fifo", said("sqs"), said("sqs", eventSourceArn=FIFO), ("eventSourceArn",)),
    ("brokers", said("kafka"), said("kafka", **KAFKA), ("selfManagedEventSource",)),
    (
        "into MSK",
        said("kafka"),
        said("kafka", "selfManagedEventSource", eventSourceArn=MSK),
        ("eventSourceArn", "selfManagedEventSource"),
    ),
    ("position", said("kinesis"), said("kinesis", startingPosition="LATEST"), ("startingPosition",)),
    ("position set", said("msk"), said("msk", startingPosition="LATEST"), ("startingPosition",)),
    ("position unset", said("msk", startingPosition="LATEST"), said("msk"), ("startingPosition",)),
    ("time set", said("kinesis"), said("kinesis", **AT), ("startingPosition", "startingPositionTimestamp")),
    ("time unset", said("kinesis", **AT), said("kinesis"), ("startingPosition", "startingPositionTimestamp")),
    (
        "time",
        said("kinesis", **AT),
        said("kinesis", **AT | {"startingPositionTimestamp": 2}),
        ("startingPositionTimestamp",),
    ),
    (
        "time as text",
        said("kinesis", **AT | {"startingPositionTimestamp": "2026-01-31T12:00:00Z"}),
        said("kinesis", **AT | {"startingPositionTimestamp": "2026-01-31T12:00:01Z"}),
        ("startingPositionTimestamp",),
    ),
    ("topic", said("msk"), said("msk", topics=["other"]), ("topics",)),
    ("queue's name", said("mq"), said("mq", queues=["other"]), ("queues",)),
    ("group set", said("msk"), said("msk", **GROUP), ("amazonManagedKafkaEventSourceConfig.consumerGroupId",)),
    ("group unset", said("msk", **GROUP), said("msk"), ("amazonManagedKafkaEventSourceConfig.consumerGroupId",)),
    (
        "own group",
        said("kafka", **OWN_GROUP),
        said("kafka", selfManagedKafkaEventSourceConfig={"consumerGroupId": "others"}),
        ("selfManagedKafkaEventSourceConfig.consumerGroupId",),
    ),
    (
        "mode set",
        said("kafka", maximumRetryAttempts=0, provisionedPollerConfig={"minimumPollers": 1}),
        said("kafka", maximumRetryAttempts=0, **QUEUE),
        ("selfManagedKafkaEventSourceConfig.consumptionMode",),
    ),
    (
        "mode unset",
        said("kafka", maximumRetryAttempts=0, **QUEUE),
        said("kafka", maximumRetryAttempts=0, provisionedPollerConfig={"minimumPollers": 1}),
        ("selfManagedKafkaEventSourceConfig.consumptionMode",),
    ),
    ("database", said("documentdb"), said("documentdb", **database("b")), ("documentDBEventSourceConfig.databaseName",)),
    (
        "collection set",
        said("documentdb"),
        said("documentdb", **database(collectionName="c")),
        ("documentDBEventSourceConfig.collectionName",),
    ),
    (
        "collection unset",
        said("documentdb", **database(collectionName="c")),
        said("documentdb"),
        ("documentDBEventSourceConfig.collectionName",),
    ),
    ("table set", said("kinesis"), said("kinesis", **TABLE), ("poller.checkpointTable",)),
    ("table unset", said("kinesis", **TABLE), said("kinesis"), ("poller.checkpointTable",)),
]  # fmt: skip
"""What is changed, before, after, and the properties that are told of."""

SAME: list[tuple[str, Body, Body]] = [
    *((f"nothing, {source}", said(source), said(source)) for source in SOURCES),
    *((f"batch size, {source}", said(source), said(source, batchSize=7)) for source in SOURCES),
    ("Kafka's position spelled out", said("msk"), said("msk", startingPosition="TRIM_HORIZON")),
    ("Kafka's position left out", said("kafka", startingPosition="TRIM_HORIZON"), said("kafka")),
    ("consumption mode spelled out", said("kafka"), said("kafka", **STREAM)),
    ("consumption mode left out", said("kafka", **STREAM), said("kafka")),
    ("an empty group of settings", said("msk"), said("msk", amazonManagedKafkaEventSourceConfig={})),
    ("no documents", said("documentdb"), said("documentdb", **database(fullDocument="Default"))),
    ("whole documents", said("documentdb"), said("documentdb", **database(fullDocument="UpdateLookup"))),
    ("other credentials", said("mq"), said("mq", sourceAccessConfigurations=[BASIC_AUTH | {"uri": "other"}])),
    ("a virtual host kept", said("mq", **hosts("a")), said("mq", batchSize=7, **hosts("a"))),
    ("the first virtual host spelled out", said("mq"), said("mq", **hosts("/"))),
    ("the first virtual host left out", said("mq", **hosts("/")), said("mq")),
    ("disabled", said("kinesis"), said("kinesis", enabled=False)),
    ("another function", said("kinesis"), said("kinesis", function={"url": "http://other"})),
]


@pytest.mark.parametrize(("before", "after", "paths"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_the_checkpoints_were_written_for_cannot_be_changed(before: Body, after: Body, paths: list[str]) -> None:
    assert (refusals(before), refusals(after)) == ([], []), "each is good by itself"
    assert sorted(refusals(after, before)) == sorted(f"spec.{path}: {FIXED_SENTENCE}" for path in paths)


@pytest.mark.parametrize(("before", "after"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_a_change_that_leaves_it_what_it_was_is_accepted(before: Body, after: Body) -> None:
    assert refusals(after, before) == []


@pytest.mark.parametrize(("before", "after"), [((), ("a",)), (("a",), ()), (("a",), ("b",)), (("a",), ("/",))])
def test_a_virtual_host_is_for_good(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    old, new = said("mq", **hosts(*before)), said("mq", **hosts(*after))
    assert refusals(new, old) == [VIRTUAL_HOST_MESSAGE]


def test_every_create_only_property_has_a_row_that_changes_it() -> None:
    assert {path for _, _, _, paths in CHANGES for path in paths} == {one.path for one in FIXED}


def test_of_every_property_it_is_said_whether_it_may_change() -> None:
    """A new property belongs into FIXED or into the list above."""
    split = {path.partition(".")[0] for path in (*UPDATABLE, *(one.path for one in FIXED)) if "." in path}
    there = {
        path
        for name, node in SPEC["properties"].items()
        for path in ([f"{name}.{inner}" for inner in node["properties"]] if name in split else [name])
    }
    assert there == UPDATABLE | {one.path for one in FIXED}
    assert not UPDATABLE & {one.path for one in FIXED}


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_an_update_may_spell_out_every_default_and_leave_it_out_again(source: str) -> None:
    for path, value in defaults(SPEC):
        spelled = with_default(said(source), path, value)
        assert refusals(spelled, said(source)) == [], path
        assert refusals(said(source), spelled) == [], path


def defaults(node: Body, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in node.get("properties", {}).items():
        if "default" in child:
            yield (*path, name), child["default"]
        if "properties" in child:
            yield from defaults(child, (*path, name))


def with_default(spec: Body, path: tuple[str, ...], value: Any) -> Body:
    """The spec with a default written where its parent is; elsewhere there is nothing to spell out."""
    name, *rest = path
    if not rest:
        return {name: value} | spec
    return spec | {name: with_default(spec[name], tuple(rest), value)} if name in spec else spec


# ShardLeases

LEASE: Body = {
    "mappingName": "orders", "mappingUid": "u", "eventSourceArn": KINESIS, "shardId": "s", "parents": ["p"],
    "streamCreatedAt": "2026-01-01T00:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize("name", LEASE_FIXED)
def test_a_lease_stays_that_of_its_shard(name: str) -> None:
    assert lease_refusals(LEASE | {name: "other"}) == []
    (sentence,) = lease_refusals(LEASE | {name: "other"}, LEASE)
    assert sentence.startswith(f"spec.{name}: cannot be changed")


@pytest.mark.parametrize("new", [{}, {"parents": []}, {"streamCreatedAt": "2026-02-01T00:00:00Z"}])
def test_a_poller_may_write_what_another_stream_of_the_name_changes(new: Body) -> None:
    assert lease_refusals(LEASE | new, LEASE) == []


def test_of_everything_that_a_lease_says_of_its_shard_it_is_said_whether_it_may_change() -> None:
    assert set(schema("shardleases.yaml")["properties"]["spec"]["properties"]) == {
        *LEASE_FIXED, "parents", "streamCreatedAt",
    }  # fmt: skip


# What an API server estimates

LARGEST = 3 * 1024 * 1024
"""Bytes of a request: how long a text without a bound is taken to be."""
OPERAND = r"(?:\b(?:self|oldSelf|c|d|t)(?:\.\w+)*|'[^']*'|-?[0-9.]+|true|false)"


def schema(name: str) -> Body:
    (version,) = crds()[name]["spec"]["versions"]
    found: Body = version["schema"]["openAPIV3Schema"]
    return found


def rules(node: Body) -> Iterator[tuple[str, Body]]:
    """Each rule, with the schema that `self` has in it."""
    for one in node.get("x-kubernetes-validations", ()):
        yield one["rule"], node
    for child in node.get("properties", {}).values():
        yield from rules(child)
    for key in ("items", "additionalProperties"):
        # rules below lists and maps are evaluated once an entry: none so far, and the bound would have to say so
        assert key not in node or not list(rules(node[key]))


def at(path: str, root: Body, loops: dict[str, Body]) -> Body:
    first, *steps = path.split(".")
    node = loops.get(first, root)
    for step in steps:
        node = node["properties"][unescaped(step)]
    return node


def size(operand: str, root: Body, loops: dict[str, Body]) -> float:
    """Bytes of a text, entries of a list; at the most. Objects have no size of their own, but that is told too."""
    if not operand[0].isalpha() or operand in {"true", "false"}:
        return len(operand)
    return bytes_of(at(operand, root, loops))


def bytes_of(node: Body) -> float:
    if "properties" in node:
        return sum(bytes_of(child) for child in node["properties"].values())
    if "items" in node:
        return bytes_of(node["items"]) * int(node["maxItems"])
    if node.get("x-kubernetes-int-or-string"):
        return LARGEST  # servers before 1.30 look at no bound here
    if node.get("type") in {"integer", "number", "boolean"}:
        return 1
    return 4.0 * int(node["maxLength"]) if "maxLength" in node else LARGEST


def cost(rule: str, root: Body, loops: dict[str, Body] | None = None) -> float:
    """More than the API server's estimate: one a word or sign, a match a fortieth of text times pattern, a comparison
    a tenth of the smaller side, a loop its body as often as its list may have entries.
    """
    loops, total = loops or {}, 0.0
    while loop := re.search(r"([\w.]+)\.exists\((\w+), ", rule):
        end = closing(rule, loop.end())
        items = at(loop[1], root, loops)
        total += items["maxItems"] * (3 + cost(rule[loop.end() : end], root, loops | {loop[2]: items["items"]}))
        rule = f"{rule[: loop.start()]}true{rule[end + 1 :]}"
    for text, pattern in re.findall(rf"({OPERAND})\.matches\('([^']*)'\)", rule):
        total += (size(text, root, loops) + 1) * 0.1 * (len(pattern) * 0.25 + 1)
    for left, right in re.findall(rf"({OPERAND}) [=!]= (?='kafka://' \+ )?({OPERAND})", rule):
        total += min(size(left, root, loops), size(right, root, loops)) * 0.1 + 1
    return total + len(re.findall(r"\w+|[&|=!<>+?]+", re.sub(r"'[^']*'", "''", rule)))


def closing(text: str, start: int) -> int:
    """Where the bracket that is open at `start` closes."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise AssertionError(text)


@pytest.mark.parametrize("name", sorted(crds()))
def test_the_cost_of_every_rule_is_far_below_what_an_api_server_grants(name: str) -> None:
    """10,000,000 a rule and 100,000,000 a definition; what is over is refused with the whole definition."""
    costs = {rule: cost(rule, root) for rule, root in rules(schema(name))}
    assert max(costs.values(), default=0) < 10_000_000 / 10, max(costs, key=lambda rule: costs[rule])
    assert sum(costs.values()) < 100_000_000 / 20


def test_the_estimate_is_one() -> None:
    assert cost("self.kmsKeyArn.matches('^arn')", SPEC) > 4096 * 0.1
    one = {"properties": {"a": {"type": "string"}}}
    assert cost("self.a == oldSelf.a", one) > LARGEST / 10
    assert cost("self.sourceAccessConfigurations.exists(c, c.uri == 'x')", SPEC) > 23 * 3
