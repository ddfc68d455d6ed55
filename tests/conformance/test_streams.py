"""Scenarios of contract K.1 to K.4, K.7 and K.9 as a function and a queue see them: every row a mapping, all in one run.

Sequences are exact and complete. A row's number is the contract's; one with a letter is a further reading of the rules.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support import aws
from tests.support.aws import Queue, Stream, make_queue, make_stream
from tests.support.function import Answer, RecordedCall, RecordingFunction, fails_on, function_error, status, success
from tests.support.headrace import mapping, on_failure, run, write

RETRIES, AGE = "RetryAttemptsExhausted", "RecordAgeExceeded"
RBIF = {"functionResponseTypes": ["ReportBatchItemFailures"]}
BISECT = {"bisectBatchOnFunctionError": True}


@dataclass
class Row:
    """Given and then: `calls` in order, `discards` as (first, last, count, condition, function error)."""

    name: str
    spec: dict[str, Any]
    answer: Callable[[], Answer]
    calls: list[list[str]]
    discards: list[tuple[str, str, int, str, object]] = field(default_factory=list)
    data: tuple[str, ...] = ("1", "2", "3", "4", "5", "6")
    destination: bool = True
    protocol: str = "lambda"


def script(*answers: web.Response | None) -> Callable[[], Answer]:
    """One answer after the other, then success; None is success too."""

    def begin() -> Answer:
        left = iter(answers)
        return lambda call: next(left, None) or success(call)

    return begin


def always(answer: Answer) -> Callable[[], Answer]:
    return lambda: answer


def ok(body: str) -> web.Response:
    return web.Response(body=body.encode())


def reports(*failing: str) -> Callable[[], Answer]:
    """Names the records that hold one of these."""

    def answer(call: RecordedCall) -> web.Response:
        failed = [n for n, data in zip(call.sequence_numbers, call.data, strict=True) if data in failing]
        return web.json_response({"batchItemFailures": [{"itemIdentifier": number} for number in failed]})

    return always(answer)


def times(batch: list[str], count: int) -> list[list[str]]:
    return [batch] * count


ONE_TO_SIX = ["1", "2", "3", "4", "5", "6"]
RIE_ERROR = '{"errorMessage":"boom","errorType":"ValueError"}'


def failure_body(item: str) -> str:
    return '{"batchItemFailures":[' + item + "]}"


ROWS = [
    Row("1", {"batchSize": 3}, script(), [["1", "2", "3"], ["4", "5", "6"]]),
    Row("2", {"batchSize": 3, "maximumRetryAttempts": 2}, always(fails_on("2")),
        [*times(["1", "2", "3"], 3), ["4", "5", "6"]], [("1", "3", 3, RETRIES, "Unhandled")]),
    Row("3", {"batchSize": 1, "maximumRetryAttempts": 0}, always(fails_on("1")), [["1"], ["2"]],
        [("1", "1", 1, RETRIES, "Unhandled")], data=("1", "2")),
    Row("4", {"batchSize": 1, "maximumRetryAttempts": 1}, always(fails_on("1")), [["1"], ["1"], ["2"]],
        data=("1", "2"), destination=False),
    Row("5", {"batchSize": 1}, script(*[function_error() for _ in range(5)]), [*times(["1"], 6), ["2"]], data=("1", "2")),
    Row("6", {"maximumRetryAttempts": 1},
        script(status(429), status(429), status(429), function_error(), function_error()), times(["1"], 5),
        [("1", "1", 2, RETRIES, "Unhandled")], data=("1",)),
    Row("7", {"maximumRetryAttempts": 0}, script(status(503), status(503)), times(["1"], 3), data=("1",)),
    Row("8", {**BISECT}, script(status(503)), times(["1", "2", "3", "4"], 2), data=("1", "2", "3", "4")),
    Row("8a", {**BISECT}, script(status(429)), times(["1", "2"], 2), data=("1", "2")),
    Row("11", {"batchSize": 100}, script(), [["m" * 1_000_000] * 4, ["m" * 1_000_000] * 4, ["m" * 1_000_000] * 2],
        data=("m" * 1_000_000,) * 10),
    Row("13", {}, reports("2"), [["1", "2", "3"]], data=("1", "2", "3")),
    Row("413", {"maximumRetryAttempts": 1, **BISECT}, script(status(413), status(413)), times(["1", "2"], 2),
        [("1", "2", 2, RETRIES, "absent")], data=("1", "2")),
    Row("16", {"batchSize": 6, "maximumRetryAttempts": 2, **BISECT}, always(fails_on("1")),
        [ONE_TO_SIX, ["1", "2", "3"], *times(["1"], 3), ["2", "3"], ["4", "5", "6"]],
        [("1", "1", 3, RETRIES, "Unhandled")]),
    Row("17", {"batchSize": 6, "maximumRetryAttempts": 10, **BISECT}, always(fails_on("1")),
        [ONE_TO_SIX, ["1", "2", "3"], *times(["1"], 11), ["2", "3"], ["4", "5", "6"]],
        [("1", "1", 11, RETRIES, "Unhandled")]),
    Row("17a", {"maximumRetryAttempts": 0, **BISECT}, always(fails_on("3")),
        [["1", "2", "3", "4"], ["1", "2"], ["3", "4"], ["3"], ["4"]], [("3", "3", 1, RETRIES, "Unhandled")],
        data=("1", "2", "3", "4")),
    Row("17b", {"maximumRetryAttempts": 0, **BISECT}, always(fails_on("1", "5")),
        [["1", "2", "3", "4", "5"], ["1", "2"], ["1"], ["2"], ["3", "4", "5"], ["3"], ["4", "5"], ["4"], ["5"]],
        [("1", "1", 1, RETRIES, "Unhandled"), ("5", "5", 1, RETRIES, "Unhandled")], data=("1", "2", "3", "4", "5")),
    Row("24", {"batchSize": 3, "maximumRetryAttempts": 3, **RBIF}, reports("6"),
        [["1", "2", "3"], ["4", "5", "6"], *times(["6"], 4)], [("6", "6", 4, RETRIES, None)]),
    Row("25", {**RBIF, "maximumRetryAttempts": 0}, reports("2", "4"), [["1", "2", "3", "4", "5"], ["2", "3", "4", "5"]],
        [("2", "5", 1, RETRIES, None)], data=("1", "2", "3", "4", "5")),
    Row("25a", {**RBIF, **BISECT, "maximumRetryAttempts": 1}, reports("4"),
        [ONE_TO_SIX, ["4", "5", "6"], *times(["4"], 2), ["5", "6"]], [("4", "4", 2, RETRIES, None)]),
    *[Row(f"30 {body!r}", {**RBIF}, script(ok(body)), [["1", "2"]], data=("1", "2"))
      for body in ("", '""', "null", "{}", "[]", failure_body(""), '{"batchItemFailures":null}')],
    *[Row(f"31 {item}", {**RBIF, "maximumRetryAttempts": 2}, script(*[ok(failure_body(item)) for _ in range(3)]),
          times(["1", "2"], 3), [("1", "2", 3, RETRIES, None)], data=("1", "2"))
      for item in ('{"itemIdentifier":123}', '{"itemIdentifier":""}', '{"itemIdentifier":null}', '{"foo":123}',
                   '{"foo":null}', '{"itemIdentifier":"999"}')],
    Row("31 raise", {**RBIF, "maximumRetryAttempts": 2}, always(fails_on("1")), times(["1", "2"], 3),
        [("1", "2", 3, RETRIES, "Unhandled")], data=("1", "2")),
    Row("35", {**RBIF, "maximumRetryAttempts": 1},
        always(lambda _: web.json_response({"batchItemFailures": []}, headers={"X-Amz-Function-Error": "Handled"})),
        times(["1"], 2), [("1", "1", 2, RETRIES, "Handled")], data=("1",)),
    Row("99 error body", {"maximumRetryAttempts": 1}, script(ok(RIE_ERROR), ok(RIE_ERROR)), times(["1"], 2),
        [("1", "1", 2, RETRIES, "Unhandled")], data=("1",)),
    Row("99 timeout text", {"maximumRetryAttempts": 0}, script(ok("Task timed out after 3.00 seconds")), [["1"]],
        [("1", "1", 1, RETRIES, "Unhandled")], data=("1",)),
    Row("99 busy", {"maximumRetryAttempts": 0}, script(status(400)), times(["1"], 2), data=("1",)),
    Row("J.4 http 500", {"maximumRetryAttempts": 1}, script(status(500), status(400)), times(["1"], 2),
        [("1", "1", 2, RETRIES, "Unhandled")], data=("1",), protocol="http"),
    Row("J.4 http text", {"maximumRetryAttempts": 0}, script(ok("fine")), [["1"]], data=("1",), protocol="http"),
    Row("68", {"batchSize": 2, "filterCriteria": {"filters": [{"pattern": json.dumps({"data": {"t": ["y"]}})}]}},
        script(), [['{"t":"y","n":2}', '{"t":"y","n":4}']],
        data=('{"t":"n"}', '{"t":"y","n":2}', "text", '{"t":"y","n":4}', '{"t":"n"}')),
    Row("69", {"filterCriteria": {"filters": [{"pattern": json.dumps({"data": {"t": ["y"]}})}]}}, script(), [],
        data=('{"t":"n"}', "text")),
    Row("71", {"filterCriteria": {"filters": [{"pattern": json.dumps({"data": {"a": [1], "b": [1]}})},
                                              {"pattern": json.dumps({"data": {"c": [{"exists": True}]}})}]}},
        script(), [['{"a":1,"b":1}', '{"c":0}']], data=('{"a":1}', '{"a":1,"b":1}', '{"c":0}', '{"d":1}')),
]  # fmt: skip


@dataclass
class Played:
    """What a row came to."""

    stream: Stream
    calls: list[RecordedCall]
    discards: list[dict[str, Any]]


@pytest.fixture(scope="module")
def played(ministack: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # aiohttp's, about the megabytes that a row writes at once
        return asyncio.run(play(ministack, tmp_path_factory.mktemp("conformance")))


async def play(url: str, folder: Path) -> dict[str, Played]:
    function = RecordingFunction()
    runner = await function.start()
    answers = {f"/{index}": row.answer() for index, row in enumerate(ROWS)}
    function.answer = lambda call: answers[call.path](call)
    streams: dict[str, Stream] = {}
    queues: dict[str, Queue] = {}
    documents = []
    async with aws.client("kinesis", url) as kinesis, aws.client("sqs", url) as sqs:
        for index, row in enumerate(ROWS):
            streams[row.name] = await make_stream(kinesis)
            await streams[row.name].put(*row.data)
            spec = dict(row.spec)
            if row.destination:
                queues[row.name] = await make_queue(sqs)
                spec["destinationConfig"] = on_failure(queues[row.name].arn)
            document = mapping(streams[row.name].arn, f"{function.url}{index}", name=f"row-{index}", **spec)
            document["spec"]["function"]["protocol"] = row.protocol
            documents.append(document)
        async with run(write(folder, *documents), url, "--exit-when-idle", 2) as running:
            assert await running.end(100) == 0
        await runner.cleanup()
        return {
            row.name: Played(
                streams[row.name],
                [call for call in function.calls if call.path == f"/{index}"],
                await queues[row.name].drain() if row.destination else [],
            )
            for index, row in enumerate(ROWS)
        }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_function_sees_exactly_these_calls(row: Row, played: dict[str, Played]) -> None:
    assert [call.data for call in played[row.name].calls] == row.calls


@pytest.mark.parametrize("row", [row for row in ROWS if row.destination], ids=lambda row: row.name)
def test_the_queue_holds_exactly_these_failure_records(row: Row, played: dict[str, Played]) -> None:
    stream, found = played[row.name].stream, []
    for document in played[row.name].discards:
        info, context = document["KinesisBatchInfo"], document["requestContext"]
        first, last = (stream.numbers.index(info[f"{which}SequenceNumber"]) for which in ("start", "end"))
        assert info["batchSize"] == last - first + 1
        error = document["responseContext"]["functionError"] if "responseContext" in document else "absent"
        found.append((str(first + 1), str(last + 1), context["approximateInvokeCount"], context["condition"], error))
    assert sorted(found) == sorted(row.discards)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_identical_batches_share_a_request_id_and_different_ones_do_not(row: Row, played: dict[str, Played]) -> None:
    ids: dict[tuple[str, ...], set[str]] = {}
    for call in played[row.name].calls:
        ids.setdefault(tuple(call.sequence_numbers), set()).add(call.headers["Headrace-Request-Id"])
    assert all(len(same) == 1 for same in ids.values())
    assert len({next(iter(same)) for same in ids.values()}) == len(ids)
