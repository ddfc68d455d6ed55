"""What every source promises, on every server that serves it (`tests/support/read_sources.py`).

Quirks: moto numbers the records of each Kinesis shard from 1, gives DynamoDB events the version 1.0, and wants the
stream's ARN with GetRecords; the DynamoDB emulators have one shard that never splits, and tell the bytes of an item as
0 (ministack); moto's queue gives one message at a time out of many, in any order. A standard queue promises no order,
and a FIFO queue of each group alone: there all that was written is what counts.

Kinesis has no fake: kinesis-local and ministack are as quick and more faithful. What goes wrong on the way does so between
us and any server, so that one is enough; a fake queue is always there, and tells nothing of one that is not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from headrace.errors import Reason, SourceError, Throttled
from headrace.records import Start
from tests.support.aws import unique
from tests.support.faulty import Fault, Faulty, faulty
from tests.support.read_sources import FAKES, SOURCES, Place, ReadingShard
from tests.support.servers import free_port

PLACES = [
    ("kinesis", "ministack"),
    ("kinesis", "kinesis_local"),
    ("kinesis", "moto"),
    ("dynamodb", "fake"),
    ("dynamodb", "ministack"),
    ("dynamodb", "moto"),
    ("sqs", "fake"),
    ("sqs", "ministack"),
    ("sqs", "moto"),
    ("fifo", "fake"),
    ("fifo", "ministack"),
    ("fifo", "moto"),
]


@pytest.fixture(params=PLACES, ids="-on-".join)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    source, server = request.param
    made = FAKES[source]("") if server == "fake" else SOURCES[source](request.getfixturevalue(server))
    async with made as there:
        yield there


@pytest.fixture(params=SOURCES)
async def behind(request: pytest.FixtureRequest, ministack: str) -> AsyncIterator[tuple[Place, Faulty]]:
    """A source of each kind behind a way on which things go wrong."""
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(SOURCES[request.param](ministack))
        yield there, await stack.enter_async_context(faulty(ministack))


NUMBERS = [str(number) for number in range(25)]


async def test_what_was_written_is_read_once_and_in_order_where_there_is_one(place: Place) -> None:
    await place.put(*NUMBERS)
    async with place.reading() as source:
        records = await source.read()
    assert place.texts(records) == NUMBERS
    assert len({record.sequence_number for record in records}) == len(NUMBERS)


async def test_what_takes_several_answers_to_read_is_read_whole_and_once(place: Place) -> None:
    """A stream's answers have ten records at most here, as a queue's always have."""
    await place.put(*NUMBERS)
    async with place.reading(page=10) as source:
        records = await source.read()
    assert place.texts(records) == NUMBERS


async def test_a_record_tells_when_it_was_written_and_whose_order_it_keeps(place: Place) -> None:
    await place.put("1")
    async with place.reading() as source:
        (record,) = await source.read()
    assert abs(record.arrival - time.time()) < 60
    assert bool(record.key) == place.keyed


async def test_an_event_has_the_fields_of_lambdas_and_no_other(place: Place) -> None:
    """Contract D.1 to D.3."""
    await place.put("1")
    async with place.reading() as source:
        (record,) = await source.read()
    assert unlike(orjson.loads(record.event), place.fields) == []
    assert place.fields.keys() <= place.traits.fields, "so filters may ask for them"


def unlike(found: Any, wanted: Any, where: str = "event") -> list[str]:
    """Where an event is not as it should be."""
    if isinstance(wanted, type):
        return [] if isinstance(found, wanted) and not isinstance(found, bool) else [f"{where} is {found!r}"]
    if not isinstance(wanted, dict) or not isinstance(found, dict):
        return [] if found == wanted else [f"{where} is {found!r}, not {wanted!r}"]
    differing = [f"{where}.{name}" for name in found.keys() ^ wanted.keys()]
    return differing + [one for name in found.keys() & wanted for one in unlike(found[name], wanted[name], name)]


@pytest.mark.parametrize(
    "place", [one for one in PLACES if one[0] not in {"sqs", "fifo"}], ids="-on-".join, indirect=True
)
async def test_a_read_brings_no_more_records_than_it_is_asked_for_and_the_next_goes_on_behind_them(
    place: Place,
) -> None:
    await place.put(*NUMBERS[:5])
    async with place.reading() as source:
        assert isinstance(source, ReadingShard)
        (shard,) = await source.source.shards()
        reader = source.source.reader(shard.shard_id, Start())
        pages = [(await reader.read(most)).records for most in (1, 3, 100)]
    assert [place.texts(page) for page in pages] == [["0"], ["1", "2", "3"], ["4"]]


async def test_what_is_written_after_a_look_that_found_nothing_is_read_by_the_next(place: Place) -> None:
    async with place.reading() as source:
        assert await source.read() == []
        await place.put("1")
        assert place.texts(await source.read()) == ["1"]
        await place.put("2")
        assert place.texts(await source.read()) == ["2"]


async def test_what_is_not_done_with_comes_again_and_the_rest_does_not(place: Place) -> None:
    await place.put("1", "2", "3")
    async with place.reading() as source:
        first = next(one for one in await source.read() if place.texts([one]) == ["1"])
        await source.done(first)
        deadline = time.monotonic() + 10
        again: list[str] = []
        other = source.again()
        while len(again) < 2 and time.monotonic() < deadline:
            again += place.texts(await other.read())
        assert sorted(again) == ["2", "3"]


@pytest.mark.parametrize("place", [one for one in PLACES if one[0] == "fifo"], ids="-on-".join, indirect=True)
async def test_of_a_group_nothing_is_read_while_a_part_of_it_is_not_done_with(place: Place) -> None:
    """F.3: in order, and whoever has its first messages has the group."""
    await place.put(*NUMBERS[:15], group="a")
    await place.put("15", group="b")
    async with place.reading() as source:
        first = [one for one in await source.read() if one.key == "a"]
        assert [place.texts([one])[0] for one in first] == NUMBERS[: len(first)]
        assert 0 < len(first) <= 10
        assert await source.again().read() == []
        for one in first:
            await source.done(one)
        rest = await source.again().read()
    assert [place.texts([one])[0] for one in rest] == NUMBERS[len(first) : len(first) + len(rest)]
    assert rest


@pytest.mark.parametrize(
    "place",
    [one for one in PLACES if one not in {("sqs", "fake"), ("fifo", "fake")}],  # these are there
    ids="-on-".join,
    indirect=True,
)
async def test_a_source_that_is_not_there_is_told_by_its_name_with_what_to_do(place: Place) -> None:
    name = place.arn.replace("table/", "table/" + unique("no"), 1) if "table/" in place.arn else ""
    suffix = ".fifo" if place.arn.endswith(".fifo") else ""
    arn = name or place.arn.removesuffix(suffix) + unique("-nowhere") + suffix
    async with place.reading(arn=arn) as source:
        with pytest.raises(SourceError) as told:
            await source.read()
    assert told.value.reason is Reason.NOT_FOUND
    assert arn in told.value.message
    assert "spec.eventSourceArn" in told.value.message


async def test_a_server_that_is_away_is_told_as_unreachable(behind: tuple[Place, Faulty]) -> None:
    there, _ = behind
    async with there.reading(f"http://127.0.0.1:{free_port()}") as source:
        with pytest.raises(SourceError) as told:
            await source.read()
    assert told.value.reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(400, "AccessDeniedException"), Reason.ACCESS_DENIED),
        (Fault(400, "ExpiredTokenException"), Reason.INVALID_CREDENTIALS),
        (Fault(400, "ThrottlingException"), Reason.THROTTLED),
        (Fault(500, "InternalFailure"), Reason.SERVICE_ERROR),
        (Fault(503, body=b"<html>busy</html>"), Reason.SERVICE_ERROR),
        (Fault(200, body=b"{"), Reason.SERVICE_ERROR),
        (Fault(200, body=b'{"Records": 7, "Messages": 7}'), Reason.SERVICE_ERROR),
    ],
    ids=lambda one: f"{one.status}-{one.code or len(one.body)}" if isinstance(one, Fault) else "",
)
async def test_a_read_that_goes_wrong_says_why_and_costs_no_record(
    behind: tuple[Place, Faulty], fault: Fault, reason: Reason
) -> None:
    there, way = behind
    await there.put("1", "2", "3")
    async with there.reading(way.url) as source:
        way.faults[there.reads] = [fault] * 3
        with pytest.raises(SourceError) as told:
            await source.read()
        assert told.value.reason is reason
        assert isinstance(told.value, Throttled) == (reason is Reason.THROTTLED)
        way.faults.clear()
        assert there.texts(await source.read()) == ["1", "2", "3"]
