"""Rows as a function and a queue see them: every row a mapping, all in one `headrace run`, on each emulator.

The source is the emulator's, `dynamodb` a table's stream on ministack; queues, topics and buckets are always ministack's. Tumbling windows are two seconds wide
instead of the row's minute, and records are put just behind the start of theirs.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headrace.stream.functions import Response
from tests.conformance.rows import ALL, RESHARDED, proofs
from tests.conformance.table import (
    INFOS,
    VIRTUAL,
    Row,
    Scale,
    call_key,
    call_step,
    counts_of,
    discard_step,
    info_faults,
    object_faults,
    same_order,
    window_of,
)
from tests.support import aws
from tests.support.aws import Stream, make_stream
from tests.support.function import RecordedCall, RecordingFunction
from tests.support.headrace import mapping, on_failure, run, write
from tests.support.places import Place, StoredObject, place_with
from tests.support.tables_with_streams import Table, make_table
from tests.support.world import Seen

pytestmark = pytest.mark.timeout(600)  # one fixture plays all rows of an emulator, with their real waits
CASES = [
    (source, row)
    for source in ("ministack", "kinesis-local", "dynamodb on ministack")
    for row in ALL
    if source in proofs(row) and row.name not in RESHARDED
]
WIDTH, ROWS_WIDTH = 2, 60
"""Seconds of a tumbling window here, and in a row."""
CREATED_AT_A_TIME = 4
"""Streams; Kinesis allows five, and kinesis-local keeps to that."""
HELD = 0.02
"""Seconds for which a call that takes its time is held."""
QUICK = {"initialSeconds": 0.02, "maximumSeconds": 0.1}


@dataclass
class Played:
    """What a row came to."""

    stream: Stream | Table
    scale: Scale
    place_of_failures: Place | None
    calls: list[tuple[Seen, str, str]] = field(default_factory=list)
    """Call, mark and request id."""
    discards: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    objects: list[StoredObject] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def place(self, number: str) -> int:
        return self.stream.numbers.index(number) + 1

    def seen(self, call: RecordedCall) -> Seen:
        places = tuple(map(self.place, call.sequence_numbers))
        return Seen(len(self.calls), places, tuple(call.sequence_numbers), call.event)

    async def answer(self, row: Row, call: RecordedCall) -> web.Response:
        seen = self.seen(call)
        answered = row.answer(seen)
        self.calls.append((seen, answered.mark, call.headers["Headrace-Request-Id"]))
        assert isinstance(answered.answer, Response), "faults of the network are not played from outside"
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(min(answered.takes, HELD))
        self.in_flight -= 1
        return web.Response(status=answered.answer.status, headers=answered.answer.headers, body=answered.answer.body)


@pytest.fixture(scope="module")
def all_played() -> dict[str, dict[str, Played]]:
    """By source; what could not be played is empty and is not tried again."""
    return {}


@pytest.fixture
def played(
    request: pytest.FixtureRequest,
    all_played: dict[str, dict[str, Played]],
    ministack: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Played]:
    name: str = request.param
    if name not in all_played:
        all_played[name] = {}
        rows = [row for source, row in CASES if source == name]
        source = request.getfixturevalue("kinesis_local") if name == "kinesis-local" else ministack
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # aiohttp's, about the megabytes that a row writes at once
            all_played[name] = asyncio.run(play(source, ministack, tmp_path_factory.mktemp("conformance"), rows))
    assert all_played[name], "the rows could not be played; an earlier test says why"
    return all_played[name]


async def play(source: str, account: str, folder: Path, outside: list[Row]) -> dict[str, Played]:
    async with (
        aws.client("dynamodb" if outside[0].source == "dynamodb" else "kinesis", source) as writer,
        aws.client("sqs", account) as sqs,
        aws.client("sns", account) as sns,
        aws.client("s3", account) as s3,
        serving() as function,
    ):
        prepared = await prepare(outside, writer, source, {"sqs": sqs, "sns": sns, "s3": s3})
        rows = {f"/{index}": pair for index, pair in enumerate(zip(outside, prepared, strict=True))}

        async def answer(call: RecordedCall) -> web.Response:
            row, one = rows[call.path]
            return await one.answer(row, call)

        function.answer = answer
        documents = [document(row, one, f"{function.url}{n}", f"row-{n}") for n, (row, one) in enumerate(rows.values())]
        environment = {"AWS_ENDPOINT_URL_KINESIS": source, "AWS_ENDPOINT_URL": account}
        file = write(folder, *documents)
        async with run(file, account, "--exit-when-idle", 2, environment=environment) as running:
            assert await running.end(100) == 0
        summaries = {entry["mapping"]: entry for entry in running.logged("summary")}
        for index, one in enumerate(prepared):
            one.summary = summaries[f"shop/row-{index}"]
            if one.place_of_failures is not None:
                one.discards = await one.place_of_failures.documents()
                bucket = one.place_of_failures.bucket
                one.objects = await bucket.objects() if bucket else []
    return {row.name: one for row, one in zip(outside, prepared, strict=True)}


@asynccontextmanager
async def serving() -> AsyncIterator[RecordingFunction]:
    function = RecordingFunction()
    runner = await function.start()
    try:
        yield function
    finally:
        await runner.cleanup()


async def prepare(rows: list[Row], writer: Any, url: str, clients: Mapping[str, Any]) -> list[Played]:
    """Streams with the rows' records, and places for what fails; rows beside others share their streams."""
    alone = [row for row in rows if not row.beside]
    creating = asyncio.Semaphore(CREATED_AT_A_TIME)
    filled = await asyncio.gather(*(fill(row, writer, url, creating) for row in alone))
    streams = {row.name: pair for row, pair in zip(alone, filled, strict=True)}
    prepared = []
    for row in rows:
        failures = await place_with(row.destination, clients) if row.destination else None
        if failures is not None:
            await failures.create()
        prepared.append(Played(*streams[row.beside or row.name], failures))
    return prepared


async def fill(row: Row, writer: Any, url: str, creating: asyncio.Semaphore) -> tuple[Stream | Table, Scale]:
    """A stream with the row's records; where windows are, every one in its own."""
    for _ in range(10):
        async with creating:
            stream = await (make_table(writer) if row.source == "dynamodb" else make_stream(writer))
        scale = await (put_in_windows(row, stream) if row.windows else put_all(row, stream))
        if scale is None:
            continue
        if isinstance(stream, Table):
            await stream.learn(url)
        return stream, scale
    raise AssertionError("the records of a window were never put within it")


async def put_all(row: Row, stream: Stream | Table) -> Scale | None:
    for put in row.puts:
        await stream.put(put.data, key=put.key)
    return VIRTUAL


async def put_in_windows(row: Row, stream: Stream | Table) -> Scale | None:
    """None when a record may have arrived beyond its window, as on a machine that was busy."""
    first = row.puts[0].at // ROWS_WIDTH
    begins = (time.time() // WIDTH + 1 - first) * WIDTH
    for put in row.puts:
        start = begins + put.at // ROWS_WIDTH * WIDTH
        await asyncio.sleep(max(0.0, start + 0.05 - time.time()))
        began = time.time()
        await stream.put(put.data, key=put.key)
        if not start < began <= time.time() < start + WIDTH:
            return None
    return Scale(begins, ROWS_WIDTH / WIDTH)


def document(row: Row, one: Played, url: str, name: str) -> dict[str, Any]:
    """The row's mapping; its source's endpoint is that of the environment."""
    spec = {"retryBackoff": QUICK, **row.spec, **({"tumblingWindowInSeconds": WIDTH} if row.windows else {})}
    if one.place_of_failures is not None:
        spec["destinationConfig"] = on_failure(one.place_of_failures.arn)
    made = mapping(one.stream.arn, url, name=name, **spec)
    made["spec"]["function"]["protocol"] = row.protocol
    return made


def cases(holds: Callable[[Row], object]) -> pytest.MarkDecorator:
    chosen = [(source, row) for source, row in CASES if holds(row)]
    ids = [f"{source}-{row.name}" for source, row in chosen]
    return pytest.mark.parametrize(("played", "row"), chosen, ids=ids, indirect=["played"])


EVERY = cases(lambda _: True)


@EVERY
def test_the_function_sees_exactly_these_calls(row: Row, played: dict[str, Played]) -> None:
    calls = [call_step(seen.records, mark) for seen, mark, _ in played[row.name].calls]
    assert same_order(row, calls) == same_order(row, [step for step in row.steps if step.startswith("[")])


@EVERY
def test_the_destination_holds_exactly_these_failure_records(row: Row, played: dict[str, Played]) -> None:
    one = played[row.name]
    found = [discard_step(document, one.place, one.scale) for document in one.discards]
    assert sorted(found) == sorted(step for step in row.steps if step.startswith("→"))


@EVERY
def test_the_summary_counts_exactly_this(row: Row, played: dict[str, Played]) -> None:
    names = {"filtered_out": "filteredOut", "failed_invoke": "failedInvoke"}
    wanted = {names.get(name, name): count for name, count in counts_of(row).items()} | {"polled": len(row.puts)}
    summary = played[row.name].summary
    assert {name: summary[name] for name in wanted} == wanted


@EVERY
def test_identical_batches_share_a_request_id_and_different_ones_do_not(row: Row, played: dict[str, Played]) -> None:
    ids: dict[tuple[object, ...], set[str]] = {}
    for seen, _, request_id in played[row.name].calls:
        ids.setdefault(call_key(seen), set()).add(request_id)
    assert all(len(same) == 1 for same in ids.values())
    assert len({next(iter(same)) for same in ids.values()}) == len(ids)


@cases(lambda row: "→" in row.then)
def test_failure_records_are_named_and_timed_as_their_source_has_it(row: Row, played: dict[str, Played]) -> None:
    assert [fault for document in played[row.name].discards for fault in info_faults(row, document)] == []


@cases(lambda row: row.windows)
def test_calls_tell_their_window_and_state(row: Row, played: dict[str, Played]) -> None:
    one = played[row.name]
    assert [window_of(seen.event, one.scale) for seen, _, _ in one.calls] == list(row.windows)


@cases(lambda row: row.in_flight)
def test_no_more_calls_are_in_flight_at_a_time(row: Row, played: dict[str, Played]) -> None:
    assert 1 <= played[row.name].most_in_flight <= (row.in_flight or 0)


@cases(lambda row: row.destination == "s3" and "→" in row.then)
def test_an_object_has_its_place_and_the_last_event_as_text(row: Row, played: dict[str, Played]) -> None:
    (found,) = played[row.name].objects
    assert found.content_type == "application/octet-stream"
    assert object_faults(found.key, found.document, played[row.name].calls[-1][0].event) == []


@cases(lambda row: row.destination == "sns")
def test_a_topics_message_is_the_document(row: Row, played: dict[str, Played]) -> None:
    (document,) = played[row.name].discards
    members = {"requestContext", "responseContext", "version", "timestamp", INFOS[row.source]}
    assert set(document) == members
