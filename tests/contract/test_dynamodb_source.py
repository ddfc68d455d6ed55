"""The DynamoDB Streams source against ministack and the fake: what every source of a stream promises.

Quirks of ministack: one shard that never splits, event ids with hyphens, SizeBytes 0; an unknown sequence number is
told as trimmed. So shards, retention and faults are the fake's alone.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from headrace.errors import Reason, SourceError, Throttled
from headrace.records import After, Gap, Polled, Record, Shard, Start
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.sources import ShardReader
from headrace.stream.sources.dynamodb import DynamoDBStream, StreamFacts
from tests.support.aws import REGION, client
from tests.support.fake_dynamodb import FakeTable, Refused, serving
from tests.support.servers import free_port
from tests.support.tables_with_streams import make_table

ROLES = "dynamodb:DescribeStream, GetShardIterator and GetRecords"


@dataclass
class Written:
    """A stream somewhere, and how something is written to it."""

    arn: str
    url: str
    put: Callable[..., Awaitable[object]]


@pytest.fixture(params=["fake", "ministack"])
async def stream(request: pytest.FixtureRequest) -> AsyncIterator[Written]:
    if request.param == "fake":
        async with serving(FakeTable()) as fake:

            async def put(*data: str) -> object:
                return fake.put(*data)

            yield Written(fake.arn, fake.url, put)
        return
    url = str(request.getfixturevalue("ministack"))
    async with client("dynamodb", url) as dynamodb:
        table = await make_table(dynamodb)
        yield Written(table.arn, url, table.put)


def source_of(arn: str, url: str, read_limit: int = 1000, region: str = REGION) -> DynamoDBStream:
    return DynamoDBStream(StreamFacts(arn, region), AwsAccess(AwsSettings(endpoint_url=url)), read_limit=read_limit)


@pytest.fixture
async def source(stream: Written) -> AsyncIterator[DynamoDBStream]:
    made = source_of(stream.arn, stream.url, read_limit=2)
    yield made
    await made.aclose()


@pytest.fixture
async def fake() -> AsyncIterator[FakeTable]:
    async with serving(FakeTable()) as table:
        yield table


@pytest.fixture
async def faked(fake: FakeTable) -> AsyncIterator[DynamoDBStream]:
    made = source_of(fake.arn, fake.url)
    yield made
    await made.aclose()


async def read_all(reader: ShardReader) -> list[Record]:
    found: list[Record] = []
    while True:
        polled = await reader.read()
        found += polled.records
        if polled.ended or (not polled.records and not polled.behind):
            return found


def data(found: list[Record] | tuple[Record, ...]) -> list[str]:
    return [orjson.loads(record.event)["dynamodb"]["NewImage"]["data"]["S"] for record in found]


async def only_shard(source: DynamoDBStream) -> str:
    (shard,) = await source.shards()
    return shard.shard_id


# ---- on either


async def test_records_come_in_order_from_the_oldest(stream: Written, source: DynamoDBStream) -> None:
    await stream.put("1", "2", "3", "4", "5")
    found = await read_all(source.reader(await only_shard(source), Start()))
    assert data(found) == ["1", "2", "3", "4", "5"]
    numbers = [int(record.sequence_number) for record in found]
    assert numbers == sorted(numbers)
    assert all(abs(record.arrival - time.time()) < 60 and record.arrival % 1 == 0 for record in found)


async def test_reading_goes_on_behind_a_sequence_number(stream: Written, source: DynamoDBStream) -> None:
    await stream.put("1", "2", "3")
    shard = await only_shard(source)
    found = await read_all(source.reader(shard, Start()))
    assert data(await read_all(source.reader(shard, After(found[1].sequence_number)))) == ["3"]


async def test_a_start_in_the_future_of_what_was_written_leaves_it_out(stream: Written, source: DynamoDBStream) -> None:
    await stream.put("before")
    reader = source.reader(await only_shard(source), Start(time.time() + 2))
    assert await read_all(reader) == []


async def test_nothing_that_is_written_after_the_servers_now_is_left_out(
    stream: Written, source: DynamoDBStream
) -> None:
    now = await source.now()
    await stream.put("after")
    assert data(await read_all(source.reader(await only_shard(source), Start(now)))) == ["after"]


async def test_the_event_is_lambdas(stream: Written, source: DynamoDBStream) -> None:
    """Contract D.2."""
    await stream.put("x")
    (found,) = await read_all(source.reader(await only_shard(source), Start()))
    event = orjson.loads(found.event)
    change = event.pop("dynamodb")
    assert list(event) == ["eventID", "eventName", "eventVersion", "eventSource", "awsRegion", "eventSourceARN"]
    assert len(event.pop("eventID").replace("-", "")) == 32
    assert event == {
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "eventSourceARN": stream.arn,
    }
    assert (change["SequenceNumber"], change["ApproximateCreationDateTime"]) == (found.sequence_number, found.arrival)
    assert set(change) == {
        "ApproximateCreationDateTime", "Keys", "NewImage", "SequenceNumber", "SizeBytes", "StreamViewType"
    }  # fmt: skip


async def test_a_stream_that_is_not_there_is_told_with_its_arn_and_the_way_to_the_right_one(stream: Written) -> None:
    missing = source_of(stream.arn.replace("/stream/", "/stream/1"), stream.url)
    for attempt in (missing.shards, missing.now, missing.reader("shardId-00000001700000000000-00000000", Start()).read):
        with pytest.raises(SourceError, match=r"/stream/1.*LatestStreamArn") as caught:
            await attempt()
        assert caught.value.reason is Reason.NOT_FOUND
    await missing.aclose()


async def test_every_stream_keeps_a_day_and_is_one_by_its_name(stream: Written, source: DynamoDBStream) -> None:
    assert (source.retention, await source.created()) == (24 * 3600, None)


async def test_an_endpoint_that_is_away_is_unreachable(fake: FakeTable) -> None:
    away = source_of(fake.arn, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SourceError) as caught:
        await away.shards()
    assert caught.value.reason is Reason.UNREACHABLE
    await away.aclose()


async def test_attribute_values_come_through_ministack_as_they_were_written(ministack: str) -> None:
    async with client("dynamodb", ministack) as dynamodb:
        table = await make_table(dynamodb, "sk")
        written = {
            "pk": {"S": "ä"}, "sk": {"S": "1"}, "n": {"N": "-12.5"}, "b": {"B": b"\x00\xff"}, "none": {"NULL": True},
            "yes": {"BOOL": True}, "l": {"L": [{"N": "1"}, {"M": {"x": {"S": ""}}}]}, "ns": {"NS": ["1", "2"]},
            "bs": {"BS": [b"\x01"]}, "ss": {"SS": ["a"]},
        }  # fmt: skip
        await table.put_item(written)
        source = source_of(table.arn, ministack)
        (found,) = await read_all(source.reader(await only_shard(source), Start()))
        image = orjson.loads(found.event)["dynamodb"]["NewImage"]
        assert image == written | {"b": {"B": "AP8="}, "bs": {"BS": [base64.b64encode(b"\x01").decode()]}}
        assert found.key == '{"pk":{"S":"ä"},"sk":{"S":"1"}}'
        await source.aclose()


# ---- shards, places, pace: the fake's alone


async def test_shards_are_listed_page_after_page_with_their_parents(fake: FakeTable, faked: DynamoDBStream) -> None:
    fake.page = 2
    for _ in range(4):
        fake.rotate()
    ids = list(fake.shards)
    assert await faked.shards() == [Shard(ids[0]), *(Shard(one, (ids[i],)) for i, one in enumerate(ids[1:]))]
    assert [name for name, _ in fake.calls] == ["DescribeStream"] * 3


async def test_a_shard_that_ends_names_its_children(fake: FakeTable, faked: DynamoDBStream) -> None:
    fake.put("1")
    parent, children = fake.shard(0), fake.rotate(children=2)
    polled = await faked.reader(parent.shard_id, Start()).read()
    assert (data(polled.records), polled.ended) == (["1"], True)
    assert polled.children == tuple(Shard(one.shard_id, (parent.shard_id,)) for one in children)
    assert fake.calls[-1][1]["ShardFilter"] == {"Type": "CHILD_SHARDS", "ShardId": parent.shard_id}


async def test_children_that_cannot_be_asked_for_are_left_to_the_listing(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    parent = fake.shard(0)
    fake.rotate()
    fake.faults["DescribeStream"].append(Refused("LimitExceededException"))
    polled = await faked.reader(parent.shard_id, Start()).read()
    assert (polled.ended, polled.children) == (True, ())


async def test_an_expired_iterator_is_renewed_at_the_place_reached(fake: FakeTable, faked: DynamoDBStream) -> None:
    fake.put("1", "2")
    reader = faked.reader(fake.shard(0).shard_id, Start())
    first = await reader.read()
    fake.put("3")
    fake.faults["GetRecords"].append(Refused("ExpiredIteratorException"))
    assert data(first.records + (await reader.read()).records) == ["1", "2", "3"]


async def test_iterators_that_all_expire_are_the_sources_fault_and_then_it_goes_on(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    fake.put("1")
    fake.late = 1000.0
    reader = faked.reader(fake.shard(0).shard_id, Start())
    with pytest.raises(SourceError, match="a fresh iterator was refused"):
        await reader.read()
    fake.late = 0.0
    assert data((await reader.read()).records) == ["1"]


@pytest.mark.parametrize("asked", ["GetShardIterator", "GetRecords"])
async def test_a_trimmed_place_goes_on_at_the_oldest_record_and_tells_the_gap(
    fake: FakeTable, faked: DynamoDBStream, asked: str
) -> None:
    numbers = fake.put("1", "2", "3", "4")
    reader = faked.reader(fake.shard(0).shard_id, After(numbers[0]))
    if asked == "GetRecords":
        await reader._source.call("describe_stream", StreamArn=fake.arn)
        reader._iterator = await reader._open()
    fake.trim(0, 3)
    polled = await reader.read()
    assert data(polled.records) == ["4"]
    assert polled.gap == Gap(numbers[0], numbers[3], None, polled.records[0].arrival)
    fake.put("5")
    polled = await reader.read()
    assert (data(polled.records), polled.gap) == (["5"], None)


async def test_a_gap_waits_for_the_page_that_shows_where_it_ends(fake: FakeTable, faked: DynamoDBStream) -> None:
    numbers = fake.put("1", "2", "3")
    fake.trim(0, 2)
    fake.empty_pages = 2
    reader = faked.reader(fake.shard(0).shard_id, After(numbers[0]))
    gaps = [(await reader.read()).gap for _ in range(3)]
    assert gaps[:2] == [None, None]
    assert gaps[2] is not None
    assert gaps[2].first == numbers[2]


async def test_a_place_that_is_trimmed_with_all_that_followed_is_a_gap_to_the_end(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    numbers = fake.put("1", "2")
    fake.rotate()
    fake.trim(0, 2)
    polled = await faked.reader(fake.shard(0).shard_id, After(numbers[0])).read()
    assert (polled.records, polled.ended, polled.gap) == ((), True, Gap(numbers[0], None))


async def test_a_shard_that_the_stream_has_forgotten_is_over_and_what_was_left_of_it_told(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    """Or a poller that was blocked for a day would wait for it, and its children for the poller, for ever."""
    numbers = fake.put("1", "2", at=5.0)
    reader = faked.reader(fake.shard(0).shard_id, Start())
    await reader.read()
    fake.rotate()
    fake.trim(0)
    assert await reader.read() == Polled(ended=True, gap=Gap(numbers[1], None, 5.0))


async def test_a_shard_of_a_stream_that_is_gone_is_not_over(fake: FakeTable, faked: DynamoDBStream) -> None:
    reader = faked.reader(fake.shard(0).shard_id, Start())
    fake.name = "another"
    with pytest.raises(SourceError) as caught:
        await reader.read()
    assert caught.value.reason is Reason.NOT_FOUND


async def test_an_unknown_number_within_the_shard_repeats_nothing_before_it(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    numbers = fake.put("1", "2", "3")
    polled = await faked.reader(fake.shard(0).shard_id, After(str(int(numbers[1]) + 1))).read()
    assert (data(polled.records), polled.gap) == (["3"], None)


async def test_a_number_that_is_refused_though_it_is_there_is_not_repeated(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    numbers = fake.put("1", "2", "3")
    fake.faults["GetShardIterator"].append(Refused("ValidationException"))
    assert data((await faked.reader(fake.shard(0).shard_id, After(numbers[1])).read()).records) == ["3"]


async def test_a_start_leaves_out_the_seconds_before_and_repeats_its_own(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    """Times are whole seconds: what was written within the second of the start may be from before it, or after."""
    now = float(int(time.time()))
    for text, at in (("a", now - 1), ("b", now), ("c", now + 1)):
        fake.put(text, at=at)
    assert data(await read_all(faked.reader(fake.shard(0).shard_id, Start(now + 0.9)))) == ["b", "c"]


async def test_once_begun_nothing_is_left_out_for_its_time(fake: FakeTable, faked: DynamoDBStream) -> None:
    """Creation times are approximate; the order of the shard is not."""
    now = float(int(time.time()))
    fake.page_of_records = 2
    for text, at in (("a", now), ("b", now - 1), ("c", now - 1)):
        fake.put(text, at=at)
    reader = faked.reader(fake.shard(0).shard_id, Start(now))
    assert data((await reader.read()).records + (await reader.read()).records) == ["a", "b", "c"]


async def test_leaving_out_holds_its_place_over_pages_and_expired_iterators(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    fake.page_of_records = 2
    start = time.time()
    fake.put("1", "2", "3", at=start - 50)
    fake.put("4", at=start)
    reader = faked.reader(fake.shard(0).shard_id, Start(start))
    first = await reader.read()
    assert first.records == ()
    assert first.behind > 0, "there is more to read, so this is not the tip"
    fake.faults["GetRecords"].append(Refused("ExpiredIteratorException"))
    assert data((await reader.read()).records) == ["4"]


async def test_shards_that_ended_before_the_start_are_passed_by_and_their_children_read(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    """A start at the tip does not read through the day that the stream keeps."""
    start = time.time()
    for hours in (12, 8, 4):
        fake.put(*map(str, range(50)), at=start - hours * 3600)
        fake.rotate()
    fake.put("old", at=start - 61)
    fake.put("new", at=start)
    ids, found = list(fake.shards), list[Record]()
    for shard_id, child in zip(ids, [*ids[1:], None], strict=True):
        reader = faked.reader(shard_id, Start(start))
        polled = await reader.read()
        assert [one.shard_id for one in polled.children] == ([child] if child else [])
        assert polled.ended == (child is not None)
        found += polled.records
    assert data(found) == ["new"]
    assert [arguments["Limit"] for name, arguments in fake.calls if name == "GetRecords"] == [1, 1, 1, 1000]


async def test_looking_ahead_is_tried_again_when_throttled_and_left_when_it_is_not_served(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    fake.put("old", at=time.time() - 100)
    fake.rotate()
    fake.put("new", at=time.time() - 90)
    parent = fake.shard(0).shard_id
    reader = faked.reader(parent, Start(time.time()))
    fake.faults["DescribeStream"].append(Refused("LimitExceededException"))
    with pytest.raises(Throttled):
        await reader.read()
    assert (await reader.read()).ended
    assert [arguments["Limit"] for name, arguments in fake.calls if name == "GetRecords"] == [1]
    fake.faults["DescribeStream"].append(Refused("ValidationException"))
    await faked.reader(parent, Start(time.time())).read()
    assert fake.calls[-2][0] == "GetRecords"
    assert fake.calls[-2][1]["Limit"] == 1000


@pytest.mark.parametrize("began", [-59.0, 0.0, 5.0, None], ids=["hardly before", "at", "after", "with nothing yet"])
async def test_a_shard_whose_child_did_not_clearly_begin_before_the_start_is_read(
    fake: FakeTable, faked: DynamoDBStream, began: float | None
) -> None:
    start = float(int(time.time()))
    fake.put("1", at=start)
    fake.rotate()
    if began is not None:
        fake.put("2", at=start + began)
    assert data((await faked.reader(fake.shard(0).shard_id, Start(start)).read()).records) == ["1"]


async def test_a_start_that_is_older_than_the_stream_keeps_records_looks_not_ahead(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    """Every shard that opens later has such a start, until it has a checkpoint."""
    fake.put("0", at=time.time() - 90_000)
    fake.put("1", at=time.time() - 80_000)
    reader = faked.reader(fake.shard(0).shard_id, Start(time.time() - 86_500))
    assert data((await reader.read()).records) == ["1"]
    assert [name for name, _ in fake.calls] == ["GetShardIterator", "GetRecords"]


async def test_full_pages_and_old_records_are_read_on_from_at_once(fake: FakeTable, faked: DynamoDBStream) -> None:
    """GetRecords tells nothing of the tip (contract B.1: faster while there is a backlog)."""
    shard, small = fake.shard(0).shard_id, source_of(fake.arn, fake.url, read_limit=2)
    fake.put("1", "2", "3")
    reader = small.reader(shard, Start())
    assert [bool((await reader.read()).behind) for _ in range(3)] == [True, False, False]
    await small.aclose()
    fake.put("old", at=time.time() - 100)
    assert (await faked.reader(shard, Start()).read()).behind == pytest.approx(100, abs=5)


async def test_a_page_that_brings_all_that_was_asked_for_is_not_the_last_one(
    fake: FakeTable, faked: DynamoDBStream
) -> None:
    fake.put("1", "2", "3")
    reader = faked.reader(fake.shard(0).shard_id, Start())
    assert [bool((await reader.read(2)).behind) for _ in range(2)] == [True, False]


async def test_no_read_asks_for_more_than_a_thousand(fake: FakeTable) -> None:
    large = source_of(fake.arn, fake.url, read_limit=10_000)
    fake.put(*map(str, range(1001)))
    reader = large.reader(fake.shard(0).shard_id, Start())
    assert [len((await reader.read()).records) for _ in range(2)] == [1000, 1]
    await large.aclose()


@pytest.mark.parametrize(
    ("code", "status", "reason", "words"),
    [
        ("AccessDeniedException", 400, Reason.ACCESS_DENIED, ROLES),
        ("UnrecognizedClientException", 400, Reason.INVALID_CREDENTIALS, "valid AWS credentials"),
        ("InternalServerError", 500, Reason.SERVICE_ERROR, "tried again"),
        ("ResourceNotFoundException", 400, Reason.NOT_FOUND, "LatestStreamArn.*spec.aws.region"),
    ],
)
async def test_what_is_refused_is_told_with_what_to_do(
    fake: FakeTable, faked: DynamoDBStream, code: str, status: int, reason: Reason, words: str
) -> None:
    fake.put("1")
    for operation in ("DescribeStream", "GetShardIterator"):
        fake.faults[operation].append(Refused(code, status))
    reader = faked.reader(fake.shard(0).shard_id, Start())
    for attempt in (faked.shards, reader.read):
        with pytest.raises(SourceError, match=words) as caught:
            await attempt()
        assert caught.value.reason is reason
    assert data((await reader.read()).records) == ["1"]


async def test_throttles_keep_the_place(fake: FakeTable, faked: DynamoDBStream) -> None:
    fake.put("1")
    reader = faked.reader(fake.shard(0).shard_id, Start())
    await reader.read()
    fake.put("2")
    fake.faults["GetRecords"] += [Refused("LimitExceededException"), Refused("ProvisionedThroughputExceededException")]
    for _ in range(2):
        with pytest.raises(Throttled):
            await reader.read()
    assert data((await reader.read()).records) == ["2"]
    assert [name for name, _ in fake.calls].count("GetShardIterator") == 1


BROKEN: dict[str, dict[str, Any]] = {
    "no change": {"dynamodb": None},
    "no keys": {"dynamodb": {"SequenceNumber": "1", "ApproximateCreationDateTime": 1}},
    "empty keys": {"dynamodb": {"SequenceNumber": "1", "ApproximateCreationDateTime": 1, "Keys": {}}},
    "a sequence number that is none": {
        "dynamodb": {"SequenceNumber": "one", "ApproximateCreationDateTime": 1, "Keys": {"k": {"S": "a"}}}
    },
    "a time beyond any": {
        "dynamodb": {"SequenceNumber": "1", "ApproximateCreationDateTime": 1e300, "Keys": {"k": {"S": "a"}}}
    },
    "no name of the change": {"eventName": None},
    "no user": {"userIdentity": {"Type": "Service"}},
}


@pytest.mark.parametrize("row", BROKEN)
async def test_a_record_that_is_none_stops_the_read_and_not_the_process(
    fake: FakeTable, faked: DynamoDBStream, row: str
) -> None:
    fake.put("1", **BROKEN[row])
    reader = faked.reader(fake.shard(0).shard_id, Start())
    with pytest.raises(SourceError, match="not in DynamoDB's form") as caught:
        await reader.read()
    assert caught.value.reason is Reason.SERVICE_ERROR
    fake.shard(0).records.clear()
    fake.put("2")
    assert data((await reader.read()).records) == ["2"]
