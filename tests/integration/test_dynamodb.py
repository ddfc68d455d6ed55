"""`headrace run` reads DynamoDB streams: on ministack, and on the fake what no emulator does, shards that rotate."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws import client, make_queue
from tests.support.fake_dynamodb import FakeTable, Refused, serving
from tests.support.function import RecordedCall, RecordingFunction, fails_on, success
from tests.support.headrace import Running, finished, mapping, on_failure, run, write
from tests.support.tables_with_streams import make_table

IDLE = ("--exit-when-idle", 1.5)
KILLS = int(os.environ.get("HEADRACE_TEST_KILLS", "50")) // 3
BATCH = 5


@pytest.fixture
async def dynamodb(ministack: str) -> AsyncIterator[Any]:
    async with client("dynamodb", ministack) as made:
        yield made


@pytest.fixture
async def fake() -> AsyncIterator[FakeTable]:
    async with serving(FakeTable()) as table:
        yield table


def failing(running: Running) -> list[dict[str, Any]]:
    return [one for one in running.logged("condition does not hold") if one["condition"] == "SourceReachable"]


def told(function: RecordingFunction) -> list[str]:
    """The data of all calls, one after the other."""
    return [data for batch in function.seen for data in batch]


async def test_an_event_is_what_lambda_sends(
    ministack: str, dynamodb: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract D.2: numbers are text, binary is base64, images as the view type has them."""
    table = await make_table(dynamodb, "sk")
    item = {"pk": {"S": "a"}, "sk": {"S": "b"}, "n": {"N": "1.5"}, "b": {"B": bytes(range(256))}}
    await table.put_item(item)
    await dynamodb.delete_item(TableName=table.name, Key={"pk": {"S": "a"}, "sk": {"S": "b"}})
    async with run(write(tmp_path, mapping(table.arn, function.url)), ministack, *IDLE) as running:
        assert await running.end() == 0
    made, removed = function.calls[0].event["Records"]
    image = item | {"b": {"B": base64.b64encode(bytes(range(256))).decode()}}
    for record, name, images in ((made, "INSERT", {"NewImage": image}), (removed, "REMOVE", {"OldImage": image})):
        change = record.pop("dynamodb")
        assert record.pop("eventID")
        assert record == {
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "eventSourceARN": table.arn,
        }
        assert isinstance(change.pop("ApproximateCreationDateTime"), float)
        assert change.pop("SequenceNumber").isdigit()
        assert change.pop("SizeBytes") == 0, "ministack's quirk"
        keys = {"pk": {"S": "a"}, "sk": {"S": "b"}}
        assert change == {"Keys": keys, "StreamViewType": "NEW_AND_OLD_IMAGES", **images}
    assert running.summary["polled"] == 2


async def test_a_poison_change_costs_its_batch_and_its_failure_record_has_whole_seconds(
    ministack: str, dynamodb: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    table, queue = await make_table(dynamodb), await make_queue(sqs)
    await table.put("1", "2", "3")
    await table.learn(ministack)
    function.answer = fails_on("2")
    spec: dict[str, Any] = {"batchSize": 1, "maximumRetryAttempts": 1, "destinationConfig": on_failure(queue.arn)}
    async with run(write(tmp_path, mapping(table.arn, function.url, **spec)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1"], ["2"], ["2"], ["3"]]
    (document,) = await queue.drain()
    info = document["DDBStreamBatchInfo"]
    assert (info["startSequenceNumber"], info["streamArn"], info["batchSize"]) == (table.numbers[1], table.arn, 1)
    assert len(info["approximateArrivalOfFirstRecord"]) == len("2026-01-02T03:04:05Z")


async def test_cloudevents_hold_the_whole_change(
    ministack: str, dynamodb: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    table = await make_table(dynamodb)
    await table.put("1")
    bodies: list[Any] = []

    async def answer(call: RecordedCall) -> Any:
        bodies.append(call.event)
        return success(call)

    function.answer = answer
    document = mapping(table.arn, function.url)
    document["spec"]["function"]["protocol"] = "cloudevents"
    async with run(write(tmp_path, document), ministack, *IDLE) as running:
        assert await running.end() == 0
    ((event,),) = bodies
    assert (event["type"], event["source"]) == ("aws.dynamodb.record", table.arn)
    assert event["data"]["dynamodb"]["NewImage"]["data"] == {"S": "1"}


async def test_latest_starts_with_what_comes_and_a_restart_before_the_first_record_misses_nothing(
    ministack: str, dynamodb: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    """There is no iterator at a time: the start is stored, and what was written in earlier seconds is left out."""
    table = await make_table(dynamodb)
    await table.put("old")
    await asyncio.sleep(2)
    file = write(tmp_path, mapping(table.arn, function.url, startingPosition="LATEST"))
    async with run(file, ministack, "--state", state) as running:
        await running.until(lambda: running.logged("shard started"))
        assert await running.stop() == 0
    await table.put("new")
    async with run(file, ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["new"]]


async def test_latest_reads_the_shards_that_follow_from_their_beginning(
    fake: FakeTable, function: RecordingFunction, tmp_path: Path
) -> None:
    """A rotation every few hours is the normal case: neither the old shards' past, nor anything of the new ones'."""
    fake.put("old", at=time.time() - 7000)
    fake.rotate()
    fake.put("also old", at=time.time() - 3600)
    file = write(tmp_path, mapping(fake.arn, function.url, startingPosition="LATEST"))
    async with run(file, fake.url) as running:
        await running.until(lambda: len(running.logged("shard started")) == 2)
        fake.put("1", at=time.time() + 1)
        fake.rotate()
        fake.put("2", at=time.time() + 1)
        fake.rotate(children=2)
        fake.put("3", at=time.time() + 1)
        await function.until(lambda: told(function) == ["1", "2", "3"])
        assert await running.stop() == 0


async def test_children_are_read_after_their_parent_though_pages_are_small(
    fake: FakeTable, function: RecordingFunction, tmp_path: Path
) -> None:
    fake.page, fake.page_of_records = 2, 3
    for generation in range(6):
        fake.put(*(f"{generation}.{number}" for number in range(5)))
        fake.rotate()
    file = write(tmp_path, mapping(fake.arn, function.url, batchSize=2))
    async with run(file, fake.url, *IDLE) as running:
        assert await running.end() == 0
    assert told(function) == [f"{generation}.{number}" for generation in range(6) for number in range(5)]


async def test_what_retention_took_is_told_from_where_to_where(
    fake: FakeTable, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    numbers = fake.put("1", "2", "3", "4")
    file = write(tmp_path, mapping(fake.arn, function.url, batchSize=1))
    async with run(file, fake.url, "--state", state) as running:
        await function.until(lambda: len(function.calls) == 4)
        assert await running.stop() == 0
    numbers += fake.put("5", "6", "7")
    fake.trim(0, 6)
    async with run(file, fake.url, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen[4:] == [["7"]]
    (told,) = running.logged("records may be lost")
    assert (numbers[3] in str(told), numbers[6] in str(told)) == (True, True)


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        ("ResourceNotFoundException", "NotFound", "LatestStreamArn"),
        ("AccessDeniedException", "AccessDenied", "allow dynamodb:DescribeStream, GetShardIterator and GetRecords"),
        ("UnrecognizedClientException", "InvalidCredentials", "valid AWS credentials"),
    ],
)
async def test_what_the_source_refuses_is_told_and_then_it_goes_on(
    fake: FakeTable, function: RecordingFunction, tmp_path: Path, code: str, reason: str, words: str
) -> None:
    fake.put("1")
    for operation in ("DescribeStream", "GetShardIterator", "GetRecords"):
        fake.faults[operation] += [Refused(code)] * 2
    async with run(write(tmp_path, mapping(fake.arn, function.url)), fake.url, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1"]]
    told = failing(running)
    assert {one["reason"] for one in told} == {reason}
    assert all(words in one["message"] and fake.arn in one["message"] for one in told)


async def test_a_stream_of_another_region_is_told_with_what_to_look_at(
    ministack: str, dynamodb: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    table = await make_table(dynamodb)
    document = mapping(table.arn.replace("us-east-1", "eu-west-1"), function.url)
    async with run(write(tmp_path, document), ministack) as running:
        await running.until(lambda: failing(running))
        assert await running.stop() == 0
    assert failing(running)[0]["reason"] == "NotFound"
    assert "spec.aws.region" in failing(running)[0]["message"]


@pytest.mark.parametrize(
    ("arn", "more", "words"),
    [
        ("arn:aws:dynamodb:us-east-1:000000000000:table/orders", {}, "LatestStreamArn"),
        (
            "arn:aws:dynamodb:us-east-1:000000000000:table/orders/stream/2026-01-02T03:04:05.678",
            {"startingPosition": "AT_TIMESTAMP", "startingPositionTimestamp": 1},
            "spec.startingPosition: Unsupported starting position for arn type: arn:aws:dynamodb",
        ),
    ],
    ids=["a table", "AT_TIMESTAMP"],
)
async def test_what_the_file_shows_to_be_wrong_is_refused(
    function: RecordingFunction, tmp_path: Path, arn: str, more: dict[str, Any], words: str
) -> None:
    file = write(tmp_path, mapping(arn, function.url, **more))
    for command in ("run", "validate"):
        status, printed = await finished(command, "-f", file)
        assert (status, words in printed) == (2, True)


async def test_its_own_endpoint_variable_wins(
    ministack: str, fake: FakeTable, function: RecordingFunction, tmp_path: Path
) -> None:
    fake.put("1")
    file = write(tmp_path, mapping(fake.arn, function.url))
    environment = {"AWS_ENDPOINT_URL_DYNAMODB_STREAMS": fake.url}
    async with run(file, ministack, *IDLE, environment=environment) as running:
        assert await running.end() == 0
    assert function.seen == [["1"]]


@pytest.mark.timeout(300)
async def test_killed_again_and_again_while_shards_rotate_it_loses_nothing_and_keeps_each_keys_order(
    fake: FakeTable, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    """Two lineages, each of which rotates every few records; SIGKILL at random moments under load."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    fake.page, fake.page_of_records = 50, 20
    fake.open()
    written: list[str] = []
    seen_in: list[tuple[int, str]] = []
    lifetime, enough = 0, asyncio.Event()

    async def answer(call: RecordedCall) -> Any:
        seen_in.extend((lifetime, data) for data in call.data)
        await asyncio.sleep(0.002)
        return success(call)

    async def produce() -> None:
        names = list(fake.shards)
        while not enough.is_set():
            side = len(written) % 2
            fake.put(str(len(written)), key=f"key {side}", shard=list(fake.shards).index(names[side]))
            written.append(str(len(written)))
            if chance.random() < 0.02:
                names[side] = fake.rotate(list(fake.shards).index(names[side]))[0].shard_id
            await asyncio.sleep(0.004)

    function.answer = answer
    file = write(tmp_path, mapping(fake.arn, function.url, batchSize=BATCH))
    producing = asyncio.create_task(produce())
    for lifetime in range(KILLS):  # noqa: B007 - the closure above reads it
        calls = len(function.calls)
        async with run(file, fake.url, "--state", state) as running:
            await function.until(lambda: len(function.calls) > calls)
            await asyncio.sleep(chance.uniform(0, 0.4))
            await running.kill()
    enough.set()
    await producing
    lifetime += 1
    async with run(file, fake.url, "--state", state, "--exit-when-idle", 2) as running:
        assert await running.end() == 0
    check(seen_in, written, lifetime, lineages=2)
    print(f"{len(fake.shards)} shards")
    for side in (0, 1):
        first = list(dict.fromkeys(int(data) for _, data in seen_in if int(data) % 2 == side))
        assert first == sorted(first), "a child was read before its parent's end"


@pytest.mark.timeout(300)
async def test_killed_again_and_again_on_an_emulator_it_loses_nothing(
    ministack: str, dynamodb: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    chance = random.Random(7)
    table = await make_table(dynamodb)
    written: list[str] = []
    seen_in: list[tuple[int, str]] = []
    lifetime, enough = 0, asyncio.Event()

    async def answer(call: RecordedCall) -> Any:
        seen_in.extend((lifetime, data) for data in call.data)
        await asyncio.sleep(0.002)
        return success(call)

    async def produce() -> None:
        while not enough.is_set():
            await table.put(str(len(written)), key=f"key {len(written) % 16}")
            written.append(str(len(written)))
            await asyncio.sleep(0.004)

    function.answer = answer
    file = write(tmp_path, mapping(table.arn, function.url, batchSize=BATCH))
    producing = asyncio.create_task(produce())
    for lifetime in range(KILLS):  # noqa: B007 - the closure above reads it
        calls = len(function.calls)
        async with run(file, ministack, "--state", state) as running:
            await function.until(lambda: len(function.calls) > calls)
            await asyncio.sleep(chance.uniform(0, 0.25))
            await running.kill()
    enough.set()
    await producing
    lifetime += 1
    async with run(file, ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    check(seen_in, written, lifetime, lineages=1)


def check(seen_in: list[tuple[int, str]], written: list[str], lives: int, lineages: int) -> None:
    """Nothing is lost, nothing comes twice within a life, and at most a batch a shard again after a kill."""
    times = Counter(data for _, data in seen_in)
    assert set(times) == set(written), "a record was lost"
    assert max(Counter(seen_in).values()) == 1, "a record was repeated without a kill"
    print(f"{len(written)} records, {KILLS} kills, {sum(times.values()) - len(times)} repeats")
    for life in range(1, lives + 1):
        earlier = {data for past, data in seen_in if past < life}
        again = [data for now, data in seen_in if now == life and data in earlier]
        assert len(again) <= lineages * BATCH, f"{len(again)} records again in lifetime {life}"
