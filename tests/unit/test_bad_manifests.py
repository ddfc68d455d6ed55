"""Bad manifests of streams: each row of contract A.3 and each bound of A.1, as it is told.

A row goes through the models, through `headrace validate` and through the CRD as an API server with CEL applies it.
What cannot be told by an API server is in `BEYOND_CEL`, with the reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner, Result

from headrace.cli import cli
from headrace.errors import InvalidMapping
from headrace.spec import parse_mapping
from headrace.spec_rules import RULES
from tests.support.api_server import RESERVED, SPEC, refusals
from tests.support.mappings import DEAD_LETTERS, DYNAMODB, KINESIS, SOURCES, filters, manifest, on_failure
from tests.unit import test_spec_bounds, test_spec_rules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Row = tuple[str, dict[str, Any], str]
STREAMS = ("kinesis", "consumer", "dynamodb")
NULL_POSITION = (
    "spec.startingPosition: 1 validation error detected: Value null at 'startingPosition' failed to satisfy"
    " constraint: Member must not be null."
)
POSITIONS = "spec.startingPosition: must be TRIM_HORIZON, LATEST or AT_TIMESTAMP, got "
NOT_SUPPORTED = "Unsupported DestinationConfig parameter for given event source mapping type."
NO_SOURCE = "spec.eventSourceArn: Unrecognized event source."
TO = "spec.destinationConfig.onFailure.destination: "
FIFO_TOPIC = "arn:aws:sns:eu-west-1:123456789012:failed.fifo"
PATTERN = "spec.filterCriteria.filters[0].pattern: Invalid filter pattern definition."
AGE = "must be -1 (no limit) or a whole number from 60 to 604800"
WINDOW = "spec.tumblingWindowInSeconds: cannot be combined with "
AT = {"startingPosition": "AT_TIMESTAMP"}


def bounds(path: str, words: str, *outside: int, **more: Any) -> list[Row]:
    return [
        (f"{path} {n}", manifest("kinesis", **({path: n} | more)), f"spec.{path}: must be {words}, got {n}")
        for n in outside
    ]


REFUSED: list[Row] = [
    *((f"V5 {source}", manifest(source, "startingPosition"), NULL_POSITION) for source in STREAMS),
    ("V5 null", manifest(startingPosition=None), NULL_POSITION),
    ("V6", manifest(startingPosition="NEWEST"), f"{POSITIONS}NEWEST"),
    ("V6 case", manifest(startingPosition="latest"), f"{POSITIONS}latest"),
    (
        "V7",
        manifest("dynamodb", **AT, startingPositionTimestamp=1),
        f"spec.startingPosition: Unsupported starting position for arn type: {DYNAMODB}",
    ),
    (
        "V8 no timestamp",
        manifest(**AT),
        "spec.startingPositionTimestamp: is required with startingPosition AT_TIMESTAMP",
    ),
    *(
        (
            f"V8 {position}",
            manifest(startingPosition=position, startingPositionTimestamp="2026-01-31T12:00:00Z"),
            "spec.startingPositionTimestamp: applies to startingPosition AT_TIMESTAMP only",
        )
        for position in ("LATEST", "TRIM_HORIZON")
    ),
    *(
        (
            f"V8 {name}",
            manifest(**AT, startingPositionTimestamp=value),
            "spec.startingPositionTimestamp: must be a time: unix seconds, or RFC 3339 such as 2026-01-31T12:00:00Z",
        )
        for name, value in (
            ("negative", -1),
            ("beyond the year 9999", 253_402_300_800),
            ("text", "yesterday"),
            ("date", "2026-01-31"),
            ("list", []),
        )
    ),
    *(
        (
            f"V9 {source}",
            manifest(source, destinationConfig={"onSuccess": {"destination": DEAD_LETTERS}}),
            f"spec.destinationConfig.onSuccess: {NOT_SUPPORTED}",
        )
        for source in STREAMS
    ),
    ("V11 queue", manifest(destinationConfig=on_failure(f"{DEAD_LETTERS}.fifo")), f"{TO}must not be a FIFO queue or"),
    ("V11 topic", manifest(destinationConfig=on_failure(FIFO_TOPIC)), f"{TO}must not be a FIFO queue or topic"),
    *(
        (f"V12 {age}", manifest(source, maximumRecordAgeInSeconds=age), f"spec.maximumRecordAgeInSeconds: {AGE}")
        for source in STREAMS
        for age in (0, 1, 59)
    ),
    *(
        (
            f"V13 lanes {source}",
            manifest(source, tumblingWindowInSeconds=1, parallelizationFactor=2),
            f"{WINDOW}parallelizationFactor above 1",
        )
        for source in STREAMS
    ),
    (
        "V13 filters",
        manifest(tumblingWindowInSeconds=900, filterCriteria=filters("{}")),
        f"{WINDOW}filterCriteria",
    ),
    *bounds("batchSize", "a whole number from 1 to 10000", 0, -1, 10_001),
    *bounds("maximumBatchingWindowInSeconds", "a whole number from 0 to 300", -1, 301),
    *bounds("parallelizationFactor", "a whole number from 1 to 10", 0, 11),
    *bounds("tumblingWindowInSeconds", "a whole number from 0 to 900", -1, 901),
    *bounds("maximumRecordAgeInSeconds", AGE.removeprefix("must be "), -2, 604_801),
    *bounds("maximumRetryAttempts", "-1 (no limit) or a whole number from 0 to 10000", -2, 10_001),
    (
        "functionResponseTypes unknown",
        manifest(functionResponseTypes=["ReportAll"]),
        "spec.functionResponseTypes[0]: must be ReportBatchItemFailures, got ReportAll",
    ),
    (
        "functionResponseTypes twice",
        manifest(functionResponseTypes=["ReportBatchItemFailures"] * 2),
        "spec.functionResponseTypes: must be a list of at most 1 entries",
    ),
    (
        "six filters",
        manifest(filterCriteria=filters(*["{}"] * 6)),
        "spec.filterCriteria.filters: must be a list of at most 5 entries",
    ),
    (
        "long pattern",
        manifest(filterCriteria=filters("x" * 4097)),
        "spec.filterCriteria.filters[0].pattern: must be a text of at most 4096 characters",
    ),
    ("pattern missing", manifest(filterCriteria={"filters": [{}]}), "spec.filterCriteria.filters[0].pattern: is requi"),
    (
        "long destination",
        manifest(destinationConfig=on_failure(DEAD_LETTERS + "x" * 351)),
        f"{TO}must be the ARN of an SQS queue, an SNS topic or an S3 bucket, or kafka://TOPIC, of at most 350 charact",
    ),
    (
        "lambda as destination",
        manifest(destinationConfig=on_failure("arn:aws:lambda:eu-west-1:123456789012:function:f")),
        f"{TO}must be the ARN of an SQS queue, an SNS topic or an S3 bucket, or kafka://TOPIC",
    ),
    ("no function", manifest(function={}), "spec.function: needs exactly one of url and service"),
    ("no function at all", manifest("kinesis", "function"), "spec.function: is required"),
    ("not an ARN", manifest(eventSourceArn="orders"), "spec.eventSourceArn: must be an ARN such as arn:aws:kinesis:"),
    (
        "line break behind the ARN",
        manifest(eventSourceArn=f"{KINESIS}\n"),
        "spec.eventSourceArn: must be an ARN such as arn:aws:kinesis:",
    ),
    ("V28 shape before rules", manifest(destinationConfig={"onSuccess": {}}, batchSize=0), "spec.batchSize: must be"),
]

ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    *((f"V2 {size} {source}", manifest(source, batchSize=size, maximumBatchingWindowInSeconds=0))
      for size in (100, 101, 10_000) for source in STREAMS),
    ("V8 kept", manifest(**AT, startingPositionTimestamp=1)),
    ("V8 epoch 0", manifest(**AT, startingPositionTimestamp=0)),
    ("V8 RFC 3339", manifest(**AT, startingPositionTimestamp="2026-01-31T12:00:00+01:00")),
    ("V9 empty", manifest(destinationConfig={})),
    ("V9 null", manifest(destinationConfig={"onSuccess": None})),
    ("V12 60", manifest(maximumRecordAgeInSeconds=60)),
    ("V12 -1", manifest(maximumRecordAgeInSeconds=-1)),
    ("V13 empty criteria", manifest(tumblingWindowInSeconds=1, filterCriteria={})),
    ("V13 empty list", manifest(tumblingWindowInSeconds=1, filterCriteria={"filters": []})),
    ("V13 one lane", manifest(tumblingWindowInSeconds=900, parallelizationFactor=1)),
    ("V13 no window", manifest(tumblingWindowInSeconds=0, parallelizationFactor=10, filterCriteria=filters("{}"))),
    ("kmsKeyArn empty", manifest("documentdb", kmsKeyArn="")),
    ("null is absent", manifest(batchSize=None, filterCriteria=None, poller=None, destinationConfig=None)),
]  # fmt: skip

BEYOND_CEL: list[Row] = [
    # The grammar of a pattern: CEL has no JSON.
    *((f"V16 {pattern[:12]}", manifest(filterCriteria=filters(pattern)), PATTERN)
      for pattern in ("null", '"x"', "[1]", '{"a":"b"}', '{"a":[]}', '{"a":', "", '{"a":{"b":1}}', "7", "nonsense")),
    # A host that cannot be one, a header that cannot be sent: no CEL rule reads URLs and headers (their cost grows
    # with the number of headers and the length of their values).
    ("host", manifest(function={"url": "http://a..b/"}), "spec.function.url: must be an http:// or https:// URL with"),
    (
        "header",
        manifest(function={"url": "http://f", "headers": {"Content-Length": "1"}}),
        "spec.function.headers: must not set Content-Length, which Headrace sets itself",
    ),
    # A day that is none: the schema knows the form of a time only.
    (
        "February 30",
        manifest(startingPosition="AT_TIMESTAMP", startingPositionTimestamp="2026-02-30T12:00:00Z"),
        "spec.startingPositionTimestamp: must be a time: unix seconds, or RFC 3339",
    ),
    # A property that is none: the API server drops it, and kubectl refuses it before.
    ("unknown", manifest(batchsize=1), "spec.batchsize: is not a property of EventSourceMapping; did you mean batchSize?"),
]  # fmt: skip


def rows(table: Sequence[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=[row[0] for row in table])


def told(document: dict[str, Any]) -> tuple[str, ...]:
    try:
        parse_mapping(document)
    except InvalidMapping as error:
        return error.errors
    return ()


def validated(tmp_path: Path, *documents: dict[str, Any]) -> Result:
    file = tmp_path / "m.yaml"
    file.write_text(yaml.safe_dump_all(documents, allow_unicode=True))
    return CliRunner().invoke(cli, ["validate", "-f", str(file)])


@rows(REFUSED + BEYOND_CEL)
def test_a_fault_is_told_in_one_sentence(row: Row) -> None:
    (sentence,) = told(row[1])
    assert sentence.startswith(row[2])


@rows(REFUSED + BEYOND_CEL)
def test_validate_writes_a_line_per_fault_and_exits_with_2(row: Row, tmp_path: Path) -> None:
    result = validated(tmp_path, row[1])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{tmp_path}/m.yaml: {row[2]}")


@rows(REFUSED)
def test_the_api_server_refuses_the_same_for_the_same_reason(row: Row) -> None:
    agree(row[1])
    assert refusals(row[1]["spec"])


@rows(BEYOND_CEL)
def test_what_an_api_server_cannot_tell_is_stored_and_told_by_the_operator(row: Row) -> None:
    """If one of these is refused now, it belongs in REFUSED."""
    assert refusals(row[1]["spec"]) == []


@rows(ACCEPTED)
def test_what_is_allowed_is_accepted_by_both(row: tuple[str, dict[str, Any]]) -> None:
    assert told(row[1]) == ()
    assert refusals(row[1]["spec"]) == []


def agree(document: dict[str, Any]) -> None:
    """The models and the CRD say the same of a spec: both accept, or both refuse and tell the same rules."""
    here, there = told(document), refusals(document["spec"])
    assert bool(here) == bool(there), (here, there)
    arn = document["spec"].get("eventSourceArn", "")
    broken = {rule.message for rule in RULES if f"spec.{rule.path}: {rule.sentence.replace('{arn}', arn)}" in here}
    if any(said.startswith(NO_SOURCE) for said in here):
        # Which properties apply is not asked of a source that is none; CEL asks for the few kinds that have them.
        assert {said for said in there if "applies to" not in said} == broken
    elif broken:
        assert broken == set(there), (here, there)


@rows([*test_spec_rules.BROKEN, *test_spec_rules.KEPT, *test_spec_bounds.ACCEPTED, *test_spec_bounds.REFUSED])
def test_every_row_about_other_sources_is_judged_alike_too(row: Any) -> None:
    agree(row[1])


@pytest.mark.parametrize("row", test_spec_bounds.NUMBERS, ids=[f"{r[0]} {r[1]}" for r in test_spec_bounds.NUMBERS])
def test_every_bound_is_the_same_in_the_models_and_in_the_schema(row: Any) -> None:
    source, path, lowest, highest, more = row
    for value in (lowest - 1, lowest, highest, highest + 1):
        agree(test_spec_bounds.numbered(source, path, value, more))


def test_all_faults_come_at_once_a_line_each_in_the_order_of_awss_checks(tmp_path: Path) -> None:  # V28
    document = manifest(
        "dynamodb",
        **AT,
        destinationConfig={"onSuccess": {}, **on_failure(FIFO_TOPIC)},
        maximumRecordAgeInSeconds=1,
        filterCriteria=filters("null"),
    )
    result = validated(tmp_path, document)
    assert result.exit_code == 2
    assert [
        line.removeprefix(f"{tmp_path}/m.yaml: spec.").partition(":")[0] for line in result.stderr.splitlines()
    ] == [
        "destinationConfig.onSuccess",
        "startingPosition",
        "startingPositionTimestamp",
        "destinationConfig.onFailure.destination",
        "maximumRecordAgeInSeconds",
        "filterCriteria.filters[0].pattern",
    ]
    assert len(refusals(document["spec"])) == 5


def test_a_source_and_function_that_are_mapped_already_are_a_conflict(tmp_path: Path) -> None:  # V17
    other = manifest() | {"metadata": {"name": "again", "namespace": "shop"}}
    result = validated(tmp_path, manifest(), other)
    assert result.exit_code == 2
    uid = parse_mapping(manifest()).resolved_uid
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{tmp_path}/m.yaml: document 2: spec.eventSourceArn: ")
    assert f'The event source arn (" {KINESIS} ") and function (" ' in line
    assert f"provided mapping already exists. Please update or delete the existing mapping with UUID {uid}" in line


def test_the_same_function_under_an_alias_is_another_target(tmp_path: Path) -> None:  # V17, K.9 93
    spec = {"url": "http://f"}
    documents = [manifest(function=spec | {"name": name}) for name in ("orders", "orders:live", "orders:3")]
    for number, document in enumerate(documents):
        document["metadata"]["name"] = f"m{number}"
    assert validated(tmp_path, *documents).exit_code == 0


def test_a_start_in_the_future_is_refused(tmp_path: Path) -> None:  # V8; CEL has no clock
    document = manifest(**AT, startingPositionTimestamp="2999-01-01T00:00:00Z")
    result = validated(tmp_path, document)
    assert (result.exit_code, refusals(document["spec"])) == (2, [])
    assert result.stderr.strip().endswith("spec.startingPositionTimestamp: must not be in the future")


def test_rules_use_only_what_every_api_server_with_cel_has() -> None:
    """Macros and functions of CEL's standard library, no extension library; reserved names are escaped."""
    for one in SPEC["x-kubernetes-validations"]:
        code = re.sub(r"'[^']*'", "''", one["rule"])
        assert set(re.findall(r"(\w+)\(", code)) <= {"has", "matches", "exists", "size", "startsWith", "endsWith"}, code
        assert not {name for name in re.findall(r"\.(\w+)", code) if name in RESERVED}, code
        assert re.fullmatch(r"[^\n]+", one["rule"])
        assert re.fullmatch(r"[^\n]{1,2048}", one["message"])


def test_the_least_manifest_of_every_source_is_accepted_by_both() -> None:
    for source in SOURCES:
        agree(manifest(source))
        assert refusals(manifest(source)["spec"]) == []
