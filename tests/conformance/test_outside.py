"""Rows as a function and a queue see them: every row a mapping, all in one `headrace run`, on each emulator.

The source is the emulator's; queues are always ministack's.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headrace.stream.functions import Response
from tests.conformance.rows import RESHARDED, ROWS, proofs
from tests.conformance.table import Row, call_step, counts_of, discard_step
from tests.support import aws
from tests.support.aws import Queue, Stream, make_queue, make_stream
from tests.support.function import RecordedCall, RecordingFunction
from tests.support.headrace import mapping, on_failure, run, write
from tests.support.world import Seen

CASES = [
    (source, row)
    for source in ("ministack", "kinesis-local")
    for row in ROWS
    if source in proofs(row) and row.name not in RESHARDED
]
QUICK = {"initialSeconds": 0.02, "maximumSeconds": 0.1}


@dataclass
class Played:
    """What a row came to."""

    stream: Stream
    queue: Queue | None
    calls: list[tuple[Seen, str, str]] = field(default_factory=list)
    """Call, mark and request id."""
    discards: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def place(self, number: str) -> int:
        return self.stream.numbers.index(number) + 1

    def seen(self, call: RecordedCall) -> Seen:
        places = tuple(map(self.place, call.sequence_numbers))
        return Seen(len(self.calls), places, tuple(call.sequence_numbers), call.event)

    def answer(self, row: Row, call: RecordedCall) -> web.Response:
        seen = self.seen(call)
        answered = row.answer(seen)
        self.calls.append((seen, answered.mark, call.headers["Headrace-Request-Id"]))
        assert isinstance(answered.answer, Response), "faults of the network are not played from outside"
        return web.Response(status=answered.answer.status, headers=answered.answer.headers, body=answered.answer.body)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, ministack: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Played]:
    rows = [row for source, row in CASES if source == request.param]
    source = ministack if request.param == "ministack" else request.getfixturevalue("kinesis_local")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # aiohttp's, about the megabytes that a row writes at once
        return asyncio.run(play(source, ministack, tmp_path_factory.mktemp("conformance"), rows))


async def play(source: str, account: str, folder: Path, outside: list[Row]) -> dict[str, Played]:
    async with (
        aws.client("kinesis", source) as kinesis,
        aws.client("sqs", account) as sqs,
        serving() as function,
    ):
        prepared = await asyncio.gather(*(prepare(row, kinesis, sqs) for row in outside))
        rows = {f"/{index}": pair for index, pair in enumerate(zip(outside, prepared, strict=True))}

        def answer(call: RecordedCall) -> web.Response:
            row, one = rows[call.path]
            return one.answer(row, call)

        function.answer = answer
        documents = [document(row, one, f"{function.url}{n}", f"row-{n}") for n, (row, one) in enumerate(rows.values())]
        environment = {"AWS_ENDPOINT_URL_KINESIS": source, "AWS_ENDPOINT_URL": account}
        file = write(folder, *documents)
        async with run(file, account, "--exit-when-idle", 2, environment=environment) as running:
            assert await running.end(100) == 0
        summaries = {entry["mapping"]: entry for entry in running.logged("summary")}
        for index, one in enumerate(prepared):
            one.summary = summaries[f"shop/row-{index}"]
            one.discards = await one.queue.drain() if one.queue else []
    return {row.name: one for row, one in zip(outside, prepared, strict=True)}


@asynccontextmanager
async def serving() -> AsyncIterator[RecordingFunction]:
    function = RecordingFunction()
    runner = await function.start()
    try:
        yield function
    finally:
        await runner.cleanup()


async def prepare(row: Row, kinesis: Any, sqs: Any) -> Played:
    one = Played(await make_stream(kinesis), await make_queue(sqs) if row.destination else None)
    for put in row.puts:
        await one.stream.put(put.data, key=put.key)
    return one


def document(row: Row, one: Played, url: str, name: str) -> dict[str, Any]:
    """The row's mapping; its source's endpoint is that of the environment."""
    spec = {"retryBackoff": QUICK, **row.spec}
    if one.queue is not None:
        spec["destinationConfig"] = on_failure(one.queue.arn)
    made = mapping(one.stream.arn, url, name=name, **spec)
    made["spec"]["function"]["protocol"] = row.protocol
    return made


EVERY = pytest.mark.parametrize(
    ("played", "row"), CASES, ids=[f"{source}-{row.name}" for source, row in CASES], indirect=["played"], scope="module"
)


@EVERY
def test_the_function_sees_exactly_these_calls(row: Row, played: dict[str, Played]) -> None:
    calls = [call_step(seen.records, mark) for seen, mark, _ in played[row.name].calls]
    assert calls == [step for step in row.steps if step.startswith("[")]


@EVERY
def test_the_queue_holds_exactly_these_failure_records(row: Row, played: dict[str, Played]) -> None:
    one = played[row.name]
    found = [discard_step(document, one.place) for document in one.discards]
    assert sorted(found) == sorted(step for step in row.steps if step.startswith("→"))


@EVERY
def test_the_summary_counts_exactly_this(row: Row, played: dict[str, Played]) -> None:
    names = {"filtered_out": "filteredOut", "failed_invoke": "failedInvoke"}
    wanted = {names.get(name, name): count for name, count in counts_of(row).items()} | {"polled": len(row.puts)}
    summary = played[row.name].summary
    assert {name: summary[name] for name in wanted} == wanted


@EVERY
def test_identical_batches_share_a_request_id_and_different_ones_do_not(row: Row, played: dict[str, Played]) -> None:
    ids: dict[tuple[str, ...], set[str]] = {}
    for seen, _, request_id in played[row.name].calls:
        ids.setdefault(seen.numbers, set()).add(request_id)
    assert all(len(same) == 1 for same in ids.values())
    assert len({next(iter(same)) for same in ids.values()}) == len(ids)
